"""The chassis of the unlearners: stop rules, prompts and padding, divergence and the way back."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from engram.core import EngramError, Split
from engram.families import causal_lm
from engram.methods.edits.gradient_ascent import GradientAscent
from engram.methods.edits.npo import Npo
from engram.parts.training import DivergedError
from engram.parts.unlearning import (
    Unlearning,
    losses,
    paired,
    record_parts,
    smallest_scale,
)

LM = causal_lm.FAMILY


@dataclass(frozen=True)
class Plain:
    """The fields that the chassis reads."""

    steps: int = 6
    learning_rate: float = 1e-3
    forget_batch: int = 2
    keep_batch: int = 3
    stop_at: float | None = None


@pytest.fixture
def sides(by_heart):
    target, members, _ = by_heart
    target = replace(target, fingerprint=LM.fingerprint(target.model))
    return target, members.take(range(4, 12), "keep"), members.take(range(4), "forget")


def begun(sides, run, **fields):
    target, keep, forget = sides
    return Unlearning.begin(Plain(**fields), "plain", target, keep, forget, run, LM)


def test_a_record_at_the_stop_has_no_say(sides, run):
    work = begun(sides, run)
    nll = losses(work.forget, np.arange(4))
    stop = float(np.sort(nll)[1:3].mean())  # two are below it, two above
    parts = list(record_parts(work.forget, np.arange(4), lambda r, s: s.nll, 2.0, stop))
    assert float(sum(parts).detach()) == pytest.approx(2 * nll[nll < stop].sum() / 4, rel=1e-5)
    whole = list(record_parts(work.forget, np.arange(4), lambda r, s: s.nll, 1.0))
    assert float(sum(whole).detach()) == pytest.approx(nll.mean(), rel=1e-5)


def test_ascent_ends_where_everything_is_forgotten(sides, run):
    target, keep, forget = sides
    edit = GradientAscent(stop_at=0.5, learning_rate=1e-3, steps=60)
    draft = edit(target, keep, forget, run)
    assert len(draft.trace) < 60
    assert losses(LM.examples(draft.model, forget), np.arange(4)).mean() > 0.45


def test_without_a_stop_it_is_a_blind_guess(sides, run):
    work = begun(sides, run)
    vocabulary = work.model.model.config.vocab_size
    assert work.stop == pytest.approx(math.log(vocabulary))
    assert begun(sides, run, stop_at=2.0).stop == 2.0


def test_prompts_are_never_in_the_loss(sides, run):
    """The loss of what is forgotten is the responses', and has no gradient from the prompts."""
    target, keep, forget = sides
    cut = [text.index("seen") for text in forget.texts]
    split = Split.of(
        "forget",
        prompt=[t[:i] for t, i in zip(forget.texts, cut, strict=True)],
        response=[t[i:] for t, i in zip(forget.texts, cut, strict=True)],
        text=list(forget.texts),
    )
    work = Unlearning.begin(Plain(), "plain", target, keep, split, run, LM)
    assert (work.forget.counts < LM.examples(target.model, forget).counts).all()
    said = work.forget.predictions(np.array([0]))
    words = target.model.tokenizer.decode(said.labels)
    assert words.strip().startswith("seen")
    assert "was" not in words.split()


def test_a_model_that_is_ruined_is_given_up_with_advice(sides, run):
    target, keep, forget = sides
    edit = GradientAscent(stop_at=1000.0, learning_rate=0.5, steps=20)
    with pytest.raises(DivergedError, match="diverged") as caught:
        edit(target, keep, forget, run)
    assert "no better than a blind guess" in str(caught.value)
    assert "the target is as it was" in str(caught.value)
    assert "--learning-rate" in caught.value.hint
    assert LM.fingerprint(target.model) == target.fingerprint


def test_a_loss_that_is_no_number_is_given_up_too(sides, run):
    work = begun(sides, run, steps=4)
    with pytest.raises(DivergedError, match="had not forgotten") as caught:
        work.descend(lambda rows, said: said.nll * math.nan)
    assert "--learning-rate" in caught.value.hint


def test_the_last_sound_weights_come_back_if_they_had_forgotten(sides, run):
    """Forgotten after a few steps, then ruined: what is handed back is from before the ruin."""
    work = begun(sides, run, steps=40, learning_rate=3e-3, stop_at=0.5)
    steps = []

    def forgetting(rows, said):
        steps.append(len(steps))
        # From the 13th step on it is worth more to be ruined than anything else.
        return -said.nll if len(steps) <= 12 else -said.logits.square().mean() * said.nll

    def ruin(rows, said):
        return -100 * said.nll if len(steps) > 12 else said.nll

    draft = work.descend(forgetting, keeping=ruin, keep_weight=1.0, gated=False)
    assert 4 <= len(draft.trace) < 40
    keep, forget = sides[1:]
    assert LM.losses(draft.model, keep).mean() < math.log(400)
    assert LM.losses(draft.model, forget).mean() > 0.45


def test_pairs_are_of_the_same_record(lms):
    from engram.parts.response_examples import ResponseExamples

    lm = lms[0]
    one = Split.of("a", prompt=["p ", "q ", "r "], response=["x", "", "z" * 40])
    other = Split.of("b", prompt=["p ", "q ", "r "], response=["no", "no", "no"])
    made = [
        ResponseExamples.of(lm.model, lm.tokenizer, split, 12, end=False) for split in (one, other)
    ]
    left, right = paired(*made)
    assert left.record.tolist() == right.record.tolist() == [0, 2]
    with pytest.raises(EngramError, match="fits into"):
        paired(made[0].take(np.array([], int)), made[1])


def test_the_smallest_scale_that_reaches_the_stop():
    assert smallest_scale(lambda s: s**2, 10.0, 4.0, 20) == pytest.approx(2, abs=1e-4)
    assert smallest_scale(lambda s: s, 3.0, 4.0) == 3.0
    assert smallest_scale(lambda s: math.nan, 3.0, 4.0) == 3.0


def test_a_batch_in_parts_is_the_batch_whole(sides, run, monkeypatch):
    work = begun(sides, run)
    whole = list(record_parts(work.forget, np.arange(4), lambda r, s: -s.nll, 1.0))
    monkeypatch.setattr("engram.parts.token_examples.LOGITS", 1)
    parts = list(record_parts(work.forget, np.arange(4), lambda r, s: -s.nll, 1.0))
    assert (len(whole), len(parts)) == (1, 4)
    torch.testing.assert_close(sum(parts), whole[0])


@pytest.mark.parametrize(
    "fields",
    [{"steps": 0}, {"learning_rate": 0.0}, {"forget_batch": 0}, {"keep_batch": 0},
     {"keep_weight": -1.0}, {"stop_at": 0.0}, {"stop_at": math.inf}, {"beta": 0.0}],
)  # fmt: skip
def test_bad_fields_are_refused(fields):
    with pytest.raises(EngramError, match=next(iter(fields))) as caught:
        Npo(**fields)
    assert caught.value.hint
