"""Was a set of records used in training, and how much of it?

One record says little; a thousand together say much. Everything here compares scores of a
suspect set with scores of records known to be held out, and all of it rests on one condition:
but for membership, both are drawn from the same distribution. Check that first (`split_audit`).
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int

from engram.core.errors import EngramError
from engram.stats.checks import check_both_sides, check_finite, check_lengths
from engram.stats.intervals import LEVEL, clopper_pearson

CLIP = 0.025
"""Share of each feature's values that count as outliers, at either end."""
RIDGE = 1e-3
"""Weight of the penalty, relative to the variance of the (standardised) features."""
BLOCK = 2**22
"""Most random numbers that a permutation test holds at once."""


@dataclass(frozen=True, eq=False)
class LinearGuess:
    """How much each record looks like a member: 1 like the members it was fitted on, 0 not.

    Attributes:
        low: Features below this count as this.
        high: The same from above.
        centre: Taken from each feature.
        scale: Features are divided by it; 0 marks a feature that says nothing.
        weights: Of the features.
        middle: The guess at the centre.
    """

    low: Float[np.ndarray, " features"]
    high: Float[np.ndarray, " features"]
    centre: Float[np.ndarray, " features"]
    scale: Float[np.ndarray, " features"]
    weights: Float[np.ndarray, " features"]
    middle: float

    def standard(
        self, features: Float[np.ndarray, "n features"]
    ) -> Float[np.ndarray, "n features"]:
        """Clipped and standardised features."""
        clipped = np.clip(features, self.low, self.high) - self.centre
        return np.divide(clipped, self.scale, out=np.zeros_like(clipped), where=self.scale > 0)

    def __call__(self, features: Float[np.ndarray, "n features"]) -> Float[np.ndarray, " n"]:
        """A guess in [0, 1] for each record."""
        return np.clip(self.middle + self.standard(features) @ self.weights, 0.0, 1.0)


def fit_guess(
    features: Float[np.ndarray, "n features"], is_member: Bool[np.ndarray, " n"]
) -> LinearGuess:
    """Least squares on the labels, both sides weighing the same, with outliers clipped.

    Raises:
        EngramError: lengths differ, a single class, or a feature is not finite.
    """
    check_lengths("records", len(features), "membership labels", len(is_member))
    check_both_sides(is_member)
    check_finite(features, "record")
    features = np.asarray(features, np.float64)
    low, high = np.quantile(features, [CLIP, 1 - CLIP], axis=0)
    clipped = np.clip(features, low, high)
    weight = np.where(is_member, 0.5 / is_member.sum(), 0.5 / (~is_member).sum())
    centre = weight @ clipped
    scale = np.sqrt(weight @ (clipped - centre) ** 2)
    # A feature that is the same everywhere has a scale of rounding errors alone.
    scale[scale <= 1e-9 * (1 + np.abs(centre))] = 0.0
    plan = LinearGuess(low, high, centre, scale, np.zeros(len(centre)), 0.5)
    standard = plan.standard(features)
    gram = (standard * weight[:, None]).T @ standard + RIDGE * np.eye(len(centre))
    weights = np.linalg.solve(gram, (standard * weight[:, None]).T @ (is_member - 0.5))
    return LinearGuess(low, high, centre, scale, weights, 0.5)


@dataclass(frozen=True)
class PermutationTest:
    """How often chance alone gives a difference as large.

    Attributes:
        p_value: (1 + count) / (1 + permutations): at most alpha with probability at most alpha
            if the suspect set is like the held-out one, at every n.
        low: Of the 95 % interval of the p-value that infinitely many permutations would give.
        high: Of the same.
        n: Records.
    """

    p_value: float
    low: float
    high: float
    n: int


