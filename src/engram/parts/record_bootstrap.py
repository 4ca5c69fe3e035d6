"""Bootstrap over records or owners, for numbers that are ratios of totals over their tokens."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from engram.core import Split

LEVEL = 0.95


def ratio_interval(
    numerators: Float[np.ndarray, " n"],
    denominators: Float[np.ndarray, " n"],
    rng: np.random.Generator,
    resamples: int = 1000,
) -> tuple[float, float]:
    """95 % percentile interval of sum(numerators) / sum(denominators), resampling records.

    Tokens of one record stand or fall together, so records are resampled, not tokens.

    Args:
        numerators: One total a record.
        denominators: One positive total a record, such as its number of tokens.
        rng: The stream of this number.
        resamples: How often to resample.
    """
    n = len(numerators)
    drawn = np.empty(resamples)
    for row in range(resamples):
        pick = rng.integers(0, n, n)
        drawn[row] = numerators[pick].sum() / denominators[pick].sum()
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = numerators.sum() / denominators.sum()
    # Quantiles of few or equal resamples may miss the value by a rounding error.
    return min(float(low), float(value)), max(float(high), float(value))


def by_owner(
    split: Split, *totals: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " groups"], ...]:
    """Totals of records added up by owner, where there are at least two; otherwise as they are.

    Records of one owner stand or fall together, so where owners are known they are resampled.

    Args:
        split: The records, which may know their owners.
        totals: One number a record.
    """
    if split.owners is None or len(set(split.owners)) < 2:
        return totals
    _, group = np.unique(np.array(split.owners), return_inverse=True)
    return tuple(np.bincount(group, weights=total) for total in totals)


def resampled_by(splits: Sequence[Split]) -> str:
    """What the finding says of it."""
    grouped = [s.owners is not None and 2 <= len(set(s.owners)) < len(s) for s in splits]
    return "interval by owner" if all(grouped) else ""
