"""The records behind a target: read again from where they came, and checked with the ledger."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engram import data
from engram.core import EngramError, Split, Target
from engram.engine.forgotten_before import refuse_forgotten
from engram.engine.targets import load
from engram.parts.origin_owners import origin_owners_of
from engram.parts.origins import origins_of
from engram.store import TARGET


@dataclass(frozen=True)
class Known:
    """A target's own records, by the part they played."""

    everything: Split
    trained: Split
    held_out: Split
    forgotten: Split

    @property
    def source(self) -> str:
        """What the records are called."""
        return self.everything.name


def known_records(target: Target, source: str = "", options: dict[str, Any] | None = None) -> Known:
    """Read the data that a target was trained on, and sort it by the target's ledger.

    Args:
        target: One of ours: it carries a ledger.
        source: Where the data is now, if it has moved.
        options: How to read it; by default as it was read for training.

    Raises:
        EngramError: No ledger, data not found, or data that the ledger does not match.
    """
    ledger = target.ledger
    where = source or target.lineage.data
    if not where:
        raise EngramError(
            f"target {target.name!r} does not say which data it was trained on",
            hint="give it with --data (in Python as the `source` of known_records), or audit with "
            "--members and --outsiders",
        )
    everything = data.read(where, **{**target.lineage.data_options, **(options or {})})
    ledger.check(everything)
    return Known(
        everything,
        ledger.split(everything, "trained"),
        ledger.split(everything, "held-out"),
        ledger.split(everything, "forgotten"),
    )


def to_forget(
    target: Target,
    known: Known,
    *,
    owner: str | tuple[str, ...] = "",
    ids: tuple[str, ...] = (),
    records: Split | None = None,
    root: Path | None = None,
) -> Split:
    """The records of a deletion request, checked against the ledger.

    Exactly one of `owner` (one or several), `ids` and `records` is given. Records are found by
    their content, and exact copies go with them, whosever they are. `root` is the store whose
    deletion ledger says when something was forgotten before; by default the usual one.

    Raises:
        EngramError: None or several are given, or one of them was not trained on; where it was
            forgotten before, it says by which entry of the deletion ledger, and where a base of
            the target was trained on them, or on what was made of them, which.
    """
    given = [bool(owner), bool(ids), records is not None]
    if sum(given) != 1:
        raise EngramError(
            f"{sum(given)} ways to say what to forget are given, but it takes one",
            hint="use --owner, --ids or --records",
        )
    owners = (owner,) if isinstance(owner, str) and owner else tuple(owner)
    try:
        return _asked_for(target, known, owners, ids, records)
    except EngramError:
        refuse_forgotten(target, owners, ids, records, root)
        for base in _bases(target):
            if _learnt(base, owners, ids, records):
                raise EngramError(
                    f"target {target.name!r} was not trained on these records, but its base "
                    f"{base.name!r} was, or on records made from them",
                    hint="train a base without them, and tune that again",
                ) from None
        raise


def _bases(target: Target) -> Iterator[Target]:
    """What a target was tuned from, and what that was, as far as they are ours and still there."""
    seen: set[str] = set()
    while (place := target.lineage.base) and place not in seen and (Path(place) / TARGET).is_file():
        seen.add(place)
        try:
            target = load(place)
        except EngramError:
            return
        yield target


def _learnt(
    base: Target, owners: tuple[str, ...], ids: tuple[str, ...], records: Split | None
) -> bool:
    try:
        return bool(len(_asked_for(base, known_records(base), owners, ids, records)))
    except EngramError:
        return False


def _asked_for(
    target: Target,
    known: Known,
    owners: tuple[str, ...],
    ids: tuple[str, ...],
    records: Split | None,
) -> Split:
    if owners:
        if set(owners) & set(origin_owners_of(known.trained)):  # all were made from theirs too
            return known.trained.renamed("forget")
        wanted = dict.fromkeys(i for owner in owners for i in _records_of(target, owner))
        same = set(known.trained.select(list(wanted), name="forget").digests)
        return _found(known, same, frozenset())  # and their exact copies, whose else they may be
    if ids:
        made = frozenset().union(*origins_of(known.trained))
        # Ids are contents' digests where the data brought none: what was made of a record names it.
        trained = set(known.trained.ids) if made else set()
        own = [i for i in dict.fromkeys(ids) if i not in made or i in trained]
        named = known.trained.select(own, name="forget")
        return _found(known, set(named.digests), made & set(ids))  # and their exact copies
    return _by_content(known, records)


def _records_of(target: Target, owner: str) -> tuple[str, ...]:
    if wanted := target.ledger.of_owner(owner):
        return tuple(wanted)
    raise EngramError(
        f"owner {owner!r} has no records that this target was trained on",
        hint=_owners_hint(target, owner),
    )


def _by_content(known: Known, records: Split | None) -> Split:
    contents = set(records.digests) if records is not None else set()
    return _found(known, contents, contents)


def _found(known: Known, contents: set[str], sources: set[str] | frozenset[str]) -> Split:
    """Trained records of these contents, and those that were made from these sources."""
    rows = list(zip(known.trained.digests, origins_of(known.trained), strict=True))
    found = known.trained.where([d in contents or bool(sources & o) for d, o in rows], "forget")
    missing = contents - set(found.digests) - frozenset().union(*(o for _, o in rows))
    if missing or not len(found):
        raise EngramError(
            f"{len(missing)} of the {len(contents)} records to forget were not trained on",
            hint="records are found by their content: they must be written as in the data; rows of "
            "a table with words in it by --ids or --owner only, as its columns depend on all rows",
        )
    return found


def _owners_hint(target: Target, owner: str) -> str:
    from engram.core import nearest

    rows = zip(target.ledger.owners or (), target.ledger.roles, strict=True)
    owners = sorted({who for who, role in rows if role == "trained"})
    if owner in (target.ledger.owners or ()):
        others = f"; {owners[0]} has some" if owners else ""
        return f"all of theirs was held out, so there is nothing to forget{others}"
    return nearest(owner, owners, f"owners look like {', '.join(owners[:3])}")