def permutation_test(
    values: Float[np.ndarray, " n"],
    suspect: Bool[np.ndarray, " n"],
    rng: np.random.Generator,
    cluster: Int[np.ndarray, " n"] | None = None,
    permutations: int = 10_000,
) -> PermutationTest:
    """Is the mean of the suspect records higher than chance explains? One-sided.

    Args:
        values: Higher speaks for membership.
        suspect: Which records are the suspect ones; the others are held out.
        rng: Draws the permutations.
        cluster: Records that stay together (one owner's); each by itself where None. A cluster
            is on one side.
        permutations: How many.

    Raises:
        EngramError: lengths differ, a value is not finite, one side is empty, or a cluster is on
            both.
    """
    check_lengths("values", len(values), "marks of the suspect records", len(suspect))
    check_both_sides(suspect)
    check_finite(values, "value")
    if permutations < 99:
        raise EngramError(
            f"permutations is {permutations}, but must be at least 99", hint="10000 is usual"
        )
    sums, sizes, side = _by_cluster(values - values.mean(), suspect, cluster)
    chosen = int(side.sum())
    observed = _difference(sums[side].sum(), sizes[side].sum(), sums.sum(), len(values))
    # Rounding must not make an equal difference a smaller one: ties count against the claim.
    slack = 1e-9 * (np.abs(values - values.mean()).max() + 1e-300)
    count = 0
    block = max(1, BLOCK // len(side))
    for first in range(0, permutations, block):
        rows = min(block, permutations - first)
        order = np.argpartition(rng.random((rows, len(side))), chosen, axis=1)
        drawn = order[:, :chosen]  # a uniformly random choice, in no order
        made = _difference(sums[drawn].sum(1), sizes[drawn].sum(1), sums.sum(), len(values))
        count += int(np.count_nonzero(made >= observed - slack))
    low, high = clopper_pearson(count, permutations)
    p_value = (1 + count) / (1 + permutations)
    return PermutationTest(p_value, min(low, p_value), max(high, p_value), len(values))


@dataclass(frozen=True)
class Share:
    """A share of a set, with its interval inside [0, 1].

    Attributes:
        value: The estimate, brought into [0, 1].
        low: Of the interval.
        high: Of the same.
        power: How far members' mean guess is above that of outsiders; near 0, nothing is known.
    """

    value: float
    low: float
    high: float
    power: float


def share_used(
    suspect: Float[np.ndarray, " s"],
    members: Float[np.ndarray, " m"],
    outsiders: Float[np.ndarray, " o"],
    clusters: tuple[Int[np.ndarray, " _"], ...] | None = None,
    level: float = LEVEL,
) -> Share:
    """The share of members in a suspect set: debiased mean of membership guesses.

        share = (mean guess - FPR) / (TPR - FPR)

    with FPR and TPR the mean guesses of known outsiders and members (Tong et al., 2025). The
    interval holds every share p at which  mean guess - p TPR - (1 - p) FPR  is not further from 0
    than chance explains (Fieller, 1954). Where guesses are weak it is wide, up to all of [0, 1].

    Args:
        suspect: Guesses (of 0 or 1, or in between) of the suspect records.
        members: Guesses of known members, not used to make the guess.
        outsiders: Guesses of known outsiders, not used either.
        clusters: For each of the three, records that rise and fall together (one owner's).
        level: Of the interval.

    Raises:
        EngramError: one of the three has fewer than two records (or clusters), or is not finite.
    """
    from scipy.special import ndtri

    groups = clusters or (None, None, None)
    names = ("suspect", "member", "outsider")
    every = np.concatenate([suspect, members, outsiders])
    width = float(np.ptp(every)) if len(every) else 0.0
    sides = [
        _mean_and_variance(values, name, group, width)
        for values, name, group in zip((suspect, members, outsiders), names, groups, strict=True)
    ]
    (guess, var), (tpr, var_in), (fpr, var_out) = sides
    power = tpr - fpr
    z2 = float(ndtri((1 + level) / 2)) ** 2
    # (guess - fpr - p power)^2 <= z^2 (var + p^2 var_in + (1 - p)^2 var_out), a quadratic in p.
    a = power**2 - z2 * (var_in + var_out)
    b = -2 * (guess - fpr) * power + 2 * z2 * var_out
    c = (guess - fpr) ** 2 - z2 * (var + var_out)
    value = float(np.clip((guess - fpr) / power, 0, 1)) if power > 0 else 0.5
    low, high = _where_negative(a, b, c)
    return Share(value, min(low, value), max(high, value), power)


def share_at_least(
    suspect: Float[np.ndarray, " s"],
    outsiders: Float[np.ndarray, " o"],
    level: float = LEVEL,
) -> float:
    """A lower bound on the share of members where no members are known.

    If a share p was used, then at every threshold t  P(suspect > t) <= p + (1 - p) P(outsider > t),
    so p >= (P(suspect > t) - P(outsider > t)) / (1 - P(outsider > t)). Both are empirical, and
    moved against the claim by the bound of Dvoretzky, Kiefer, Wolfowitz and Massart (1990), which
    holds at all thresholds together: the best one may be taken.
    """
    check_finite(suspect)
    check_finite(outsiders)
    if not len(suspect) or not len(outsiders):
        raise EngramError("there are no scores on one side", hint="give both")
    tail = (1 - level) / 2
    thresholds = np.unique(np.concatenate([suspect, outsiders]))
    above = _share_above(suspect, thresholds) - _band(len(suspect), tail)
    alarms = _share_above(outsiders, thresholds) + _band(len(outsiders), tail)
    known = alarms < 1
    if not known.any():
        return 0.0
    return float(max(0.0, ((above - alarms)[known] / (1 - alarms[known])).max()))


def _share_above(
    values: Float[np.ndarray, " n"], thresholds: Float[np.ndarray, " t"]
) -> Float[np.ndarray, " t"]:
    return 1 - np.searchsorted(np.sort(values), thresholds, side="right") / len(values)


def _band(n: int, tail: float) -> float:
    """How far an empirical distribution is off at any point, but with probability `tail`."""
    return math.sqrt(math.log(1 / tail) / (2 * n))


def _where_negative(a: float, b: float, c: float) -> tuple[float, float]:
    """The ends of {p in [0, 1]: a p^2 + b p + c <= 0}; all of it where that is empty."""
    roots = [-c / b] if abs(a) < 1e-300 and b else []
    if abs(a) >= 1e-300 and b * b >= 4 * a * c:
        root = math.sqrt(b * b - 4 * a * c)
        roots = [(-b - root) / (2 * a), (-b + root) / (2 * a)]
    ends = [0.0, *sorted(r for r in roots if 0 < r < 1), 1.0]
    middles = [(first + last) / 2 for first, last in pairwise(ends)]
    good = [i for i, p in enumerate(middles) if a * p * p + b * p + c <= 0]
    if good:
        return ends[good[0]], ends[good[-1] + 1]
    # No share explains the guesses (the suspect set is beyond both sides): its nearest end.
    return (0.0, 0.0) if c <= a + b + c else (1.0, 1.0)


def _by_cluster(
    values: Float[np.ndarray, " n"],
    suspect: Bool[np.ndarray, " n"],
    cluster: Int[np.ndarray, " n"] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum, size and side of each cluster."""
    if cluster is None:
        return values, np.ones(len(values)), suspect
    number = np.unique(cluster, return_inverse=True)[1]
    sizes = np.bincount(number).astype(np.float64)
    marked = np.bincount(number, suspect)
    if bad := int(np.count_nonzero((marked > 0) & (marked < sizes))):
        raise EngramError(
            f"{bad} owners (or copies of a record) are on both sides",
            hint="leave them out: they cannot be exchanged for others",
        )
    return np.bincount(number, values), sizes, marked > 0


def _difference(
    first_sum: np.ndarray | float, first_size: np.ndarray | float, total: float, n: int
) -> np.ndarray | float:
    """Mean of the first side minus that of the rest."""
    return first_sum / first_size - (total - first_sum) / (n - first_size)


def _mean_and_variance(
    values: Float[np.ndarray, " n"],
    name: str,
    cluster: Int[np.ndarray, " n"] | None,
    width: float,
) -> tuple[float, float]:
    """The mean, and the variance of that mean when whole clusters are drawn.

    `width` is the range of all guesses: those of one side may be equal so far, and still one in
    n + 1 may be off by that much.
    """
    check_finite(values, f"{name} guess")
    n = len(values)
    number = np.arange(n) if cluster is None else np.unique(cluster, return_inverse=True)[1]
    count = int(number.max()) + 1 if n else 0
    if count < 2:
        raise EngramError(
            f"there are {count} {name} records (or owners), but a share needs 2 at least",
            hint="give more records",
        )
    mean = float(values.mean())
    spread = np.bincount(number, values - mean)
    variance = float((spread**2).sum()) * count / (count - 1) / n**2
    return mean, max(variance, (width / (count + 1)) ** 2)
