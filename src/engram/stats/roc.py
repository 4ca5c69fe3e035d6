"""How well scores tell members from outsiders.

Members are the positive class and higher scores mean *member*: swapping the labels gives one
minus the AUC. The ROC is a staircase and is never interpolated: `TPR@f` is the largest share of
members above any threshold that at most a share `f` of the outsiders exceed.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Int

from engram.core.errors import EngramError
from engram.core.finding import Finding
from engram.stats.checks import check_labelled
from engram.stats.intervals import clopper_pearson
from engram.stats.owners import Owners, owner_index

ENOUGH = 20
"""Members, and outsiders, from which on the bootstrap of an AUC is trusted alone."""


def auc_value(values: Float[np.ndarray, " n"], is_member: Bool[np.ndarray, " n"]) -> float:
    """P(member > outsider) + P(member = outsider) / 2: the Mann-Whitney statistic as a share."""
    outsiders = np.sort(values[~is_member])
    members = values[is_member]
    below = np.searchsorted(outsiders, members, side="left")
    up_to = np.searchsorted(outsiders, members, side="right")
    return float((below + up_to).sum() / 2 / (len(members) * len(outsiders)))


def resampled_aucs(
    values: Float[np.ndarray, " n"],
    is_member: Bool[np.ndarray, " n"],
    cluster: Int[np.ndarray, " n"],
    rng: np.random.Generator,
    resamples: int,
) -> Float[np.ndarray, " resamples"]:
    """AUCs of stratified bootstrap resamples of whole clusters.

    Members and outsiders are resampled separately. Sorting is done once: a resample is a weight
    for each record, and its AUC a weighted sum over the cumulated weights of the outsiders.
    """
    outsider_order = np.argsort(values[~is_member], kind="stable")
    member_order = np.argsort(values[is_member], kind="stable")
    outsiders, members = values[~is_member][outsider_order], values[is_member][member_order]
    below = np.searchsorted(outsiders, members, side="left")
    up_to = np.searchsorted(outsiders, members, side="right")
    outsider_cluster = np.unique(cluster[~is_member][outsider_order], return_inverse=True)[1]
    member_cluster = np.unique(cluster[is_member][member_order], return_inverse=True)[1]
    n_outsider, n_member = outsider_cluster.max() + 1, member_cluster.max() + 1
    drawn = np.empty(resamples)
    mass = np.zeros(len(outsiders) + 1)
    for row in range(resamples):
        # How often each record is drawn when its whole clusters are drawn with replacement.
        drawn_clusters = np.bincount(rng.integers(0, n_outsider, n_outsider), minlength=n_outsider)
        np.cumsum(drawn_clusters[outsider_cluster], out=mass[1:])
        drawn_clusters = np.bincount(rng.integers(0, n_member, n_member), minlength=n_member)
        weight = drawn_clusters[member_cluster]
        # Not `@`: a threaded product of such short vectors costs more in waiting than in work.
        wins = (weight * (mass[below] + mass[up_to])).sum() / 2
        drawn[row] = wins / (weight.sum() * mass[-1])
    return drawn


def auc(
    values: Float[np.ndarray, " n"],
    is_member: Bool[np.ndarray, " n"],
    rng: np.random.Generator,
    resamples: int = 1000,
    owners: Owners | None = None,
) -> Finding:
    """Area under the ROC curve, with a stratified percentile bootstrap interval.

    With `owners`, whole owners are resampled: records of one person rise and fall together, and
    resampling them one by one would give an interval that is too narrow.

    Where members and outsiders are wholly separated every resample is too, and the bootstrap
    would claim certainty. Then the interval is the exact one of min(members, outsiders)
    independent pairs (of owners, where given) that all fell on the same side.

    With fewer than `ENOUGH` members or outsiders (owners, where given) the bootstrap is too sure of
    itself, and the interval is widened to that of Hanley and McNeil.

    The AUC has no better direction: far below 0.5 gives membership away as far above does.

    Raises:
        EngramError: lengths differ, a score is NaN or infinite, or one side is empty.
    """
    check_labelled(values, is_member)
    cluster = owner_index(owners, len(values))
    value = auc_value(values, is_member)
    if value in (0.0, 1.0):
        pairs = min(len(np.unique(cluster[is_member])), len(np.unique(cluster[~is_member])))
        low, high = clopper_pearson(round(value * pairs), pairs)
    else:
        drawn = resampled_aucs(values, is_member, cluster, rng, resamples)
        low, high = np.quantile(drawn, [0.025, 0.975])
        few = len(np.unique(cluster[is_member])), len(np.unique(cluster[~is_member]))
        if min(few) < ENOUGH:
            wide = hanley_mcneil(value, *few)
            low, high = min(low, wide[0]), max(high, wide[1])
    return Finding("AUC", value, min(float(low), value), max(float(high), value), len(values))


def hanley_mcneil(value: float, members: int, outsiders: int) -> tuple[float, float]:
    """The normal interval of an AUC from its value and the two sizes alone, cut to [0, 1].

    Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic
    (ROC) curve", 1982, equation (1).
    """
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value)
    spread += (members - 1) * (q1 - value**2) + (outsiders - 1) * (q2 - value**2)
    half = 1.959964 * math.sqrt(spread / (members * outsiders))  # eq. (1)
    return max(0.0, value - half), min(1.0, value + half)


def distance_from_chance(area: Finding) -> Finding:
    """|AUC - 0.5|: what an attacker who may turn the scores round can gain, lower is better.

    After unlearning, an AUC near 0 is not a success: it points at the forgotten records as
    clearly as one near 1.
    """
    name = "distance from chance"
    if area.value is None or area.low is None or area.high is None:
        return Finding.missing(name, area.note, area.n)
    ends = abs(area.low - 0.5), abs(area.high - 0.5)
    low = 0.0 if area.low <= 0.5 <= area.high else min(ends)
    return Finding(name, abs(area.value - 0.5), low, max(ends), area.n, better="lower")


def roc_curve(
    values: Float[np.ndarray, " n"], is_member: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Every step of the ROC: (fpr, tpr, thresholds), from (0, 0) to (1, 1).

    A record is called a member where its score is at least the threshold; the first threshold
    is infinite. Equal scores make one step together.

    Raises:
        EngramError: lengths differ, a score is NaN or infinite, or one side is empty.
    """
    check_labelled(values, is_member)
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], is_member[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    members_above = np.cumsum(hits)[ends]
    outsiders_above = ends + 1 - members_above
    tpr = np.append(0.0, members_above / members_above[-1])
    fpr = np.append(0.0, outsiders_above / outsiders_above[-1])
    return fpr, tpr, np.append(np.inf, ranked[ends].astype(np.float64))


def thin(
    fpr: Float[np.ndarray, " k"], tpr: Float[np.ndarray, " k"], points: int = 200
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """At most `points` steps of a ROC, evenly spaced on a logarithmic FPR axis.

    Every point kept is one of the curve, the highest at its FPR, so nothing is interpolated.
    """
    if len(fpr) <= points:
        return fpr, tpr
    positive = fpr[fpr > 0]
    grid = np.append(0.0, np.geomspace(positive[0], 1.0, points - 2))
    last = np.searchsorted(fpr, grid * (1 + 1e-12), side="right") - 1
    kept = np.unique(np.concatenate([[0], last, [len(fpr) - 1]]))
    return fpr[kept], tpr[kept]


def rate_name(fpr: float) -> str:
    """The name of a true positive rate: `TPR@0.1%FPR`."""
    return f"TPR@{100 * fpr:g}%FPR"


def outsiders_needed(fpr: float) -> int:
    """How many outsiders it takes for one of them to be the share `fpr`."""
    return math.ceil(1 / fpr - 1e-9)


def threshold_at_fpr(outsiders: Float[np.ndarray, " n"], fpr: float) -> float:
    """The lowest score that at most floor(fpr * n) of the outsiders lie strictly above."""
    allowed = math.floor(fpr * len(outsiders) + 1e-9)
    if allowed >= len(outsiders):
        return -math.inf
    return float(np.sort(outsiders)[len(outsiders) - 1 - allowed])


def tpr_at_fpr(
    values: Float[np.ndarray, " n"], is_member: Bool[np.ndarray, " n"], fpr: float
) -> Finding:
    """Share of members above a threshold that at most a share `fpr` of the outsiders exceed.

    The threshold is the (floor(fpr * outsiders) + 1)-th largest outsider score and a record must
    lie strictly above it, so ties count against the attack. No interpolation: this is the top
    of the last ROC step whose false positive rate is not above `fpr`, and it reproduces the
    values published for the masked-language-model losses.

    The interval is the exact one of Clopper and Pearson over members, at this threshold; that
    the threshold itself rests on few outsiders is not in it.

    Args:
        values: a score for each record.
        is_member: whether each record was trained on.
        fpr: the false positive rate, a fraction in (0, 1).

    Raises:
        EngramError: bad scores, or `fpr` is outside (0, 1).
    """
    if not 0 < fpr < 1:
        raise EngramError(f"fpr is {fpr}, but must be in (0, 1)", hint="1 % is 0.01")
    check_labelled(values, is_member)
    outsiders, members = values[~is_member], values[is_member]
    needed = outsiders_needed(fpr)
    if len(outsiders) < needed:
        return Finding.missing(
            rate_name(fpr),
            f"not measurable at this n: needs at least {needed:,} outsiders, "
            f"has {len(outsiders):,}",
            n=len(members),
        )
    hits = int(np.count_nonzero(members > threshold_at_fpr(outsiders, fpr)))
    low, high = clopper_pearson(hits, len(members))
    value = hits / len(members)
    return Finding(rate_name(fpr), value, low, high, len(members), better="lower")


def balanced_accuracy(
    values: Float[np.ndarray, " n"], is_member: Bool[np.ndarray, " n"], rng: np.random.Generator
) -> Finding:
    """Mean of true positive and true negative rate, at a threshold chosen on other records.

    The best threshold in hindsight flatters an attack, so it is chosen on a random half of each
    side and judged on the rest. The interval joins the exact intervals of the two rates by the
    square-and-add rule (Newcombe, "Interval estimation for the difference between independent
    proportions", 1998, method 10).

    Raises:
        EngramError: lengths differ, a score is NaN or infinite, or one side is empty.
    """
    check_labelled(values, is_member)
    choosing = _random_half(is_member, rng)
    judged_members, judged_outsiders = values[~choosing & is_member], values[~choosing & ~is_member]
    if min(np.sum(choosing & is_member), np.sum(choosing & ~is_member)) == 0:
        return Finding.missing(
            "balanced accuracy", "needs at least 2 members and 2 outsiders", n=len(values)
        )
    fpr, tpr, thresholds = roc_curve(values[choosing], is_member[choosing])
    threshold = thresholds[np.argmax(tpr - fpr)]
    hits = int(np.sum(judged_members >= threshold))
    spared = int(np.sum(judged_outsiders < threshold))
    return _mean_of_rates(hits, len(judged_members), spared, len(judged_outsiders))


def _random_half(
    is_member: Bool[np.ndarray, " n"], rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """Half of each side (rounded down), drawn at random."""
    half = np.zeros(len(is_member), dtype=bool)
    for side in (True, False):
        rows = rng.permutation(np.flatnonzero(is_member == side))
        half[rows[: len(rows) // 2]] = True
    return half


def _mean_of_rates(hits: int, n_hits: int, spared: int, n_spared: int) -> Finding:
    first, second = hits / n_hits, spared / n_spared
    low_first, high_first = clopper_pearson(hits, n_hits)
    low_second, high_second = clopper_pearson(spared, n_spared)
    value = (first + second) / 2
    low = value - math.hypot(first - low_first, second - low_second) / 2
    high = value + math.hypot(high_first - first, high_second - second) / 2
    note = "threshold chosen on the other half of the records"
    n = n_hits + n_spared
    return Finding("balanced accuracy", value, max(low, 0.0), min(high, 1.0), n, note=note)
