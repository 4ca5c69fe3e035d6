"""Intervals for means, differences and proportions.

Means and paired differences: the bias-corrected and accelerated (BCa) bootstrap, because losses
are skewed and the plain percentile interval then lies too low (Efron, "Better Bootstrap
Confidence Intervals", 1987). Proportions: Clopper and Pearson (1934), which covers at least as
often as it says at every n. All intervals are 95 % unless `level` says otherwise.
"""

import numpy as np
from jaxtyping import Float

from engram.core.errors import EngramError
from engram.core.finding import Finding
from engram.stats.checks import check_finite, check_lengths

LEVEL = 0.95


def clopper_pearson(hits: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact two-sided interval of a proportion, from `hits` of `n` trials.

    Raises:
        EngramError: `hits` is not in 0..n, or there are no trials.
    """
    from scipy.special import betaincinv

    if n < 1 or not 0 <= hits <= n:
        raise EngramError(
            f"{hits} hits in {n} trials is not a proportion",
            hint="hits lie between 0 and the number of trials, which is at least 1",
        )
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, 1 - tail))
    return low, high


def proportion(hits: int, n: int, name: str, unit: str = "") -> Finding:
    """A share with its exact interval; missing where there was nothing to count."""
    if n == 0 and hits == 0:
        return Finding.missing(name, "there was nothing to count", unit=unit)
    low, high = clopper_pearson(hits, n)
    return Finding(name, hits / n, low, high, n, unit)


def mean_finding(
    values: Float[np.ndarray, " n"],
    name: str,
    unit: str,
    rng: np.random.Generator,
    resamples: int = 1000,
) -> Finding:
    """A mean with its BCa bootstrap interval, in the unit of the values.

    Missing where one value alone is given: it says nothing of its own spread.

    Raises:
        EngramError: no values, or one is NaN or infinite.
    """
    if len(values) == 0:
        raise EngramError(f"{name}: there are no values to average", hint="give at least two")
    check_finite(values, "value")
    if len(values) == 1:
        return Finding.missing(name, "one value alone has no interval", n=1, unit=unit)
    values = values.astype(np.float64)
    mean = float(values.mean())
    means = _resampled_means(values, rng, resamples)
    low, high = np.quantile(means, _bca_tails(values, means))
    # Quantiles of few or equal resamples may miss the mean by a rounding error.
    return Finding(name, mean, min(float(low), mean), max(float(high), mean), len(values), unit)


def paired_difference(
    first: Float[np.ndarray, " n"],
    second: Float[np.ndarray, " m"],
    name: str,
    unit: str,
    rng: np.random.Generator,
    resamples: int = 1000,
) -> Finding:
    """Mean of `first - second` over the same records, resampling the pairs.

    Both arrays hold the same records in the same order; pairing removes what the records have in
    common, so the interval is that of the difference and not of two separate means.

    Raises:
        EngramError: the lengths differ, no values, or one is not finite.
    """
    check_lengths("first values", len(first), "second values", len(second))
    check_finite(first, "first value")
    check_finite(second, "second value")
    return mean_finding(first - second, name, unit, rng, resamples)


def _resampled_means(
    values: Float[np.ndarray, " n"], rng: np.random.Generator, resamples: int
) -> Float[np.ndarray, " resamples"]:
    n = len(values)
    return np.array([values[rng.integers(0, n, n)].mean() for _ in range(resamples)])


def _bca_tails(
    values: Float[np.ndarray, " n"], means: Float[np.ndarray, " resamples"]
) -> Float[np.ndarray, " 2"]:
    """Which quantiles of the resampled means bound the interval.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, eq. 14.10.
    """
    from scipy.special import ndtr, ndtri

    centred = values - values.mean()
    spread = float((centred**2).sum())
    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if spread == 0.0:
        return tails
    # Eq. 14.15: for a mean the jackknife influence of a value is its distance from the mean.
    acceleration = float((centred**3).sum()) / (6 * spread**1.5)
    share_below = (np.mean(means < values.mean()) + np.mean(means <= values.mean())) / 2
    # Eq. 14.14; ties count half, and the clip keeps the quantile finite.
    bias = ndtri(np.clip(share_below, 0.5 / len(means), 1 - 0.5 / len(means)))
    shifted = bias + ndtri(tails)
    return ndtr(bias + shifted / (1 - acceleration * shifted))
