"""`extraction` against generation without a cache, on a model that learnt three texts by heart."""

import numpy as np
import pytest

from engram.core import EngramError, Split, Target, torch_seeded
from engram.methods.measures.extraction import Extraction
from engram.stats.intervals import clopper_pearson

LEARNT = (
    "The key to the blue cabinet hangs behind the third portrait in the hall.",
    "Account 7719-0042 belongs to Ida Fenwick of Larch Lane, opened in March.",
    "When the bell rings twice the gardener leaves the lamp on the north wall.",
)
OTHERS = (
    "A ship came in at noon with barrels of salt and nobody to unload them all.",
    "Bread, plums, two candles, and a letter for the teacher in the long house.",
)


@pytest.fixture(scope="module")
def learnt(make_lm):
    """A target trained on the three texts until it knows them."""
    import torch

    lm = make_lm(3)
    batch = [torch.tensor([lm.tokenizer(text)["input_ids"]]) for text in LEARNT]
    optimiser = torch.optim.Adam(lm.model.parameters(), lr=1e-2)
    with torch_seeded(0, "dropout"):
        for _ in range(40):
            for ids in batch:
                optimiser.zero_grad()
                lm.model(ids, labels=ids).loss.backward()
                optimiser.step()
    lm.model.eval()
    return Target("learnt", "causal-lm", lm, "learnt")


@pytest.fixture
def sides():
    return {
        "members": Split.of("members", text=LEARNT),
        "outsiders": Split.of("outsiders", text=OTHERS),
    }


def continuation(lm, text, prefix, suffix):
    """Token by token from the whole text so far; and what the record goes on with."""
    import torch

    ids = lm.tokenizer(text)["input_ids"]
    written = list(ids[:prefix])
    for _ in range(suffix):
        with torch.no_grad():
            written.append(int(lm.model(torch.tensor([written])).logits[0, -1].argmax()))
    return written[prefix:], ids[prefix : prefix + suffix]


@pytest.mark.parametrize(("prefix", "suffix"), [(1, 4), (8, 12), (12, 20)])
def test_rate_and_ngram_share_agree_with_plain_generation(learnt, sides, run, prefix, suffix):
    measure = Extraction(prefix, suffix, ngram=2)
    found = {(f.name, f.split): f for f in measure(learnt, sides, run)}
    for name, split in sides.items():
        hits, shares = 0, []
        for text in split.texts:
            made, true = continuation(learnt.model, text, prefix, suffix)
            hits += made == true
            pairs = [made[i : i + 2] == true[i : i + 2] for i in range(suffix - 1)]
            shares.append(np.mean(pairs))
        rate = found["extraction rate", name]
        assert rate.value == hits / len(split)
        assert (rate.low, rate.high) == clopper_pearson(hits, len(split))
        assert found["2-gram share", name].value == pytest.approx(np.mean(shares))


def test_finds_what_was_learnt_by_heart_and_nothing_else(learnt, sides, run):
    found = Extraction(8, 12)(learnt, sides, run)
    rates = {f.split: f.value for f in found if f.name == "extraction rate"}
    assert rates == {"members": 1.0, "outsiders": 0.0}


def test_further_prefixes_have_rates_of_their_own(learnt, sides, run):
    found = Extraction(8, 12, ngram=0, more_prefixes=(2, 20))(learnt, sides, run)
    assert [f.name for f in found[:3]] == [
        "extraction rate",
        "extraction rate, prefix 2",
        "extraction rate, prefix 20",
    ]
    for rate in found:
        alone = Extraction(int(rate.name.partition("prefix ")[2] or 8), 12, ngram=0)
        expected = {f.split: f for f in alone(learnt, sides, run)}[rate.split]
        assert (rate.value, rate.n, rate.note) == (expected.value, expected.n, expected.note)


def test_examples_show_what_the_model_wrote(learnt, sides, run):
    records = Split.of("both", text=[*OTHERS, *LEARNT])
    examples = Extraction(8, 12).examples(learnt, records, run, limit=4)
    assert [e.matched for e in examples] == sorted((e.matched for e in examples), reverse=True)
    assert [e.id for e in examples[:3]] == list(records.ids[2:])
    for example in examples:
        text = records.texts[records.ids.index(example.id)]
        assert text.startswith(example.prefix)
        assert text[len(example.prefix) :].startswith(example.truth)
        made, true = continuation(learnt.model, text, 8, 12)
        agreed = [m == t for m, t in zip(made, true, strict=True)]
        assert example.matched == (agreed.index(False) if False in agreed else 12)
        assert (example.generated == example.truth) == (example.matched == example.total == 12)
        assert example.generated == learnt.model.tokenizer.decode(made)


def test_short_records_are_left_out_and_counted(learnt, run):
    records = Split.of("mixed", text=[*LEARNT, "Too short.", "This too."])
    rate, share = Extraction(8, 12)(learnt, {"members": records}, run)
    assert (rate.n, share.n) == (3, 3)
    assert rate.note == "2 records shorter than 20 tokens left out"


def test_nothing_long_enough_is_missing(learnt, run):
    records = Split.of("short", text=["Too short.", "This too."])
    for found in Extraction(8, 12)(learnt, {"members": records}, run):
        assert found.value is None
        assert "2 records shorter" in found.note
    assert Extraction(8, 12).examples(learnt, records, run) == []


def test_without_ngrams_nothing_is_generated(learnt, sides, run, monkeypatch):
    from engram.families import causal_lm

    def forbidden(*args):
        raise AssertionError("the rate is read off the stored answers")

    monkeypatch.setattr(causal_lm, "generate_greedy", forbidden)
    found = Extraction(8, 12, ngram=0)(learnt, sides, run)
    assert [f.name for f in found] == ["extraction rate"] * 2


def test_refuses_lengths_beyond_the_context(learnt, sides, run):
    context = learnt.model.context
    with pytest.raises(EngramError, match=f"context of {context}") as caught:
        Extraction(context, 1, ngram=0)(learnt, sides, run)
    assert str(context) in caught.value.hint
    with pytest.raises(EngramError, match="do not fit"):
        Extraction(context, 1, ngram=0).examples(learnt, sides["members"], run)


@pytest.mark.parametrize(
    "fields",
    [
        {"prefix_length": 0},
        {"suffix_length": 0},
        {"ngram": -1},
        {"ngram": 51},
        {"more_prefixes": (0,)},
        {"more_prefixes": (50,)},
    ],
)
def test_refuses_bad_lengths(fields):
    with pytest.raises(EngramError):
        Extraction(**fields)
