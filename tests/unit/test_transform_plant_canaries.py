"""Planted secrets: how many, whose, and that nothing else changes."""

from collections import Counter

import pyarrow as pa
import pytest

from engram.core import EngramError, Split, stream
from engram.methods.transforms.plant_canaries import PlantCanaries
from engram.parts.partition import choose


def test_counts_by_hand(split, run):
    made = PlantCanaries(count=6, repeats=(1, 4, 16))(split, run)
    planted = made.where(made.canaries)
    assert len(planted) == 2 * (1 + 4 + 16)
    assert sorted(Counter(planted.texts).values()) == [1, 1, 4, 4, 16, 16]
    owner_of = dict(zip(planted.texts, planted.owners, strict=True))
    assert Counter(planted.owners) == {owner_of[t]: n for t, n in Counter(planted.texts).items()}
    assert len(set(planted.owners)) == 6
    assert not set(planted.owners) & set(split.owners)


def test_the_records_stay_as_they_were(split, run):
    made = PlantCanaries(count=3)(split, run)
    rest = made.select(split.ids)
    assert rest.digests == split.digests
    assert rest.owners == split.owners
    assert not any(rest.canaries)
    assert made.ids[: len(split)] != split.ids  # shuffled


def test_ids_hold_for_the_same_canary(split, run):
    one = PlantCanaries(count=3)(split, run)
    two = PlantCanaries(count=3)(split.take([0, 1]), run)
    three = PlantCanaries(count=3, repeats=(2,))(split, run)
    planted = [set(s.where(s.canaries).ids) for s in (one, two, three)]
    assert planted[0] == planted[1]
    assert {i for i in planted[2] if "~" not in i} <= planted[0]


def test_the_sentence_and_its_digits(run):
    texts = PlantCanaries(count=40, digits=5).texts(stream(0))
    assert len(set(texts)) == 40
    for text in texts:
        words = text.rstrip(".").split()
        assert all(len(word) == 1 for word in words[-5:])
        assert all(word.isdigit() for word in words[-5:])
    joined = PlantCanaries(count=5, format="{digits}!", spaced=False, digits=3).texts(stream(0))
    assert all(len(text) == 4 for text in joined)
    assert len(set(joined)) == 5


def test_a_hold_out_keeps_copies_together_and_holds_out_half(split, run):
    made = PlantCanaries(count=24)(split, run)
    members = choose(made, 0.5, stream(0))
    side = {}
    for row, canary in enumerate(made.canaries):
        if canary:
            assert side.setdefault(made.owners[row], members[row]) == members[row]
    assert sum(side.values()) == 12


def test_records_without_owners_become_their_own(run):
    plain = Split.of("plain", text=["a", "b"], label=[1, 0])
    made = PlantCanaries(count=2, repeats=(1,))(plain, run)
    rest = made.select(plain.ids)
    assert rest.owners == plain.ids
    assert rest.digests == plain.digests
    assert made.where(made.canaries).column("label").null_count == 2


def test_columns_that_may_not_be_null_take_canaries_too(run):
    schema = pa.schema([pa.field("text", pa.string(), nullable=False),
                        pa.field("n", pa.int64(), nullable=False)])  # fmt: skip
    plain = Split.from_table("plain", pa.table({"text": ["a"], "n": [1]}, schema=schema))
    assert len(PlantCanaries(count=1, repeats=(1,))(plain, run)) == 2


def test_mistakes(split, arrays, run):
    plant = PlantCanaries(count=2)
    once = plant(split, run)
    with pytest.raises(EngramError, match="already holds the canary"):
        plant(once, run)
    with pytest.raises(EngramError, match="has no column 'text'"):
        PlantCanaries()(arrays, run)
    with pytest.raises(EngramError, match="hard to guess"):
        PlantCanaries(count=60, digits=2)
    with pytest.raises(EngramError, match="repeats is"):
        PlantCanaries(repeats=())
    with pytest.raises(EngramError, match="count is 0"):
        PlantCanaries(count=0)


@pytest.mark.parametrize(
    "sentence",
    ["no slot", "{digits} {digits}", "{digits.__class__}", "{digits!r}", "{digits:>9}", "{0}",
     "{digits} {other}", "{digits", "{name}"],
)  # fmt: skip
def test_sentences_that_are_none(sentence):
    with pytest.raises(EngramError, match="format is"):
        PlantCanaries(format=sentence)
