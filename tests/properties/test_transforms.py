"""Laws of the transforms and of reading, on random records."""

import csv
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engram.core import Split, stream
from engram.data import read, write
from engram.methods.transforms.deduplicate import Deduplicate
from engram.methods.transforms.partition import Partition
from engram.methods.transforms.plant_canaries import PlantCanaries
from engram.parts.partition import choose, groups

FEW = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORDS = st.sampled_from(list("abcdefg"))
TEXTS = st.lists(WORDS, max_size=12).map(" ".join)
ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=30)


def splits(texts=TEXTS, least=2):
    """Texts with owners from 0 to 5, and whether the owners are known."""
    rows = st.lists(st.tuples(texts, st.integers(0, 5)), min_size=least, max_size=40)
    return st.tuples(rows, st.booleans())


def split_of(drawn):
    rows, known = drawn
    owners = [f"o{o}" for _, o in rows] if known else None
    return Split.of("random", text=[t for t, _ in rows], owners=owners)


@FEW
@given(splits(), st.floats(0.05, 0.95), st.integers(0, 50), st.sampled_from(["owner", "record"]))
def test_a_cut_never_parts_a_group_and_is_near_its_share(drawn, share, seed, by):
    split = split_of(drawn)
    group = groups(split, by)
    sizes = np.bincount(group)
    if np.count_nonzero(sizes) < 2:
        return
    members = choose(split, share, stream(seed), by)
    for g in np.unique(group):
        assert len(set(members[group == g].tolist())) == 1
    assert 0 < members.sum() < len(split)
    assert abs(members.sum() - share * len(split)) <= sizes.max() + 1e-9


@FEW
@given(splits(), st.integers(0, 50), st.randoms(use_true_random=False))
def test_a_cut_does_not_depend_on_the_order(drawn, seed, random):
    split = split_of(drawn)
    if len(set(groups(split).tolist())) < 2:
        return
    order = list(range(len(split)))
    random.shuffle(order)
    there = dict(zip(split.ids, choose(split, 0.5, stream(seed)).tolist(), strict=True))
    mixed = split.take(order)
    assert [there[i] for i in mixed.ids] == choose(mixed, 0.5, stream(seed)).tolist()


@FEW
@given(splits(), st.floats(0.1, 0.9))
def test_two_parts_are_the_whole(run, drawn, share):
    split = split_of(drawn)
    if len(set(groups(split).tolist())) < 2:
        return
    parts = [Partition(p, share)(split, run) for p in ("members", "outsiders")]
    assert sorted(parts[0].ids + parts[1].ids) == sorted(split.ids)
    assert not set(parts[0].texts) & set(parts[1].texts)


@FEW
@given(splits(least=1), st.sampled_from(["exact", "near"]), st.sampled_from([0.3, 0.5, 0.8]))
def test_deduplicating_twice_changes_nothing(run, drawn, level, threshold):
    split = split_of(drawn)
    method = Deduplicate(level, threshold, shingle=2)
    once = method(split, run)
    assert 1 <= len(once) <= len(split)
    assert once.ids[0] == split.ids[0]
    assert method(once, run).ids == once.ids


@FEW
@given(splits(least=1), st.integers(1, 9), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_planting_adds_exactly_what_it_says(run, drawn, count, repeats):
    split = split_of(drawn)
    made = PlantCanaries(count, tuple(repeats))(split, run)
    planted = [repeats[k % len(repeats)] for k in range(count)]
    assert len(made) == len(split) + sum(planted)
    assert sum(made.canaries) == sum(planted)
    back = made.select(split.ids)
    assert back.digests == split.digests
    assert back.owners == (split.owners or split.ids)


@FEW
@given(splits(texts=ANY_TEXT, least=1), st.sampled_from(["a.jsonl", "a.csv", "a.tsv.gz",
       "a.parquet"]))  # fmt: skip
def test_what_is_written_is_read_back(drawn, name):
    split = split_of(drawn)
    with tempfile.TemporaryDirectory() as folder:
        again = read(write(split, Path(folder, name)))
    assert again.fingerprint == split.fingerprint
    assert again.texts == split.texts


@FEW
@given(st.lists(st.lists(ANY_TEXT.filter(lambda t: "\0" not in t), min_size=2, max_size=2),
       min_size=1, max_size=8))  # fmt: skip
def test_csv_agrees_with_the_standard_library(rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        with path.open("w", newline="", encoding="utf-8") as stream_:
            csv.writer(stream_).writerows([["text", "note"], *rows])
        with path.open(newline="", encoding="utf-8") as stream_:
            expected = list(csv.reader(stream_))[1:]
        split = read(path)
    assert [list(r) for r in zip(split.texts, split.column("note").to_pylist(), strict=True)] == (
        expected
    )
