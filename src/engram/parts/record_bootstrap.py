"""Bootstrap over records or owners, for numbers that are ratios of totals over their parts."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from engram.core import Finding, Split
from engram.stats.intervals import clopper_pearson

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


def side_interval(
    values: Float[np.ndarray, " n"],
    owner: Int[np.ndarray, " n"],
    rng: np.random.Generator,
    resamples: int,
) -> tuple[float, float, float]:
    """Lower end, mean and upper end over one side's records, resampling owners."""
    people = np.unique(owner, return_inverse=True)[1]
    totals, sizes = np.bincount(people, weights=values), np.bincount(people)
    mean = float(values.mean())
    if mean in (0.0, 1.0):  # all alike: resampling would say that this is certain
        low, high = clopper_pearson(int(mean) * len(sizes), len(sizes))
    else:
        low, high = ratio_interval(totals, sizes.astype(np.float64), rng, resamples)
    return min(low, mean), mean, max(high, mean)


def share_of_owners(
    name: str,
    hits: Bool[np.ndarray, " n"],
    owner: Int[np.ndarray, " n"],
    rng: np.random.Generator,
    resamples: int = 1000,
) -> Finding:
    """The share of hits, with an interval that resamples owners; missing where there is one."""
    people = len(np.unique(owner))
    if people < 2:
        return Finding.missing(name, f"two people are needed, but there are {people}", len(hits))
    low, mean, high = side_interval(hits.astype(np.float64), owner, rng, resamples)
    return Finding(name, mean, low, high, len(hits))


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
