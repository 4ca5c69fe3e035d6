"""How two numbers go together once what both owe to a third is taken away."""

import math

import numpy as np
from jaxtyping import Float

from engram.core.errors import EngramError
from engram.core.finding import Finding
from engram.stats.checks import check_finite, check_lengths

NORMAL = 1.959964
"""Standard deviations to each side of a 95 % interval."""


def partial_correlation(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], given: Float[np.ndarray, " n"]
) -> float:
    """The correlation of what is left of `x` and of `y` after a line through `given`.

        r_xy.z = (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2))

    NaN where nothing is left of one of them: it is all alike, or a line through `given`.
    """
    left = [_left(np.asarray(each, np.float64), np.asarray(given, np.float64)) for each in (x, y)]
    scale = math.prod(math.sqrt(float((each**2).sum())) for each in left)
    return float(left[0] @ left[1]) / scale if scale else math.nan


def partial_rank_correlation(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    given: Float[np.ndarray, " n"],
    name: str,
) -> Finding:
    """Spearman's partial correlation of `x` and `y` given `given`, with Fisher's interval.

    Missing with fewer than five rows, or where nothing is left of one side.

    Raises:
        EngramError: Lengths differ, or a number is not finite.
    """
    from scipy.stats import rankdata

    check_lengths("x", len(x), "y", len(y))
    check_lengths("x", len(x), "given", len(given))
    for what, values in (("x", x), ("y", y), ("given", given)):
        check_finite(values, what)
    n = len(x)
    if n < 5:
        return Finding.missing(name, f"five rows are needed, but there are {n}", n)
    value = partial_correlation(rankdata(x), rankdata(y), rankdata(given))
    if math.isnan(value):
        return Finding.missing(name, "nothing is left of one side given the other number", n)
    low, high = fisher_interval(value, n, given=1)
    return Finding(name, value, min(low, value), max(high, value), n)


def fisher_interval(value: float, n: int, given: int = 0) -> tuple[float, float]:
    """The 95 % interval of a correlation by Fisher's z, with `given` numbers held fixed.

    Raises:
        EngramError: The correlation is none, or there are too few rows.
    """
    if not -1 <= value <= 1 or n - given < 4:
        raise EngramError(
            f"a correlation of {value:g} from {n} rows has no interval",
            hint="it lies in [-1, 1], and needs four rows and one more for each number held fixed",
        )
    z = math.atanh(min(max(value, -1 + 1e-12), 1 - 1e-12))
    half = NORMAL / math.sqrt(n - given - 3)
    return math.tanh(z - half), math.tanh(z + half)


def _left(values: Float[np.ndarray, " n"], given: Float[np.ndarray, " n"]) -> np.ndarray:
    """What a straight line through `given` does not explain; exactly 0 where it is rounding."""
    centred, other = values - values.mean(), given - given.mean()
    size = float(other @ other)
    left = centred - other * (float(centred @ other) / size) if size else centred
    whole = float(centred @ centred)
    return left if float(left @ left) > 1e-18 * whole else np.zeros_like(left)
