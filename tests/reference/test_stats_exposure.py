"""Exposure by rank and by a skew-normal tail, against closed forms and asymptotics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_ndtr
from scipy.stats import skewnorm

from engram.core import EngramError
from engram.stats.exposure import (
    BY_CHANCE,
    SkewNormal,
    _misfit,
    exposure_by_rank,
    exposure_by_skew_normal,
    exposure_of_rank,
    interval_by_rank,
)

NUMBERS = st.floats(-50, 50)


def by_sorting(secret, references):
    """Put the secret among the references, after its equals, and look for its place."""
    order = sorted([*((x, 0) for x in references), (secret, 1)])
    return np.log2(len(references)) - np.log2(1 + order.index((secret, 1)))


def test_golden_values():
    found = exposure_by_rank(np.array([0.0, 0.1, 3.5, 20.0]), np.arange(1.0, 17.0))
    np.testing.assert_allclose(found, [4, 4, 2, np.log2(16 / 17)], rtol=1e-12)


@given(st.floats(-5, 5).map(round), st.lists(st.floats(-5, 5).map(round), min_size=1, max_size=30))
def test_rank_agrees_with_sorting(secret, references):
    found = exposure_by_rank(np.array([float(secret)]), np.array(references, float))
    assert found[0] == pytest.approx(by_sorting(secret, references))


def test_a_secret_like_all_others_is_guessed_last():
    assert exposure_by_rank(np.zeros(1), np.zeros(64))[0] < 0


def test_rank_by_hand():
    found = exposure_of_rank(np.array([1.0, 2.0, 8.0]), np.full(3, 3.0))
    assert found.tolist() == [3, 2, 0]


def test_an_unseen_secret_has_the_bits_that_chance_gives():
    ranks = np.arange(1.0, 10**6 + 1)
    assert exposure_of_rank(ranks, np.full(10**6, np.log2(10**6))).mean() == pytest.approx(
        BY_CHANCE, abs=1e-4
    )


@given(st.floats(-3000, 8))
def test_tail_without_shape_is_the_normal_one(z):
    found = SkewNormal(0.0, 1.0, 0.0).logcdf(np.array([z]))
    np.testing.assert_allclose(found, log_ndtr(z), rtol=1e-10, atol=1e-14)


@given(st.floats(-1000, 8))
def test_tail_of_shape_one_is_that_of_the_larger_of_two(z):
    found = SkewNormal(0.0, 1.0, 1.0).logcdf(np.array([z]))
    np.testing.assert_allclose(found, 2 * log_ndtr(z), rtol=1e-10, atol=1e-14)


@given(st.floats(-1000, 8))
def test_tail_of_shape_minus_one_is_that_of_the_smaller_of_two(z):
    found = SkewNormal(0.0, 1.0, -1.0).logcdf(np.array([z]))
    expected = log_ndtr(z) + np.log1p(np.exp(log_ndtr(-z)))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)


@given(st.floats(30, 1000), st.floats(-40, -0.5))
def test_tail_of_a_steep_shape_follows_its_expansion(shape, z):
    x = (1 + shape**2) * z**2 / 2  # P = E1(x) / (2 pi shape), but for a share 1 / (shape z)^2
    log_e1 = -x - np.log(x) + np.log(1 - 1 / x + 2 / x**2)
    expected = log_e1 - np.log(2 * np.pi * shape)
    found = SkewNormal(0.0, 1.0, shape).logcdf(np.array([z]))[0]
    assert found == pytest.approx(expected, rel=1e-9, abs=2 / (shape * z) ** 2)


@given(st.floats(30, 1000), st.floats(-100, -0.5))
def test_tail_of_a_steep_shape_to_the_left_is_twice_the_normal_one(shape, z):
    found = SkewNormal(0.0, 1.0, -shape).logcdf(np.array([z]))[0]
    assert found == pytest.approx(np.log(2) + log_ndtr(z), rel=1e-10)


@given(st.floats(-50, 50), st.floats(-30, 5), st.floats(0, 3))
def test_tail_never_falls(shape, z, step):
    low, high = SkewNormal(0.0, 1.0, shape).logcdf(np.array([z, z + step]))
    assert low <= high + 1e-12 * abs(high)
    assert np.isfinite(low)
    assert high <= 0


@given(st.floats(-8, 8), st.floats(-2, 6))
def test_middle_agrees_with_scipy(shape, z):
    expected = skewnorm.cdf(z, shape)
    found = np.exp(SkewNormal(0.0, 1.0, shape).logcdf(np.array([z])))
    np.testing.assert_allclose(found, expected, atol=1e-9)


@given(st.floats(-2, 2), st.floats(-1, 1), st.floats(-5, 5))
def test_slope_of_the_likelihood(location, log_scale, shape):
    x = np.linspace(-2, 3, 40)
    here = np.array([location, log_scale, shape])
    slope = _misfit(here, x)[1]
    for i, step in enumerate(np.eye(3) * 1e-5):
        numeric = (_misfit(here + step, x)[0] - _misfit(here - step, x)[0]) / 2e-5
        assert slope[i] == pytest.approx(numeric, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("shape", [-20.0, -3.0, 1.0, 8.0])
def test_fit_is_likelier_than_the_truth_and_near_it(shape):
    x = skewnorm.rvs(shape, loc=20, scale=3, size=1000, random_state=1)
    found = SkewNormal.fit(x)
    likelihood = skewnorm.logpdf(x, found.shape, found.location, found.scale).sum()
    assert likelihood >= skewnorm.logpdf(x, shape, 20, 3).sum()
    middle = np.quantile(x, [0.1, 0.5, 0.9])
    expected = skewnorm.cdf(middle, shape, 20, 3)
    np.testing.assert_allclose(np.exp(found.logcdf(middle)), expected, atol=0.04)


@pytest.mark.parametrize("shape", [-3.0, 0.0, 5.0])
def test_the_best_known_secret_is_the_most_exposed(shape):
    """Where other code says 0 bits, for its distribution function is 0."""
    references = skewnorm.rvs(shape, loc=40, scale=2, size=500, random_state=2)
    secrets = np.array([references.min() - 60, references.min() - 1, np.median(references)])
    found, said = exposure_by_skew_normal(secrets, references, 26.6)
    assert found[0] == 26.6
    assert said[0] > 400
    assert 26.6 >= found[1] > found[2] == pytest.approx(1, abs=0.2)


def test_fitted_and_counted_exposure_agree_where_both_are_sure():
    rng = np.random.default_rng(3)
    references = rng.gamma(20.0, size=4000)
    secrets = np.quantile(references, [0.01, 0.05, 0.2, 0.6])
    fitted, _ = exposure_by_skew_normal(secrets, references, 20.0)
    np.testing.assert_allclose(fitted, exposure_by_rank(secrets, references), atol=0.35)


@pytest.mark.parametrize(
    "values", [np.zeros(100), np.arange(10.0), np.full(100, 7.25), np.empty(0)]
)
def test_refuses_what_cannot_be_fitted(values):
    with pytest.raises(EngramError, match="no distribution can be fitted"):
        SkewNormal.fit(values)


def test_refuses_bad_references():
    with pytest.raises(EngramError, match="is nan"):
        SkewNormal.fit(np.array([*range(99), np.nan]))
    with pytest.raises(EngramError, match="no references"):
        exposure_by_rank(np.zeros(1), np.empty(0))


def test_interval_reaches_all_bits_where_no_reference_is_ahead():
    references = np.arange(100.0)
    low, high = interval_by_rank(-1.0, references, 13.3)
    assert low == pytest.approx(-np.log2(1 - 0.025 ** (1 / 100)))
    assert high == 13.3
    low, high = interval_by_rank(24.0, references, 13.3)
    assert low < 2 < high < 3
