"""Numbers of others that ours must reproduce, and second implementations from their words."""

import os
from pathlib import Path

import numpy as np
import pytest

from engram.core.randomness import stream
from engram.stats.intervals import mean_finding
from engram.stats.roc import auc, tpr_at_fpr

FOLDER = Path(os.environ.get("ENGRAM_DATA", "")) / "mlm_clinicalbert_losses"
needs_losses = pytest.mark.skipif(
    not (os.environ.get("ENGRAM_DATA") and FOLDER.is_dir()),
    reason="needs mlm_clinicalbert_losses in ENGRAM_DATA",
)


def losses(side, model):
    return np.loadtxt(FOLDER / f"loss_{side}_long_{model}.txt")


def scores(kind, side):
    """Minus the loss, or how much better the target does than the reference on that sentence."""
    target = losses(side, "clinicalbert")
    return -target if kind == "loss" else losses(side, "pubmed") - target


EXPECTED = [
    ("loss", "out", 0.6606, {0.01: 0.0122}),
    ("ratio", "out", 0.9280, {0.1: 0.8099, 0.01: 0.6045, 0.001: 0.3721}),
    ("loss", "i2b2", 0.8126, {0.01: 0.0626}),
    ("ratio", "i2b2", 0.9040, {0.01: 0.3122}),
]


@needs_losses
@pytest.mark.parametrize(("kind", "outsiders", "area", "rates"), EXPECTED)
def test_masked_language_model_losses(kind, outsiders, area, rates):
    members, others = scores(kind, "members"), scores(kind, outsiders)
    values = np.concatenate([members, others])
    is_member = np.arange(len(values)) < len(members)
    found = auc(values, is_member, stream(0))
    assert found.value == pytest.approx(area, abs=1e-4)
    assert found.low < area < found.high
    assert found.high - found.low < 0.04
    for fpr, expected in rates.items():
        rate = tpr_at_fpr(values, is_member, fpr)
        assert rate.value == pytest.approx(expected, abs=1e-4)
        assert rate.low < expected < rate.high


@needs_losses
def test_shuffling_target_and_reference_apart_is_another_number():
    # Pairing different sentences is how 0.90 was once published.
    rng = stream(0, "unpaired")
    values, sizes = [], []
    for side in ("members", "out"):
        reference = rng.permutation(losses(side, "pubmed"))
        values.append(reference - losses(side, "clinicalbert"))
        sizes.append(len(reference))
    is_member = np.arange(sum(sizes)) < sizes[0]
    assert auc(np.concatenate(values), is_member, rng).value < 0.92


def test_mean_interval_agrees_with_scipy_bca():
    from scipy.stats import bootstrap

    values = stream(0, "skewed").exponential(size=30) ** 2
    ours = mean_finding(values, "loss", "nats", stream(1), resamples=20_000)
    options = {"n_resamples": 20_000, "rng": stream(2)}
    theirs = bootstrap((values,), np.mean, method="BCa", **options).confidence_interval
    plain = bootstrap((values,), np.mean, method="percentile", **options).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=0.02)
    assert plain.high < 0.95 * ours.high  # so the agreement is not for want of a difference
