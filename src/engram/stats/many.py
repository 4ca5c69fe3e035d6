"""Several attacks on one target are several looks, and the best of many looks flatters itself.

Two honest ways out: choose the attack on one half of the records and report it on the other
(`headline`), or keep all the looks and ask more of each p-value (`holm`, `bonferroni`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from engram.core.errors import EngramError
from engram.core.finding import Finding
from engram.stats.checks import check_both_sides, check_labelled, check_lengths
from engram.stats.owners import Owners, owner_index
from engram.stats.roc import auc, auc_value


@dataclass(frozen=True)
class Headline:
    """The best attack, chosen on some records and measured on others."""

    attack: str
    """Empty where there were too few records to choose one."""
    finding: Finding
    """Its AUC on the records that did not choose it."""
    turned: bool
    """Whether the choosing half found that the scores point the other way; then the AUC is that
    of minus the scores."""
    judged_on: Bool[np.ndarray, " n"]
    """Which records the number was measured on, for further numbers about the same attack."""
    chosen_with: float | None
    """AUC on the choosing half: flattered, kept to show by how much."""
    looks: int


def headline(
    scores_by_attack: Mapping[str, Float[np.ndarray, " n"]],
    is_member: Bool[np.ndarray, " n"],
    rng: np.random.Generator,
    owners: Owners | None = None,
    resamples: int = 1000,
) -> Headline:
    """Choose the strongest attack on one half of the records, report it on the other half.

    Halves are drawn by owner where owners are known, and alike in their share of members. The
    strongest attack is the one furthest from an AUC of 0.5, and the direction is chosen with it:
    scores that point away from the members give them away too. One attack alone is one look: it
    is measured on all records, as it stands.

    Raises:
        EngramError: no attack, bad scores (the attack is named), or a single class.
    """
    _check_battery(scores_by_attack, is_member)
    names = list(scores_by_attack)
    if len(names) == 1:
        area = auc(scores_by_attack[names[0]], is_member, rng, resamples, owners)
        everyone = np.ones(len(is_member), dtype=bool)
        area = area.tagged(method=names[0], note="one attack, so nothing was chosen")
        return Headline(names[0], area, False, everyone, None, 1)
    choosing = half_of(owner_index(owners, len(is_member)), is_member, rng)
    if not (_both_sides(is_member[choosing]) and _both_sides(is_member[~choosing])):
        reason = "too few members or outsiders to choose an attack on one half"
        nothing = Finding.missing("AUC", reason, n=len(is_member))
        return Headline("", nothing, False, ~choosing, None, len(names))
    areas = {
        name: auc_value(values[choosing], is_member[choosing])
        for name, values in scores_by_attack.items()
    }
    best = max(names, key=lambda name: abs(areas[name] - 0.5))
    turned = areas[best] < 0.5
    judged = (-1 if turned else 1) * scores_by_attack[best][~choosing]
    judged_owners = (
        None if owners is None else [owners[row] for row in np.flatnonzero(~choosing).tolist()]
    )
    area = auc(judged, is_member[~choosing], rng, resamples, judged_owners)
    area = area.tagged(method=best, note=_how_chosen(len(names), turned))
    chosen_with = 1 - areas[best] if turned else areas[best]
    return Headline(best, area, turned, ~choosing, chosen_with, len(names))


def half_of(
    cluster: Int[np.ndarray, " n"], is_member: Bool[np.ndarray, " n"], rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """A random half of the clusters: of the members', the outsiders' and the mixed ones each."""
    size = np.bincount(cluster)
    trained = np.bincount(cluster, weights=is_member)
    kind = np.where(trained == 0, 0, np.where(trained == size, 1, 2))
    chosen = np.zeros(len(size), dtype=bool)
    for each in range(3):
        members = rng.permutation(np.flatnonzero(kind == each))
        chosen[members[: len(members) // 2]] = True
    return chosen[cluster]


def auc_p_value(values: Float[np.ndarray, " n"], is_member: Bool[np.ndarray, " n"]) -> float:
    """One-sided p-value that members score higher than outsiders (Mann-Whitney).

    Exact for few records without ties, else the normal approximation corrected for ties. It
    takes records as independent: for records of the same owners, average them first with
    `by_owner`.

    Raises:
        EngramError: lengths differ, a score is NaN or infinite, or one side is empty.
    """
    from scipy.stats import mannwhitneyu

    check_labelled(values, is_member)
    if np.ptp(values) == 0:
        return 1.0  # nothing to rank: the normal approximation would divide by zero
    test = mannwhitneyu(values[is_member], values[~is_member], alternative="greater")
    return float(test.pvalue)


def holm(p_values: Float[np.ndarray, " looks"]) -> Float[np.ndarray, " looks"]:
    """Adjusted p-values that keep the chance of any false alarm (Holm 1979).

    The i-th smallest of m is multiplied by m - i + 1, and never falls below the one before it.
    Never weaker than Bonferroni's, and valid whatever the dependence between the looks.

    Raises:
        EngramError: a p-value is outside [0, 1].
    """
    _check_p_values(p_values)
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    stepped = np.maximum.accumulate(np.minimum(p_values[order] * factors, 1.0))
    adjusted = np.empty(len(p_values))
    adjusted[order] = stepped
    return adjusted


def bonferroni(p_values: Float[np.ndarray, " looks"]) -> Float[np.ndarray, " looks"]:
    """Each p-value times the number of looks, at most 1.

    Raises:
        EngramError: a p-value is outside [0, 1].
    """
    _check_p_values(p_values)
    return np.minimum(p_values.astype(np.float64) * len(p_values), 1.0)


def _check_p_values(p_values: np.ndarray) -> None:
    bad = np.flatnonzero(~((p_values >= 0) & (p_values <= 1)))
    if len(bad):
        raise EngramError(
            f"p-value {bad[0]} is {p_values[bad[0]]}, but must be in [0, 1]",
            hint="give probabilities, not their logarithms",
        )


def _check_battery(scores: Mapping[str, np.ndarray], is_member: np.ndarray) -> None:
    if not scores:
        raise EngramError("there are no attacks to choose from", hint="run at least one attack")
    check_both_sides(is_member)
    for name, values in scores.items():
        check_lengths(f"scores of {name!r}", len(values), "membership labels", len(is_member))
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise EngramError(
                f"score {bad[0]} of {name!r} is {values[bad[0]]}",
                hint="leave out records without a number, or say what they get instead",
            )


def _both_sides(is_member: Bool[np.ndarray, " n"]) -> bool:
    return bool(is_member.any() and not is_member.all())


def _how_chosen(looks: int, turned: bool) -> str:
    note = f"chosen among {looks} attacks on the other half of the records"
    return f"{note}; lower scores mean member, so the scores are turned round" if turned else note
