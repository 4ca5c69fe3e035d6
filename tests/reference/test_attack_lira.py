"""LiRA against a slow second implementation, hand-worked cases and published values."""

import math
from statistics import NormalDist, mean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.core import EngramError
from engram.methods.attacks.lira import Lira, gaussian
from engram.parts.shadow_scores import logit_confidence, logit_of_loss

SAW = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]], bool)
OTHERS = np.array([[1.0, 2.0, 0.5], [3.0, 1.0, 0.0], [2.0, 4.0, 1.0], [5.0, 3.0, -0.5]])


def test_statistic_has_the_published_values():
    logits = np.array([[1.0, 2.0, -3.0], [-1.0, 1.0, 0.0]])
    found = logit_confidence(logits, np.array([1, 2]))
    np.testing.assert_allclose(found, [0.98185009, -1.12692802], atol=1e-8)


@given(
    st.lists(st.floats(-12, 12), min_size=2, max_size=6).map(np.array),
    st.integers(0, 5),
)
def test_statistic_of_a_loss_is_that_of_its_logits(logits, label):
    label %= len(logits)
    loss = math.log(sum(math.exp(x) for x in logits)) - logits[label]
    found = logit_of_loss(np.array([loss]))
    expected = logit_confidence(logits[None], np.array([label]))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_certain_answer_has_a_finite_statistic():
    assert np.isfinite(logit_of_loss(np.array([0.0, 1e-300, 800.0]))).all()


def slow_gaussians(values, saw, wanted, spread):
    """Means and deviations by the textbook, one record and one shadow at a time."""
    columns = [
        [row[i] for row, seen in zip(values, saw, strict=True) if seen[i] == wanted]
        for i in range(values.shape[1])
    ]
    means = [mean(c) for c in columns]
    squares = [sum((v - m) ** 2 for v in c) for c, m in zip(columns, means, strict=True)]
    if spread == "shared":
        pooled = math.sqrt(sum(squares) / sum(len(c) - 1 for c in columns))
        return [NormalDist(m, pooled) for m in means]
    return [
        NormalDist(m, math.sqrt(s / (len(c) - 1)))
        for m, s, c in zip(means, squares, columns, strict=True)
    ]


@pytest.mark.parametrize("spread", ["record", "shared"])
def test_online_is_the_log_ratio_of_two_normal_densities(spread):
    own = np.array([2.5, 1.5, 0.25])
    inside = slow_gaussians(OTHERS, SAW, True, spread)
    outside = slow_gaussians(OTHERS, SAW, False, spread)
    expected = [
        math.log(a.pdf(x)) - math.log(b.pdf(x))
        for x, a, b in zip(own, inside, outside, strict=True)
    ]
    found = Lira(spread=spread).score(own, OTHERS, SAW)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("spread", ["record", "shared"])
def test_offline_rises_with_the_papers_probability(spread):
    own = np.array([2.5, 1.5, 0.25])
    outside = slow_gaussians(OTHERS, SAW, False, spread)
    paper = [d.cdf(x) for x, d in zip(own, outside, strict=True)]
    found = Lira(spread=spread, mode="offline").score(own, OTHERS, SAW)
    np.testing.assert_allclose([NormalDist().cdf(z) for z in found], paper, rtol=1e-9)


def test_hand_worked():
    # In: 1 and 3, so N(2, sqrt 2); out: -1 and 1, so N(0, sqrt 2). At 2 the log ratio is 4/4 = 1.
    others, saw = np.array([[1.0], [-1.0], [3.0], [1.0]]), np.array([[1], [0], [1], [0]], bool)
    for spread in ("record", "shared"):
        found = Lira(spread=spread).score(np.array([2.0]), others, saw)
        np.testing.assert_allclose(found, [1.0])
    offline = Lira(mode="offline").score(np.array([2.0]), others, saw)
    np.testing.assert_allclose(offline, [math.sqrt(2)])


def test_no_spread_at_all_still_gives_numbers():
    others, saw = np.ones((4, 2)), np.array([[1, 0], [0, 1], [1, 0], [0, 1]], bool)
    for mode in ("online", "offline"):
        assert np.isfinite(Lira(mode=mode).score(np.array([1.0, 1.0]), others, saw)).all()


def test_each_side_is_told_from_its_own_shadows():
    means, _ = gaussian(OTHERS, SAW, "shared")
    np.testing.assert_allclose(means, [1.5, 2.5, 0.0])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"shadows": 2}, "shadows is 2"),
        ({"shadows": 5}, "must be even"),
        ({"shadows": 4, "spread": "record"}, "at least 8"),
    ],
)
def test_refuses(fields, said):
    with pytest.raises(EngramError, match=said):
        Lira(**fields)
