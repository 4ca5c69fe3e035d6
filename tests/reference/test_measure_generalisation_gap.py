"""`generalisation-gap` against worked losses, and the coverage of its interval."""

import numpy as np
import pytest

from engram.core import EngramError, Split, stream
from engram.methods.measures.generalisation_gap import GeneralisationGap


def with_losses(run, **losses):
    class Fixed(type(run)):
        def losses(self, target, split):
            return np.asarray(losses[split.name], np.float64)

    return Fixed(run.scratch)


def records(name, n):
    return Split.of(name, text=[f"{name} {i}" for i in range(n)])


def test_is_the_difference_of_mean_losses(target, run):
    fixed = with_losses(run, members=[1.0, 2.0, 3.0], outsiders=[4.0, 6.0])
    sides = {"members": records("members", 3), "outsiders": records("outsiders", 2)}
    (found,) = GeneralisationGap()(target, sides, fixed)
    assert found.value == pytest.approx(3.0)
    assert found.n == 5
    # Resampled means lie within [1, 3] and [4, 6].
    assert 1.0 <= found.low < 3.0 < found.high <= 5.0


def test_works_for_classifiers(classifier, arrays, run):
    sides = {"members": arrays.take(range(6)), "outsiders": arrays.take(range(6, 12))}
    (found,) = GeneralisationGap()(classifier, sides, run)
    first, second = (run.losses(classifier, side).mean() for side in sides.values())
    assert found.value == pytest.approx(second - first)


def test_interval_covers_the_true_gap():
    rng = stream(0, "coverage")
    measure, hits = GeneralisationGap(resamples=200), 0
    for _ in range(200):
        low, high = measure.interval(rng.normal(0, 1, 60), rng.normal(0.5, 2, 60), rng)
        hits += low <= 0.5 <= high
    assert 0.89 <= hits / 200 <= 0.99  # 95 % nominal, 200 trials


def test_records_of_one_owner_stand_or_fall_together(target, run):
    # Eight records of each of twelve owners with one loss an owner: there are only twelve draws.
    rng = stream(1, "owners")
    losses = {name: rng.normal(size=12).repeat(8) for name in ("members", "outsiders")}
    people = np.repeat([f"p{k}" for k in range(12)], 8).tolist()
    alone = {name: records(name, 96) for name in losses}
    owned = {name: Split.of(name, text=split.texts, owners=people) for name, split in alone.items()}
    fixed = with_losses(run, **losses)
    (narrow,), (wide,) = (GeneralisationGap()(target, sides, fixed) for sides in (alone, owned))
    assert wide.value == narrow.value
    assert 2 < (wide.high - wide.low) / (narrow.high - narrow.low) < 4  # sqrt(8) = 2.8
    assert (narrow.note, wide.note) == ("", "interval by owner")


@pytest.mark.parametrize("sides", [{}, {"members": 1, "outsiders": 5}, {"members": 5}])
def test_says_what_is_missing(target, run, sides):
    splits = {name: records(name, n) for name, n in sides.items()}
    (found,) = GeneralisationGap()(target, splits, run)
    assert found.value is None
    assert "needs at least 2" in found.note


def test_refuses_too_few_resamples():
    with pytest.raises(EngramError, match="resamples is 10"):
        GeneralisationGap(resamples=10)
