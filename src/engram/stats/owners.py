"""From records to the people they are about.

A leak is felt by an owner (a patient, a driver), not by a record. Scores are averaged over an
owner's records, and the same ROC functions then answer: *can it be told that this person's
records were trained on?*
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from engram.core.errors import EngramError
from engram.stats.checks import check_labelled, check_lengths

Owners = Sequence[str | None] | np.ndarray
"""The owner of each record; None or an empty string where it is not known."""


@dataclass(frozen=True)
class OwnerScores:
    """Mean score and membership of each owner, in the order of first appearance."""

    owners: tuple[str, ...]
    values: Float[np.ndarray, " owners"]
    is_member: Bool[np.ndarray, " owners"]
    dropped_records: int
    note: str
    """What was left out and why; empty where nothing was."""


def owner_index(owners: Owners | None, n: int) -> Int[np.ndarray, " n"]:
    """Number the owners 0, 1, ... in the order of first appearance.

    A record without a known owner is an owner of its own, for nothing ties it to another.

    Raises:
        EngramError: there are not `n` owners.
    """
    if owners is None:
        return np.arange(n)
    check_lengths("records", n, "owners", len(owners))
    seen: dict[object, int] = {}
    keys = (owner if owner else ("unknown", row) for row, owner in enumerate(owners))
    return np.array([seen.setdefault(key, len(seen)) for key in keys], dtype=np.int64)


def by_owner(
    values: Float[np.ndarray, " n"], is_member: Bool[np.ndarray, " n"], owners: Owners
) -> OwnerScores:
    """Average record scores over each owner.

    An owner is a member if their records are. Owners with records on both sides are neither,
    so their records are dropped and counted, as are records without an owner.

    Raises:
        EngramError: bad scores, or no owner is left on one side.
    """
    check_labelled(values, is_member)
    index = owner_index(owners, len(values))
    size = np.bincount(index)
    trained = np.bincount(index, weights=is_member)
    known = np.array([bool(owner) for owner in owners])
    named = np.bincount(index, weights=known) > 0
    mixed = (trained > 0) & (trained < size)
    keep = np.flatnonzero(named & ~mixed)
    mean = np.bincount(index, weights=values) / size
    first = np.unique(index, return_index=True)[1]
    note = _what_was_dropped(int(size[mixed].sum()), int(mixed.sum()), int(size[~named].sum()))
    owner_is_member = trained[keep] > 0
    _check_owners_left(owner_is_member, note)
    return OwnerScores(
        owners=tuple(str(owners[row]) for row in first[keep]),
        values=mean[keep],
        is_member=owner_is_member,
        dropped_records=int(size[mixed | ~named].sum()),
        note=note,
    )


def _check_owners_left(is_member: Bool[np.ndarray, " owners"], note: str) -> None:
    members = int(is_member.sum())
    if members in (0, len(is_member)):
        raise EngramError(
            f"{members} owners are members and {len(is_member) - members} are outsiders"
            + (f" ({note})" if note else ""),
            hint="results by owner need whole owners on both sides: partition by owner",
        )


def _what_was_dropped(mixed_records: int, mixed_owners: int, unowned: int) -> str:
    parts = []
    if mixed_owners:
        parts.append(
            f"{mixed_records} records of {mixed_owners} owners with records on both sides dropped"
        )
    if unowned:
        parts.append(f"{unowned} records without an owner dropped")
    return "; ".join(parts)
