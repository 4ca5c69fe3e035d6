"""Noise, lots, mosaics and budgets: their scales, chances and sums, and what they refuse."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.core import EngramError, stream
from engram.parts.private_data import (
    Account,
    centroid_scales,
    clipped,
    dp_pix,
    kept_chance,
    local_laplace,
    microaggregated_laplace,
    randomised_response,
)

BOUNDS = np.array([[0.0, -1.0], [4.0, 1.0]])


def test_noise_has_the_scale_of_all_attributes():
    """Two attributes share epsilon = 1, so each has scale 2 range: mean |noise| = scale."""
    values = np.zeros((40_000, 2))
    noise = local_laplace(values, BOUNDS, np.full(2, 0.5), stream(0, "noise"))
    np.testing.assert_allclose(np.abs(noise).mean(0), [8.0, 4.0], rtol=0.03)
    np.testing.assert_allclose((noise**2).mean(0), [128.0, 32.0], rtol=0.06)


def test_one_changed_record_is_within_epsilon():
    """The density at any place, under the two extremes of a value, differs by e^epsilon_j."""
    epsilon = 0.7
    scale = (BOUNDS[1, 0] - BOUNDS[0, 0]) / epsilon
    places = np.linspace(-20, 20, 401)
    at_low, at_high = (-np.abs(places - x) / scale for x in BOUNDS[:, 0])
    assert np.abs(at_low - at_high).max() == pytest.approx(epsilon)


def test_scales_of_means():
    """One mean of 10 needs a tenth of the noise; a table of 7 of them seven tenths."""
    alone = centroid_scales(BOUNDS, np.full(2, 0.5), 10, 1)
    np.testing.assert_allclose(alone, [0.8, 0.4])
    np.testing.assert_allclose(centroid_scales(BOUNDS, np.full(2, 0.5), 10, 7), 7 * alone)


def test_all_means_together_move_less_than_the_scale_allows():
    """The L1 distance between the means of neighbouring tables, in units of the scale."""
    rng, k, width = stream(0, "tables"), 3, np.array([4.0, 2.0])
    for _ in range(50):
        values = rng.uniform(BOUNDS[0], BOUNDS[1], (14, 2))
        other = values.copy()
        other[rng.integers(14)] = rng.choice(BOUNDS, 1)[0]
        tables = [means(v, k) for v in (values, other)]
        moved = np.abs(tables[0] - tables[1]).sum(0)
        assert (moved <= len(tables[0]) * width / k + 1e-12).all()


def means(values, k):
    """The means of insensitive groups, in their order, without noise."""
    quiet = np.full(2, 1e12)
    found, group = microaggregated_laplace(values, BOUNDS, quiet, k, stream(0), whole_table=True)
    return np.stack([found[group == g][0] for g in range(group.max() + 1)])


def test_everybody_in_a_group_gets_the_same_noise():
    values = stream(0, "v").uniform(BOUNDS[0], BOUNDS[1], (20, 2))
    found, group = microaggregated_laplace(
        values, BOUNDS, np.ones(2), 5, stream(1), whole_table=False
    )
    assert len(np.unique(found, axis=0)) == group.max() + 1 == 4


def test_lots_have_the_chances_they_should():
    """m = 4 at epsilon = ln 3: the truth half of the time, each other a sixth."""
    codes = np.full(60_000, 2)
    said = np.bincount(randomised_response(codes, 4, math.log(3), stream(0)), minlength=4)
    np.testing.assert_allclose(said / 60_000, [1 / 6, 1 / 6, 1 / 2, 1 / 6], atol=0.01)
    assert kept_chance(math.log(3), 4) == pytest.approx(0.5)
    assert randomised_response(np.zeros(3, int), 1, 1.0, stream(0)).tolist() == [0, 0, 0]


@given(st.integers(2, 50), st.floats(0.01, 20))
def test_lots_are_within_epsilon(m, epsilon):
    true = kept_chance(epsilon, m)
    lie = (1 - true) / (m - 1)
    assert 0 < lie <= true < 1 + 1e-12
    assert true == pytest.approx(math.exp(epsilon) * lie, rel=1e-6)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.01, 5)), max_size=12))
def test_budgets_add_up(spent):
    account = Account()
    for attribute, epsilon in spent:
        account = account.spent(attribute, epsilon)
    assert account.by_record == pytest.approx(sum(e for _, e in spent))
    for name, total in account.by_attribute.items():
        assert total == pytest.approx(sum(e for a, e in spent if a == name))


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20))
def test_clipping_counts_what_it_changes(column):
    values = np.array(column)[:, None]
    inside, count = clipped(values, np.array([[-1.0], [2.0]]))
    assert inside.min() >= -1
    assert inside.max() <= 2
    assert count[0] == np.sum(inside != values)


def test_mosaics():
    """Without noise a square is its mean; the noise is 3 * 16 * 255 / (4 * 4 * 2)."""
    image = np.arange(16.0).reshape(1, 4, 4, 1)
    quiet = dp_pix(image, 2, 1, 1e12, 255.0, stream(0))[0, :, :, 0]
    np.testing.assert_allclose(quiet[:2, :2], np.full((2, 2), 2.5))
    np.testing.assert_allclose(quiet[2:, 2:], np.full((2, 2), 12.5))
    noise = dp_pix(np.zeros((3000, 8, 8, 3)), 4, 16, 2.0, 255.0, stream(1))
    assert np.abs(noise).mean() == pytest.approx(3 * 16 * 255 / 32, rel=0.05)
    assert np.ptp(noise[0, :4, :4, 0]) == 0


def test_mistakes_are_told():
    with pytest.raises(EngramError, match="do not divide images of 8 x 8"):
        dp_pix(np.zeros((1, 8, 8, 1)), 3, 16, 1.0, 1.0, stream(0))
    with pytest.raises(EngramError, match="epsilon is 0"):
        Account().spent("a", 0.0)
    with pytest.raises(EngramError, match="bounds of attribute 1 are 3 and 3"):
        clipped(np.zeros((1, 2)), np.array([[0.0, 3.0], [1.0, 3.0]]))
    with pytest.raises(EngramError, match="category 4, but there are 4"):
        randomised_response(np.array([4]), 4, 1.0, stream(0))
