"""The monitor against slow second implementations, on a model that knows its records by heart."""

from dataclasses import replace

import numpy as np
import pytest

from engram.core import EngramError, Split
from engram.families.causal_lm import FAMILY
from engram.parts.greedy import continuations
from engram.parts.memorisation_monitor import MemorisationMonitor
from engram.parts.observation_line import findings_of, is_observation, observation_line
from engram.parts.passages import Passages
from engram.parts.token_examples import encode
from engram.parts.watch import Watch

WATCH = Watch(prefix=8, suffix=12)
PLENTY = 10**8


@pytest.fixture(scope="module")
def looked(by_heart, make_lm):
    """A monitor that was made beside the untrained model, and what it sees of both."""
    target, members, others = by_heart
    members = replace(members, canaries=None)
    untrained = make_lm(3)
    sides = [passages(untrained, side) for side in (members, others)]
    monitor = MemorisationMonitor.of(WATCH, untrained, *sides, members, 7, PLENTY)
    return monitor, monitor.look(untrained, 0, 0.0), monitor.look(target.model, 9, 3.0)


def passages(lm, split):
    return Passages.of_texts(encode(lm.tokenizer, split.texts), lm.context, WATCH.prefix)


def test_what_is_known_by_heart_is_written_out(looked, by_heart):
    monitor, before, after = looked
    target = by_heart[0]
    made = continuations(target.model.model, monitor.written.prompts(), [12] * 12)
    truths = [list(ids[8:20]) for ids in monitor.written.tokens]
    exact = np.mean([list(m) == t for m, t in zip(made, truths, strict=True)])
    assert before["verbatim"] == 0 < exact == after["verbatim"]
    slow = np.mean([
        np.mean([
            np.mean([list(m[i : i + n]) == t[i : i + n] for i in range(13 - n)]) for n in (4, 5, 6)
        ])
        for m, t in zip(made, truths, strict=True)
    ])  # fmt: skip
    assert after["ngram"] == pytest.approx(slow)
    assert after["ngram_set"] >= after["ngram"] > before["ngram"]
    assert after["verbatim_n"] == 12


def test_perplexities_are_the_family_s(looked, by_heart):
    target, *sides = by_heart
    for side, name in zip(sides, ("train", "validation"), strict=True):
        expected = FAMILY.quality(target.model, side, np.random.default_rng(0))[0]
        assert looked[2][f"{name}_perplexity"] == pytest.approx(expected.value, rel=1e-4)


def test_members_are_told_by_how_far_their_loss_fell(looked, by_heart, make_lm):
    target, members, others = by_heart
    drop = [
        FAMILY.losses(make_lm(3), side) - FAMILY.losses(target.model, side)
        for side in (members, others)
    ]
    pairs = np.subtract.outer(*drop)
    assert looked[2]["auc"] == pytest.approx(np.mean(pairs > 0))
    assert looked[1]["auc"] == 0.5


def test_the_same_weights_give_the_same_numbers(looked, by_heart):
    assert looked[0].look(by_heart[0].model, 9, 3.0) == looked[2]


def test_observations_are_findings_and_lines(looked):
    entry = {"epoch": 3.0, **looked[2]}
    assert is_observation(entry)
    assert not is_observation({"loss": 1.0})
    found = {finding.name: finding for finding in findings_of(entry)}
    assert found["auc"].value == entry["auc"]
    assert all(f.low <= f.value <= f.high for f in found.values())
    line = observation_line(entry)
    assert line.startswith("epoch 3: verbatim ")
    assert "(n=12)" in line


def test_canaries_that_were_learnt_are_exposed(make_lm):
    import torch

    texts = [f"the number of {who} is {d}." for who, d in (("Ida", "4 1 7 2"), ("Jon", "8 8 0 5"))]
    others = [f"a letter came for {who} in the {when} of that year" for who in ("her", "him", "us")
              for when in ("spring", "summer", "autumn", "winter")]  # fmt: skip
    split = Split.of("both", text=[*texts, *others], canary=[True] * 2 + [False] * 12)
    lm = make_lm(5)
    nothing = passages(lm, split).take([])
    monitor = MemorisationMonitor.of(WATCH, lm, passages(lm, split), nothing, split, 0, PLENTY)
    before = monitor.look(lm, 0, 0.0)
    assert "auc" not in before
    assert "validation_perplexity" not in before
    assert len(monitor.members) == 12  # canaries are not among the records
    optimiser = torch.optim.Adam(lm.model.parameters(), lr=5e-3)
    for _ in range(30):
        for ids in encode(lm.tokenizer, texts):
            optimiser.zero_grad()
            batch = torch.tensor([ids])
            lm.model(batch, labels=batch).loss.backward()
            optimiser.step()
    after = monitor.look(lm, 60, 1.0)
    assert after["exposure_n"] == 2
    assert before["exposure"] < 6 < after["exposure"] <= 4 * np.log2(10) + 1e-9


def test_short_texts_are_given_by_half_and_too_short_ones_refused(make_lm, split):
    lm = make_lm(1)
    short = Split.of("short", text=["a b", "c d", "e"])
    sides = passages(lm, short)
    with pytest.raises(EngramError, match="none of the 3 records"):
        MemorisationMonitor.of(Watch(), lm, sides, sides.take([]), short, 0, PLENTY)
    usual = passages(lm, split)
    monitor = MemorisationMonitor.of(Watch(), lm, usual, usual.take([]), split, 0, PLENTY)
    half = int(np.median(usual.lengths)) // 2
    assert set(monitor.written.cut.tolist()) == {min(32, half)}


def test_rules_that_need_validation_say_so(make_lm, split):
    lm = make_lm(1)
    sides = passages(lm, split)
    for rule in ("ngram", "perplexity"):
        with pytest.raises(EngramError, match="validation"):
            MemorisationMonitor.of(Watch(stop=rule), lm, sides, sides.take([]), split, 0, PLENTY)


def test_responses_are_continued_from_their_prompts(make_lm, split):
    lm = make_lm(1)
    ids = encode(lm.tokenizer, split.texts)
    starts = [min(len(each) - 1, 5 + row) for row, each in enumerate(ids)]
    sides = Passages.of_answers(ids, starts, lm.context)
    monitor = MemorisationMonitor.of(Watch(), lm, sides, sides.take([]), split, 0, PLENTY)
    for own, cut in zip(monitor.written.tokens, monitor.written.cut, strict=True):
        row = next(r for r, each in enumerate(ids) if each[: lm.context] == own.tolist())
        assert cut == starts[row]
        assert len(own) - cut >= 6
