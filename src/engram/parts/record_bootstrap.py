"""Bootstrap over records, for numbers that are ratios of totals over their tokens."""

import numpy as np
from jaxtyping import Float

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
