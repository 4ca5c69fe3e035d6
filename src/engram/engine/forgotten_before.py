"""A deletion request for what a target has forgotten already: by which entry, and when.

The target's ledger and the deletion ledger name what was forgotten by pseudonyms, which whoever
knows an id, an owner or a content can make again.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

from engram.core import EngramError, Split, Target
from engram.core.pseudonyms import pseudonym
from engram.store import default_root, deletions


def refuse_forgotten(
    target: Target,
    owners: tuple[str, ...],
    ids: tuple[str, ...],
    records: Split | None,
    root: Path | None = None,
) -> None:
    """Raise where something that is asked for was forgotten, and nothing of it is left.

    Args:
        target: One of ours, with a ledger.
        owners: Owners asked for.
        ids: Ids asked for.
        records: Records asked for, found by their content.
        root: The store whose deletion ledger is looked into; by default the usual one.
    """
    asked = ("owner", owners) if owners else ("id", ids)
    if not owners and not ids:
        asked = ("digest", tuple(records.digests) if records is not None else ())
    what, names = asked
    lost = {name: gone for name in dict.fromkeys(names) if (gone := _rows(target, what, name))}
    if not lost:
        return
    rows = frozenset().union(*lost.values())
    raise EngramError(
        f"{_told(what, tuple(lost))} already forgotten by target {target.name!r} "
        f"({len(rows)} records): {_when(target, rows, root or default_root())}",
        hint="nothing is left to do: `engram verify CERTIFICATE TARGET` checks it"
        if len(lost) == len(set(names))
        else f"{len(set(names)) - len(lost)} of those asked for are another matter: leave the "
        "forgotten ones out, and ask again",
    )


def _rows(target: Target, what: str, name: str) -> frozenset[str]:
    """Pseudonyms of the forgotten records of this name; none where some of it is still known."""
    ledger = target.ledger
    column = {"owner": ledger.owners or (), "id": ledger.ids, "digest": ledger.digests}[what]
    rows = list(zip(column, ledger.ids, ledger.roles, strict=False))
    if any(each == name and role == "trained" for each, _, role in rows):
        return frozenset()
    hidden = pseudonym(name, what)
    return frozenset(i for each, i, role in rows if each == hidden and role == "forgotten")


def _told(what: str, names: tuple[str, ...]) -> str:
    if what == "digest":
        return f"{len(names)} of the records asked for were"
    if len(names) == 1:
        return f"{what} {names[0]!r} was"
    return f"{len(names)} of the {what}s asked for, {names[0]!r} among them, were"


def _when(target: Target, rows: Collection[str], root: Path) -> str:
    found = list(_entries(target, rows, root))
    if not found:
        return f"no entry of the deletion ledger in {root} tells of it (`engram edit` writes none)"
    return ", ".join(
        f"entry {entry.number} of the deletion ledger in {root}, {entry.facts.get('time', '')}"
        for entry in found
    )


def _entries(target: Target, rows: Collection[str], root: Path) -> Iterator[deletions.Entry]:
    """The entries on the way to this target that forgot any of these records."""
    steps = target.lineage.history
    made = {target.fingerprint, target.lineage.parent, *(str(step["parent"]) for step in steps)}
    for entry in deletions.whole(root)[0]:
        named = entry.facts.get("records")
        if entry.facts.get("after") in made and set(named or ()) & set(rows):
            yield entry
