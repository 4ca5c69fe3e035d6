"""How far forgetting some records of a task took the task itself away, and what foretells it.

With the accuracies of one model before and after forgetting, on records that were not forgotten:

    gap   = before - after
    ratio = (before - after) / (before - chance)        1: all of the skill is gone; 0: none of it
"""

import math

import numpy as np
from jaxtyping import Float

from engram.core.errors import EngramError
from engram.core.finding import Finding

LEAST = 0.05
"""Below this much above chance, there was no skill that could have been lost."""
RESAMPLES = 2000


def forget_gap(before: float, after: float) -> float:
    """What was lost of the accuracy, in [-1, 1]."""
    return before - after


def forget_ratio(before: float, after: float, chance: float, least: float = LEAST) -> float:
    """The share of the accuracy above chance that was lost; may be below 0 or above 1.

    Args:
        before: Accuracy before forgetting, in [0, 1].
        after: Accuracy after it, on the same records.
        chance: What a blind guess reaches.
        least: NaN where the accuracy before is not at least this much above chance.
    """
    for name, value in (("before", before), ("after", after), ("chance", chance)):
        if not 0 <= value <= 1:
            raise EngramError(
                f"the accuracy {name!r} is {value}, but must be in [0, 1]",
                hint="accuracies are shares, not percent",
            )
    if before - chance < least - 1e-12:  # 0.55 - 0.5 is a little less than 0.05
        return math.nan
    return (before - after) / (before - chance)


def rank_correlation(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    name: str,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Finding:
    """Spearman's correlation, with the percentile interval of resampled pairs.

    Pairs with a NaN are left out. Resamples in which one side is all alike say nothing, and are
    left out too. Missing with fewer than three pairs, or where one side is all alike.
    """
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = np.asarray(x, np.float64)[kept], np.asarray(y, np.float64)[kept]
    n = len(x)
    if n < 3:
        return Finding.missing(name, f"three pairs are needed, but there are {n}", n)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Finding.missing(name, "one side has no order: its numbers are all alike", n)
    value = _spearman(x, y)
    drawn = [_spearman(x[pick], y[pick]) for pick in rng.integers(n, size=(resamples, n))]
    known = [each for each in drawn if not math.isnan(each)]
    low, high = np.quantile(known, (0.025, 0.975)) if known else (value, value)
    return Finding(name, value, min(float(low), value), max(float(high), value), n)


def _spearman(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """The correlation of the ranks, equals sharing their mean rank; NaN where all are alike."""
    from scipy.stats import rankdata

    a, b = rankdata(x), rankdata(y)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale else math.nan


def total_variance(states: Float[np.ndarray, "n width"]) -> float:
    """How much states differ: the trace of their covariance over their mean squared norm.

    In [0, 1]: 0 where all are the same, 1 where they cancel.

    Raises:
        EngramError: No states.
    """
    if not len(states):
        raise EngramError("no states were given", hint="give at least one record")
    wide = states.astype(np.float64)
    size = float((wide**2).sum(1).mean())
    spread = float(((wide - wide.mean(0)) ** 2).sum(1).mean())
    return spread / size if size else 0.0
