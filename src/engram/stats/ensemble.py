"""Several attacks at once: how to weigh them is learnt on one half of the records.

Attacks make different mistakes, so a weighted sum of them can be stronger than the best. But
weights that are learnt from labels know those labels: judged on the same records, an ensemble of
worthless attacks looks strong. So halves are cut by owner, the weights are learnt on one, and
only scores of the other are given out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from engram.core.errors import EngramError
from engram.core.finding import Finding
from engram.stats.checks import check_both_sides, check_finite, check_lengths
from engram.stats.many import half_of
from engram.stats.owners import Owners, owner_index
from engram.stats.roc import auc

ENSEMBLE = "ensemble"


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Scores of the records that the ensemble may be judged on, and how it came to them.

    Attributes:
        values: The log-odds of being a member; higher means more likely.
        judged_on: Which of all the records they belong to; the others taught the weights.
        weights: Of each attack's normal score, by name; negative where low scores mean member.
        note: What a reader of a number about it should know.
    """

    values: Float[np.ndarray, " judged"]
    judged_on: Bool[np.ndarray, " n"]
    weights: Mapping[str, float]
    note: str


def ensemble(
    scores: Mapping[str, Float[np.ndarray, " n"]],
    is_member: Bool[np.ndarray, " n"],
    rng: np.random.Generator,
    owners: Owners | None = None,
) -> Ensemble:
    """Learn to weigh attacks on one half of the records, and score the other half.

    Every attack's score becomes its normal score among those of the half that teaches, so that
    scale and outliers do not matter, and a logistic regression with balanced classes weighs
    them. A judged record's score depends on the teaching half and on itself alone, so intervals
    for records (or owners) that are drawn independently hold.

    Args:
        scores: One column an attack.
        is_member: Whether each record was trained on.
        rng: Draws the halves.
        owners: Whose each record is: an owner's records are all in the same half.

    Raises:
        EngramError: No attack, bad scores, or a half without members or without outsiders.
    """
    table, names = _checked(scores, is_member)
    teaches = _teaching_half(is_member, rng, owners)
    weights, intercept = _weights(table[teaches], is_member[teaches])
    values = _normal_scores(table[teaches], table[~teaches]) @ weights + intercept
    note = (
        f"{len(names)} attacks, weighed by a logistic regression on the other half of the records"
    )
    return Ensemble(values, ~teaches, dict(zip(names, weights.tolist(), strict=True)), note)


def cross_fitted_auc(
    scores: Mapping[str, Float[np.ndarray, " n"]],
    is_member: Bool[np.ndarray, " n"],
    rng: np.random.Generator,
    owners: Owners | None = None,
    resamples: int = 1000,
) -> Finding:
    """The mean AUC of two ensembles, each learnt on one half and judged on the other.

    All records are used, but the two areas are not independent: the halves taught each other,
    and where one suggests a direction by chance, the other is judged by it. So their intervals
    are averaged, as if the areas always erred together, and nothing is gained in width.

    Raises:
        EngramError: As `ensemble`.
    """
    table, names = _checked(scores, is_member)
    first = _teaching_half(is_member, rng, owners)
    found = []
    for teaches in (first, ~first):
        weights, _ = _weights(table[teaches], is_member[teaches])
        values = _normal_scores(table[teaches], table[~teaches]) @ weights
        theirs = None if owners is None else [owners[i] for i in np.flatnonzero(~teaches).tolist()]
        found.append(auc(values, is_member[~teaches], rng, resamples, theirs))
    value, low, high = (
        float(np.mean([getattr(each, what) for each in found])) for what in ("value", "low", "high")
    )
    note = (
        f"{len(names)} attacks, weighed on each half of the records and judged on the other; the "
        "halves taught each other, so the interval takes their two areas as one"
    )
    return Finding("AUC", value, low, high, len(is_member), method=ENSEMBLE, note=note)


def _checked(
    scores: Mapping[str, np.ndarray], is_member: np.ndarray
) -> tuple[Float[np.ndarray, "n attacks"], tuple[str, ...]]:
    if not scores:
        raise EngramError("there are no attacks to weigh", hint="run at least one attack")
    check_both_sides(is_member)
    for name, values in scores.items():
        check_lengths(f"scores of {name!r}", len(values), "membership labels", len(is_member))
        check_finite(np.asarray(values), f"score of {name!r},")
    return np.column_stack([np.asarray(v, np.float64) for v in scores.values()]), tuple(scores)


def _teaching_half(
    is_member: Bool[np.ndarray, " n"], rng: np.random.Generator, owners: Owners | None
) -> Bool[np.ndarray, " n"]:
    teaches = half_of(owner_index(owners, len(is_member)), is_member, rng)
    for half in (is_member[teaches], is_member[~teaches]):
        if not half.any() or half.all():
            raise EngramError(
                f"one half of the {len(is_member)} records has {int(half.sum())} members and "
                f"{int((~half).sum())} outsiders, so weights cannot be learnt and judged",
                hint="give more records (or owners) on both sides",
            )
    return teaches


def _normal_scores(
    known: Float[np.ndarray, "teaching attacks"], rows: Float[np.ndarray, "n attacks"]
) -> Float[np.ndarray, "n attacks"]:
    """Where each score stands among the known ones, as a quantile of the normal distribution.

    A tie counts half; an attack that says the same of all known records says nothing.
    """
    from scipy.special import ndtri

    found = np.zeros(rows.shape)
    for column, (old, new) in enumerate(zip(known.T, rows.T, strict=True)):
        if np.ptp(old) > 0:
            ranked = np.sort(old)
            below = np.searchsorted(ranked, new, "left") + np.searchsorted(ranked, new, "right")
            found[:, column] = ndtri((below / 2 + 0.5) / (len(old) + 1))
    return found


def _weights(
    known: Float[np.ndarray, "teaching attacks"], is_member: Bool[np.ndarray, " teaching"]
) -> tuple[Float[np.ndarray, " attacks"], float]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    model.fit(_normal_scores(known, known), is_member)
    return model.coef_[0], float(model.intercept_[0])
