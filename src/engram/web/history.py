"""The history of a record, or of all records of one owner: where they are, and how exposed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from engram.core.finding import Finding
from engram.core.pseudonyms import pseudonym
from engram.report import charts
from engram.store import questions
from engram.store.contents import is_pseudonym
from engram.store.questions import Deletion, Exposed, History, Item, Owner
from engram.web.templates import plain

LONGEST = 1000
"""Characters of an id that is looked for."""
DRAWN = 24
WORDS = {
    "trained": "trained on", "held-out": "held out", "validation": "looked at while it trained",
    "forgotten": "forgotten", "unknown": "in its ledger",
}  # fmt: skip
TONES = {"trained": "leak", "held-out": "fine", "validation": "doubt", "forgotten": "open"}
_Z = 1.959963984540054


@dataclass(frozen=True)
class Place:
    """One target, and what it has to do with a record or with an owner.

    Attributes:
        item: The target.
        roles: How many of the records have each role there.
        planted: Whether the record was planted.
        exposed: What its newest audit found; of an owner's records the most exposed.
        deletion: The entry of the deletion ledger by which it forgot them, or by which a target
            that was made from it did.
    """

    item: Item
    roles: Mapping[str, int]
    planted: bool
    exposed: Exposed | None
    deletion: Deletion | None


def record(root: Path, request: Any) -> tuple[str, dict[str, Any]]:
    """Look for a record or an owner, and show what is known of it."""
    asked = request.query_params.get("id", "").strip()[:LONGEST]
    values: dict[str, Any] = {"title": "Records", "here": "/record", "asked": asked}
    if not asked:
        return "record.html.j2", {**values, "history": None, "owner": None}
    found, owner = questions.history(root, asked), questions.owner(root, asked)
    places = _places(found) or _shared(owner)
    of_owner = bool(owner.records) and not found.memberships
    deletions, exposures = found.deletions, found.exposures
    if of_owner:
        deletions, exposures = owner.deletions, owner.exposures
    prints = [p for one in deletions for p in (one.before, one.after)]
    hidden = is_pseudonym(asked)
    return "record.html.j2", {
        **values, "title": f"{'Owner' if of_owner else 'Record'} {plain(asked, 60)}",
        "history": found, "owner": owner if of_owner else None, "hidden": hidden,
        "pseudonym": asked if hidden else pseudonym(asked, "owner" if of_owner else "id"),
        "words": WORDS, "tones": TONES, "places": places, "sums": _sums(places),
        "deletions": deletions, "exposures": exposures, "figure": _figure(exposures),
        "known": questions.targets_of(root, prints), "at": finding_of,
    }  # fmt: skip


def _places(found: History) -> list[Place]:
    return [
        Place(one.item, {one.role: 1}, one.planted, *_more(one.item, {one.role}, found))
        for one in found.memberships
    ]


def _shared(found: Owner) -> list[Place]:
    return [
        Place(one.item, one.roles, False, *_more(one.item, set(one.roles), found))
        for one in found.shares
    ]


def _more(
    item: Item, roles: set[str], found: History | Owner
) -> tuple[Exposed | None, Deletion | None]:
    """The newest audit of a target, and the entry that its records were forgotten by."""
    mine = item.fingerprint
    exposed = (one for one in found.exposures if one.item.fingerprint == mine)
    gone = (one for one in found.deletions if mine == one.after or
            (mine == one.before and "trained" in roles))  # fmt: skip
    return next(exposed, None), next(gone, None)


def _sums(places: Sequence[Place]) -> dict[str, int]:
    """In how many targets there is a record of each role."""
    return {role: sum(role in one.roles for one in places) for role in WORDS}


def _figure(exposures: Sequence[Exposed]) -> Markup:
    """Where the record stands among the outsiders, an audit a row."""
    shown = exposures[:DRAWN]
    if not shown:
        return Markup("")
    rows = [
        (plain(one.item.target or one.item.id, 40), finding_of(one), 0 if one.member else 1)
        for one in shown
    ]
    title = "Share of outsiders that the record stands above, by audit"
    unit = "of outsiders score lower or as high"
    return charts.interval_rows(title, rows, (0.0, 1.0), 0.5, unit=unit)


def finding_of(one: Exposed) -> Finding:
    """The share of outsiders that score no higher, with Wilson's 95 % interval."""
    share = min(max(1 - one.above, 0.0), 1.0)
    n = max(one.outsiders, 1)
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    name = "share of outsiders below"
    return Finding(name, share, min(low, share), max(high, share), one.outsiders)
