"""Partial correlations against regression, hand-worked cases, and intervals that cover."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.core import EngramError
from engram.stats.partial import fisher_interval, partial_correlation, partial_rank_correlation


def by_formula(x, y, z):
    """From the three plain correlations, in the paper's words."""
    xy, xz, yz = (np.corrcoef(a, b)[0, 1] for a, b in ((x, y), (x, z), (y, z)))
    return (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))


@given(st.integers(0, 10**6), st.integers(6, 30))
def test_agrees_with_the_formula(seed, n):
    x, y, z = np.random.default_rng(seed).normal(size=(3, n))
    y = y + x - z
    np.testing.assert_allclose(partial_correlation(x, y, z), by_formula(x, y, z), atol=1e-9)


def test_what_goes_with_the_third_alone_is_taken_away():
    """x and y are both z and something of their own; the own parts are orthogonal."""
    z = np.repeat([-3.0, 3.0], 4)
    x = z + np.tile([1.0, 1.0, -1.0, -1.0], 2)
    y = z + np.tile([1.0, -1.0, 1.0, -1.0], 2)
    assert np.corrcoef(x, y)[0, 1] == pytest.approx(0.9)
    assert partial_correlation(x, y, z) == pytest.approx(0.0, abs=1e-12)
    assert partial_correlation(x, y + 2 * (x - z), z) == pytest.approx(2 / math.sqrt(5))


def test_nothing_left_is_not_a_number():
    z = np.arange(6.0)
    assert math.isnan(partial_correlation(2 * z + 1, z**2, z))
    found = partial_rank_correlation(z, z[::-1], z, "r")
    assert found.value is None
    assert "nothing is left" in found.note


def test_ranks_do_not_feel_the_scale():
    x, y, z = np.random.default_rng(0).normal(size=(3, 20))
    plain = partial_rank_correlation(x, y, z, "r")
    assert plain == partial_rank_correlation(np.exp(x), y**3, z, "r")
    assert plain.low < plain.value < plain.high


def test_interval_covers():
    rng, hits = np.random.default_rng(1), 0
    for _ in range(300):
        z = rng.normal(size=30)
        x, y = z + rng.normal(size=30), z + rng.normal(size=30)
        low, high = fisher_interval(partial_correlation(x, y, z), 30, given=1)
        hits += low <= 0 <= high
    assert 0.9 < hits / 300 < 0.99


def test_fisher_by_hand():
    # n = 28, nothing fixed: half width 1.96 / 5 in z; at 0 the interval is +- tanh(0.392).
    low, high = fisher_interval(0.0, 28)
    assert high == pytest.approx(math.tanh(1.959964 / 5))
    assert low == -high


def test_refuses_what_cannot_be_said():
    with pytest.raises(EngramError, match="has no interval"):
        fisher_interval(0.2, 4, given=1)
    with pytest.raises(EngramError, match="given"):
        partial_rank_correlation(np.arange(6.0), np.arange(6.0), np.full(6, np.nan), "r")
    few = np.arange(4.0)
    assert "five rows" in partial_rank_correlation(few, few, few, "r").note
