"""`epsilon-many-runs`: counts by hand, the choice of the record, and what it refuses."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta

from engram.core import EngramError, Split, Target, stream
from engram.methods.measures.epsilon_many_runs import EpsilonManyRuns, threshold

TARGET = Target("victim", "classifier", None, "victim")


@dataclass(frozen=True)
class ToldRun:
    """Trains nothing: model k's loss on the record is the k-th of `losses`."""

    losses_of: dict = field(default_factory=dict)
    losses_told: tuple = ()
    trained: list = field(default_factory=list)
    scratch: Path = Path()
    seed: int = 0
    device: str = "cpu"

    def losses(self, target, split):
        if target is TARGET:
            return np.array([self.losses_of[i] for i in split.ids])
        return np.array([self.losses_told[int(target.fingerprint)]])

    def retrained(self, target, splits, name):
        self.trained.extend(splits)
        return [replace(target, fingerprint=str(k)) for k in range(len(splits))]

    def stream(self, *_):
        raise NotImplementedError

    tokens = logits = computed = fit = shadows = sampler = records = target = log = stream
    progress = stream


def sides(members=6, outsiders=5, **more):
    both = Split.of("d", text=[f"text {i}" for i in range(members + outsiders)], **more)
    return {
        "members": both.take(range(members), "members"),
        "outsiders": both.take(range(members, members + outsiders), "outsiders"),
    }


def measured(losses, runs=32, splits=None, **fields):
    splits = splits or sides()
    known = {i: k for k, i in enumerate(splits["members"].ids + splits["outsiders"].ids)}
    run = ToldRun(known, tuple(losses))
    (found,) = EpsilonManyRuns(runs=runs, delta=0.0, **fields)(TARGET, splits, run)
    return found, run


def test_no_mistake_by_hand():
    """12 trainings of each kind are judged: both rates are at most u, with 0.025 = (1 - u)^12."""
    found, _ = measured([1.0, 0.0] * 16)
    u = 1 - 0.025 ** (1 / 12)
    assert found.value == pytest.approx(np.log((1 - u) / u), abs=1e-9)
    assert found.value == found.low == found.high
    assert found.n == 24
    assert "0 of 12 trainings with it and 0 of 12 without it" in found.note
    assert "at 95 % confidence and delta 0" in found.note
    assert f"show {found.value:.2f} at most" in found.note


def test_mistakes_by_hand():
    """Two misses and one false alarm of 24 each, bounded by the upper quantiles of their betas."""
    losses = np.array([1.0, 0.0] * 32)
    losses[[21, 31]] = 1.0  # trained on it, and as surprised as a stranger
    losses[40] = 0.0  # the reverse
    found, _ = measured(losses, runs=64)
    fnr, fpr = beta.ppf(0.975, 3, 22), beta.ppf(0.975, 2, 23)
    most = max(np.log((1 - fpr) / fnr), np.log((1 - fnr) / fpr))
    assert found.value == pytest.approx(most, abs=1e-9)
    assert "2 of 24 trainings with it and 1 of 24 without it" in found.note


def test_the_first_trainings_choose_the_threshold_and_are_not_counted():
    losses = np.array([1.0, 0.0] * 16)
    losses[0], losses[1] = -5.0, 5.0  # one pilot of each kind on the wrong side
    found, _ = measured(losses)
    assert "0 of 12 trainings with it and 0 of 12 without it" in found.note


def test_losses_that_know_nothing_show_nothing():
    """Of 60 audits of models that never look at the record, hardly any shows anything."""
    shown = 0
    for seed in range(60):
        found, _ = measured(stream(seed, "nothing").normal(size=32))
        shown += found.value > 0
        assert found.value > 0 or "nothing can be shown" in found.note
    assert shown <= 5  # at most 5 %, and a standard error


def test_the_models_differ_in_nothing_but_the_record():
    splits = sides()
    found, run = measured([1.0, 0.0] * 16, splits=splits)
    one = splits["outsiders"].ids[-1]  # the outsider of largest loss
    assert one in found.note
    for number, split in enumerate(run.trained):
        assert (one in split.ids) == bool(number % 2)
        assert set(split.ids) - {one} == set(splits["members"].ids)


def test_a_member_can_be_named_and_is_then_left_out_half_of_the_time():
    splits = sides()
    one = splits["members"].ids[2]
    found, run = measured([1.0, 0.0] * 16, splits=splits, record=one)
    assert f"{one} (named)" in found.note
    assert [one in split.ids for split in run.trained] == [False, True] * 16
    with pytest.raises(EngramError, match="no record is called 'nobody'") as caught:
        measured([1.0, 0.0] * 16, record="nobody")
    assert caught.value.hint


def test_canaries_come_before_other_outsiders_and_copies_are_passed_over():
    splits = sides()
    marked = replace(splits["outsiders"], canaries=(True, True, False, False, False))
    found, _ = measured([1.0, 0.0] * 16, splits={**splits, "outsiders": marked})
    assert marked.ids[1] in found.note
    assert "the canary of largest loss" in found.note
    owned = sides(owners=[*"abcdef", *"ghiaa"])
    found, _ = measured([1.0, 0.0] * 16, splits=owned)
    assert owned["outsiders"].ids[2] in found.note
    none = sides(owners=["a"] * 11)
    found, _ = measured([1.0, 0.0] * 16, splits=none)
    assert found.value is None
    assert "no outsider stands alone" in found.note


def test_without_a_side_the_number_is_missing():
    for gone in ("members", "outsiders"):
        rest = {k: v for k, v in sides().items() if k != gone}
        (found,) = EpsilonManyRuns()(TARGET, rest, ToldRun())
        assert found.value is None
        assert gone in found.note


@pytest.mark.parametrize(
    ("inside", "outside", "cut"),
    [
        ([3.0, 4.0], [0.0, 1.0], 2.0),
        ([3.0, 10.0], [0.0, 4.0], 7.0),  # one mistake either way: the wider gap
        ([1.0, 1.0], [1.0, 1.0], 1.0),
    ],
)
def test_thresholds_by_hand(inside, outside, cut):
    assert threshold(np.array(inside), np.array(outside)) == cut


@pytest.mark.parametrize(
    ("fields", "fact"),
    [
        ({"runs": 9}, "runs is 9"),
        ({"runs": 6}, "runs is 6"),
        ({"delta": 1.0}, "delta is 1.0"),
        ({"confidence": 0.0}, "confidence is 0.0"),
    ],
)
def test_fields_that_cannot_work_are_refused(fields, fact):
    with pytest.raises(EngramError, match=fact):
        EpsilonManyRuns(**fields)
