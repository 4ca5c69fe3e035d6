"""The split is audited before the model is.

An attack can only show memory if members and outsiders differ in nothing but membership. So
before any model is asked, blind baselines try to tell them apart, and texts that stand on both
sides are counted. Where the baselines succeed, every attack's number is inflated, and the report
says so first.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from engram.core.finding import Finding
from engram.stats.blind import (
    FOLDS,
    Blinds,
    assign_folds,
    bag_of_words,
    binned,
    clusters,
    compressed,
    fit_logistic,
    fit_trees,
    length_features,
    number_features,
)
from engram.stats.checks import check_both_sides, check_finite, check_lengths
from engram.stats.near_duplicates import Overlap, identical_outsiders, near_duplicates
from engram.stats.owners import Owners, owner_index
from engram.stats.tokens import words

MAX_A_SIDE = 4_000
"""How many members, and how many outsiders, the blind baselines look at."""
MIN_A_SIDE = 20
TOLERATED_SHARE = 0.01
"""Share of outsiders that may be nearly the same as a member in a clean split."""
TEXT_LOOKS = ("bag of words", "length", "numbers and dates", "all together")
FEATURE_LOOKS = ("linear", "trees")

Verdict = Literal["clean", "inflated", "overlapping", "unknown"]
"""`inflated`: something other than membership tells the sides apart. `overlapping`: it does not,
but outsiders are nearly members, which makes attacks look weaker than they are."""


@dataclass(frozen=True)
class SplitAudit:
    """What can be told about members and outsiders without asking the model."""

    verdict: Verdict
    reason: str
    """One sentence for the reader of the report."""
    findings: tuple[Finding, ...] = ()
    overlap: Overlap | None = None
    """Pairs of an outsider and the member that it nearly repeats; None for other than text."""

    @property
    def blind(self) -> tuple[Finding, ...]:
        """The blind baselines among the findings."""
        return tuple(each for each in self.findings if each.name.startswith("blind AUC"))


def audit_split(
    records: Sequence[str] | Num[np.ndarray, "..."] | None,
    is_member: Bool[np.ndarray, " m"],
    owners: Owners | None,
    rng: np.random.Generator,
) -> SplitAudit:
    """Try to tell members from outsiders without the model, and count what stands on both sides.

    The split is `clean` if no blind baseline does better than chance: the interval of each holds
    0.5 or lies below it (which chance alone does in cross-validation). The intervals hold for
    all baselines together, so an honest random split is called clean at least 95 times in 100.

    Args:
        records: the texts, or the features of other records (any shape, one row a record), or
            None where only scores are known.
        is_member: whether each record was trained on.
        owners: whose record it is, where known: folds and intervals then go by owner.
        rng: draws the records to look at, the folds and the resamples.

    Raises:
        EngramError: a single class, lengths differ, or a feature is NaN or infinite.
    """
    check_both_sides(is_member)
    if records is None:
        return SplitAudit(
            "unknown",
            "no text was given, so the split could not be audited: numbers may be inflated",
        )
    check_lengths("records", len(records), "membership labels", len(is_member))
    owner = owner_index(owners, len(records))
    parts = rng.spawn(3)
    if isinstance(records, np.ndarray):
        rows = records.reshape(len(records), -1).astype(np.float64)
        check_finite(rows, "record")
        overlap, keys = None, [row.tobytes() for row in rows]
        blind = _blind_findings(rows, keys, is_member, owner, parts)
    else:
        overlap, keys = near_duplicates(records, is_member, parts[2]), records
        blind = _blind_findings(records, keys, is_member, owner, parts)
    shared = _on_both_sides(keys, is_member, overlap, None if owners is None else owner)
    verdict, reason = _judge(blind, shared)
    return SplitAudit(verdict, reason, (*blind, *shared), overlap)


def _blind_findings(
    records: Sequence[str] | Float[np.ndarray, "n d"],
    keys: Sequence[Hashable],
    is_member: Bool[np.ndarray, " n"],
    owner: Int[np.ndarray, " n"],
    parts: list[np.random.Generator],
) -> list[Finding]:
    """Every blind baseline on at most `MAX_A_SIDE` records a side."""
    seen = _some_of_each_side(is_member, parts[0])
    label, keys = is_member[seen], [keys[row] for row in seen]
    cluster = clusters(owner[seen], keys)
    looks = FEATURE_LOOKS if isinstance(records, np.ndarray) else TEXT_LOOKS
    names = [f"blind AUC ({look})" for look in looks]
    if reason := _too_few(label, cluster):
        return [Finding.missing(name, reason, n=len(seen)) for name in names]
    streams = parts[1].spawn(len(names) + 2)
    blinds = Blinds(label, cluster, assign_folds(cluster, label, streams[-1]), len(names))
    if isinstance(records, np.ndarray):
        rows = records[seen]
        features, fits = [compressed(rows, streams[-2]), rows], [fit_logistic, fit_trees]
    else:
        features = _text_features([str(records[row]) for row in seen])
        fits = [fit_logistic] * len(names)
    note = _how_blind(is_member, label, owner, len(names))
    return [
        found.tagged(note="; ".join(filter(None, (found.note, note))))
        for found in map(blinds.auc, names, features, fits, streams[: len(names)])
    ]


def _text_features(texts: Sequence[str]) -> list[Any]:
    """The feature matrices of the baselines, in the order of their names."""
    from scipy.sparse import csr_array, hstack

    units = words(texts)
    bag = bag_of_words(units)
    length, numbers = binned(length_features(texts, units)), binned(number_features(texts))
    # Rows of the bag have length one; the others are brought to it, so that none drowns the rest.
    blocks = [each / math.sqrt(max(each.shape[1], 1)) for each in (length, numbers)]
    together = hstack([bag, *map(csr_array, blocks)], format="csr")
    return [bag, length, numbers, together]


def _some_of_each_side(
    is_member: Bool[np.ndarray, " n"], rng: np.random.Generator
) -> Int[np.ndarray, " seen"]:
    sides = [rng.permutation(np.flatnonzero(is_member == side))[:MAX_A_SIDE] for side in (1, 0)]
    return np.sort(np.concatenate(sides))


def _too_few(is_member: Bool[np.ndarray, " n"], cluster: Int[np.ndarray, " n"]) -> str:
    """Why the baselines cannot be cross-validated; empty where they can."""
    for side, name in ((True, "members"), (False, "outsiders")):
        rows = is_member == side
        if rows.sum() < MIN_A_SIDE:
            return f"only {rows.sum()} {name}: a blind baseline needs {MIN_A_SIDE} a side"
        if (independent := len(np.unique(cluster[rows]))) < FOLDS:
            return (
                f"the {name} are {independent} independent groups (by owner or the same "
                f"content): a blind baseline needs {FOLDS} a side"
            )
    return ""


def _how_blind(
    is_member: Bool[np.ndarray, " n"],
    seen: Bool[np.ndarray, " m"],
    owner: Int[np.ndarray, " n"],
    looks: int,
) -> str:
    folds = "by owner" if len(np.unique(owner)) < len(owner) else "identical records together"
    note = f"out of fold ({FOLDS} folds, {folds}); interval holds for {looks} baselines together"
    if len(seen) == len(is_member):
        return note
    counts = [f"{seen.sum()} of {is_member.sum()} members"]
    counts += [f"{(~seen).sum()} of {(~is_member).sum()} outsiders"]
    return f"{note}; looked at {' and '.join(counts)}, drawn at random"


def _on_both_sides(
    keys: Sequence[Hashable],
    is_member: Bool[np.ndarray, " n"],
    overlap: Overlap | None,
    owner: Int[np.ndarray, " n"] | None,
) -> list[Finding]:
    """Identical records, near-duplicates and owners that stand on both sides of the border."""
    outsiders = int((~is_member).sum())
    same = identical_outsiders(keys, is_member)
    name, note = "outsiders identical to a member", f"{same} of {outsiders} outsiders"
    found = [Finding.exact(name, same / outsiders, outsiders).tagged(note=note, better="lower")]
    if overlap is not None:
        found.append(overlap.finding().tagged(better="lower"))
    if owner is not None:
        both = np.intersect1d(owner[is_member], owner[~is_member])
        count = len(np.unique(owner))
        name = "owners with records on both sides"
        found.append(Finding.exact(name, float(len(both)), count, unit="owners"))
    return found


def _judge(blind: Sequence[Finding], shared: Sequence[Finding]) -> tuple[Verdict, str]:
    measured = [each for each in blind if each.value is not None]
    if leaks := [each for each in measured if each.low is not None and each.low > 0.5]:
        worst = max(leaks, key=_value)
        return "inflated", (
            f"without the model, members and outsiders are told apart ({_shown(worst)}), "
            "so every attack's number on this split is inflated"
        )
    shares = [each for each in shared if each.unit == ""]
    worst_share = max(shares, key=_value)
    if _value(worst_share) > TOLERATED_SHARE:
        return "overlapping", (
            f"{worst_share.value:.1%} of the {worst_share.name} ({TOLERATED_SHARE:.0%} is "
            "tolerated), so they are not truly unseen and attacks look weaker than they are"
        )
    if missing := [each for each in blind if each.value is None]:
        return "unknown", f"the split could not be audited: {missing[0].note}"
    worst = max(measured, key=_value)
    return "clean", (
        f"members and outsiders cannot be told apart without the model (at most {_shown(worst)})"
    )


def _value(found: Finding) -> float:
    return math.nan if found.value is None else found.value


def _shown(found: Finding) -> str:
    return f"{found.name} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
