"""What a reader asks of the index: pages of runs, a target's kin, a record's history.

Every question opens the index for reading alone, so nothing here can change a store.
"""

import sqlite3
import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engram.core.errors import EngramError
from engram.core.finding import Finding
from engram.store import running
from engram.store.contents import LETTERS, hidden_name, key_of
from engram.store.deletions import FILE as LEDGER
from engram.store.index import Row, finished, reindex
from engram.store.tables import FILE, is_current, opened_to_read

SORTS = {
    "created": "r.created", "kind": "r.kind", "method": "r.method", "target": "r.target",
    "level": "r.level", "value": "r.value", "family": "t.family", "trained": "t.trained",
}  # fmt: skip
"""What a list may be sorted by, and where that stands."""
SHADOW = "shadow"
"""What the data of models is called that an audit trained to compare with."""
_NO_SHADOW = (
    "NOT EXISTS (SELECT 1 FROM targets s WHERE s.folder = edges.folder AND s.data = 'shadow')"
)
_ROLES = {letter: role for role, letter in LETTERS.items()}
_ITEM = (
    "r.folder, r.id, r.kind, r.method, r.created, r.target, r.fingerprint, r.headline, r.level, "
    "r.measure, r.value, r.low, r.high, r.n"
)
_FACTS = (
    "family, access, arrow, parent, base, data, seed, guarantee, trained, held_out, validation, "
    "forgotten, planted"
)


@dataclass(frozen=True)
class Item(Row):
    """One run or target in a list; `value` and its interval are what its verdict rests on."""

    level: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    family: str = ""
    trained: int = 0
    """Records that a target was trained on, in a list of targets."""

    @property
    def finding(self) -> Finding | None:
        """The number of its verdict; None where there is none, or where it makes no sense."""
        return _checked(self.measure, self.value, self.low, self.high, self.n)


@dataclass(frozen=True)
class Wanted:
    """Which runs to list, and how.

    Attributes:
        targets: Whether targets are listed, or everything else.
        kind: Only this kind; for targets: this family.
        method: Only this method.
        level: Only this verdict.
        text: Only those with this in their name, target, folder or verdict.
        sort: One of `SORTS`.
        down: From the largest to the smallest.
        page: From 1.
        size: Rows of a page.
        shadows: Whether the models that audits trained to compare with are listed too.
    """

    targets: bool = False
    kind: str = ""
    method: str = ""
    level: str = ""
    text: str = ""
    sort: str = "created"
    down: bool = True
    page: int = 1
    size: int = 50
    shadows: bool = False


@dataclass(frozen=True)
class Listed:
    """One page of a list: its items, how many there are in all, and which page this is."""

    items: tuple[Item, ...]
    total: int
    page: int
    pages: int


@dataclass(frozen=True)
class Facts:
    """What the index knows of a target beyond its row."""

    family: str
    access: str
    arrow: str
    parent: str
    base: str
    data: str
    seed: str
    guarantee: str
    trained: int
    held_out: int
    validation: int
    forgotten: int
    planted: int


@dataclass(frozen=True)
class Edge:
    """A step of lineage: `child` came from `parent` (fingerprints; "" from nothing)."""

    child: str
    parent: str
    method: str
    kind: str
    base: str


@dataclass(frozen=True)
class Membership:
    """What a target did with a record."""

    item: Item
    role: str
    planted: bool


@dataclass(frozen=True)
class Exposed:
    """How exposed an audit found a record: the share of outsiders that score higher."""

    item: Item
    attack: str
    member: bool
    above: float
    outsiders: int


@dataclass(frozen=True)
class Deletion:
    """An entry of the deletion ledger, as the index knows it."""

    number: int
    hash: str
    time: str
    asked: str
    method: str
    before: str
    after: str
    evidence: str
    level: str
    records: int


@dataclass(frozen=True)
class History:
    """All that a store knows of one record."""

    memberships: tuple[Membership, ...]
    exposures: tuple[Exposed, ...]
    deletions: tuple[Deletion, ...]


@dataclass(frozen=True)
class Share:
    """What a target did with the records of one owner: how many have each role."""

    item: Item
    roles: Mapping[str, int]


@dataclass(frozen=True)
class Owner:
    """All that a store knows of the records of one owner.

    Attributes:
        records: Pseudonyms of the records.
        shares: Targets that know any of them, newest first.
        exposures: The most exposed of the records in each audit, newest first.
        deletions: Entries of the deletion ledger that name any of them.
    """

    records: tuple[str, ...]
    shares: tuple[Share, ...]
    exposures: tuple[Exposed, ...]
    deletions: tuple[Deletion, ...]


def ready(root: Path) -> None:
    """Make sure that a store has an index that can be asked.

    Nothing is written into a folder that has other things, and nothing of ours.

    Raises:
        EngramError: There is no store, or the folder is none.
    """
    if not root.is_dir():
        what = f"{root} is a file, not a store" if root.exists() else f"there is no store at {root}"
        raise EngramError(what, hint="name one with --store, or make a run first: engram demo")
    if is_current(root / FILE):
        return
    if not is_store(root):
        raise EngramError(
            f"{root} does not look like a store: it has other things, and no run",
            hint="name the store with --store, or in ENGRAM_RUNS; by default it is ./runs",
        )
    reindex(root)


def is_store(root: Path) -> bool:
    """Whether a folder is empty, or holds something that Engram keeps in a store."""
    ours = (FILE, LEDGER, "signals")
    things = next(root.iterdir(), None) is None or any((root / name).exists() for name in ours)
    return things or any(running.works(root)) or any(finished(root))


def _base(root: Path) -> AbstractContextManager[sqlite3.Connection]:
    return opened_to_read(root / FILE)


def listed(root: Path, wanted: Wanted) -> Listed:
    """A page of runs or targets; the last one where there are fewer pages."""
    conditions, values = _conditions(wanted)
    where = f"FROM runs r LEFT JOIN targets t ON t.folder = r.folder WHERE {conditions}"
    order = SORTS.get(wanted.sort, SORTS["created"])
    way = "DESC" if wanted.down else "ASC"
    with _base(root) as base:
        total = base.execute(f"SELECT count(*) {where}", values).fetchone()[0]
        pages = max(1, -(-total // wanted.size))
        page = min(max(wanted.page, 1), pages)
        found = base.execute(
            f"SELECT {_ITEM}, coalesce(t.family, ''), coalesce(t.trained, 0) {where} "
            f"ORDER BY {order} IS NULL OR {order} = '', {order} {way}, r.created DESC, r.folder "
            "LIMIT ? OFFSET ?",
            (*values, wanted.size, wanted.size * (page - 1)),
        )
        return Listed(tuple(Item(*row) for row in found), total, page, pages)


def _conditions(wanted: Wanted) -> tuple[str, list[str]]:
    conditions, values = ["r.kind = 'target'" if wanted.targets else "r.kind <> 'target'"], []
    exact = {"t.family" if wanted.targets else "r.kind": wanted.kind,
             "r.method": wanted.method, "r.level": wanted.level}  # fmt: skip
    for column, value in exact.items():
        if value:
            conditions.append(f"{column} = ?")
            values.append(value)
    if wanted.targets and not wanted.shadows:
        conditions.append("coalesce(t.data, '') <> ?")
        values.append(SHADOW)
    if wanted.text:
        like = "%" + wanted.text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"
        columns = ("r.id", "r.target", "r.folder", "r.headline", "r.fingerprint")
        conditions.append("(" + " OR ".join(rf"{c} LIKE ? ESCAPE '\'" for c in columns) + ")")
        values += [like] * len(columns)
    return " AND ".join(conditions), values


def choices(root: Path, targets: bool) -> dict[str, list[tuple[str, int]]]:
    """What a list can be filtered by, each with how many there are."""
    side = "r.kind = 'target'" if targets else "r.kind <> 'target'"
    columns = {"kind": "t.family" if targets else "r.kind", "method": "r.method"}
    columns |= {} if targets else {"level": "r.level"}
    with _base(root) as base:
        return {
            name: base.execute(
                f"SELECT {column}, count(*) FROM runs r LEFT JOIN targets t ON t.folder = r.folder "
                f"WHERE {side} AND {column} <> '' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 200"
            ).fetchall()
            for name, column in columns.items()
        }


def counts(root: Path) -> dict[str, int]:
    """How many of each thing the store holds."""
    asked = {
        "targets": f"SELECT count(*) FROM targets WHERE data <> '{SHADOW}'",
        "runs": "SELECT count(*) FROM runs WHERE kind <> 'target'",
        "records": "SELECT count(DISTINCT key) FROM members",
        "deletions": "SELECT count(*) FROM deletions",
    }
    with _base(root) as base:
        return {name: base.execute(sql).fetchone()[0] for name, sql in asked.items()}


def shadows(root: Path) -> int:
    """How many models the store has that audits trained to compare with."""
    with _base(root) as base:
        asked = "SELECT count(*) FROM targets WHERE data = ?"
        return base.execute(asked, (SHADOW,)).fetchone()[0]


def _items(base: sqlite3.Connection, where: str, values: Sequence[Any]) -> tuple[Item, ...]:
    found = base.execute(
        f"SELECT {_ITEM}, coalesce(t.family, '') FROM runs r "
        f"LEFT JOIN targets t ON t.folder = r.folder WHERE {where}",
        tuple(values),
    )
    return tuple(Item(*row) for row in found)


def item(root: Path, folder: str) -> Item | None:
    """The run or target in a folder, which is named as the index names it."""
    with _base(root) as base:
        return next(iter(_items(base, "r.folder = ?", (folder,))), None)


def named(root: Path, number: str) -> Item | None:
    """The newest run with this id."""
    with _base(root) as base:
        where = "r.id = ? AND r.kind <> 'target' ORDER BY r.created DESC LIMIT 1"
        return next(iter(_items(base, where, (number,))), None)


def facts(root: Path, folder: str) -> Facts | None:
    """What the index knows of a target."""
    with _base(root) as base:
        asked = f"SELECT {_FACTS} FROM targets WHERE folder = ?"
        found = base.execute(asked, (folder,)).fetchone()
        return Facts(*found) if found else None


def findings(root: Path, folder: str) -> tuple[Finding, ...]:
    """All findings of a run that make sense."""
    asked = "SELECT name, value, low, high, n, unit, method, split, note, better FROM findings "
    with _base(root) as base:
        found = base.execute(f"{asked} WHERE folder = ? ORDER BY rowid", (folder,)).fetchall()
    made = (_checked(*row) for row in found)
    return tuple(finding for finding in made if finding is not None)


def _checked(
    name: str, value: float | None, low: float | None, high: float | None, n: int | None,
    unit: str = "", method: str = "", split: str = "", note: str = "", better: str = "",
) -> Finding | None:  # fmt: skip
    """A finding of the index; None where its numbers contradict each other."""
    way = better if better in ("higher", "lower") else ""
    note = note or ("" if value is not None else "not measured")
    try:
        return Finding(name, value, low, high, n or 0, unit, method, split, note, way)  # type: ignore[arg-type]
    except EngramError:
        return None


def about(root: Path, fingerprint: str, at_most: int = 200) -> tuple[Item, ...]:
    """Runs that asked a target something, newest first."""
    if not fingerprint:
        return ()
    where = "r.kind <> 'target' AND r.folder IN (SELECT folder FROM subjects WHERE fingerprint = ?)"
    with _base(root) as base:
        return _items(base, f"{where} ORDER BY r.created DESC, r.folder LIMIT ?",
                      (fingerprint, at_most))  # fmt: skip


def targets_of(root: Path, prints: Sequence[str]) -> dict[str, Item]:
    """For each fingerprint that a target of the store has, the newest such target."""
    found: dict[str, Item] = {}
    with _base(root) as base:
        for print_ in dict.fromkeys(prints):
            where = "r.fingerprint = ? AND r.kind = 'target' ORDER BY r.created DESC LIMIT 1"
            for one in _items(base, where, (print_,)):
                found[print_] = one
    return found


def audited(root: Path, prints: Sequence[str]) -> dict[str, Item]:
    """For each fingerprint of a target the newest audit of it."""
    asked = list(dict.fromkeys(print_ for print_ in prints if print_))
    with _base(root) as base:
        found = _items(
            base,
            f"r.kind = 'audit' AND r.fingerprint IN ({','.join('?' * len(asked))}) "
            "ORDER BY r.created, r.folder DESC",
            asked,
        )
    return {one.fingerprint: one for one in found}


def kin(root: Path, fingerprint: str, at_most: int = 60) -> tuple[tuple[Edge, ...], bool]:
    """The steps that lead to a target and on from it, nearest first, and whether that is all.

    Brothers and sisters are shown, which come from the same parent; their children are not.
    """
    with _base(root) as base:
        up = _walk(base, fingerprint, "child", at_most)
        down = _walk(base, fingerprint, "parent", at_most)
        parents = {edge.parent for edge in up if edge.child == fingerprint and edge.parent}
        beside = [e for parent in parents for e in _edges(base, "parent", parent, at_most + 1)]
    known = tuple(dict.fromkeys([*up, *down, *beside]))
    return known[:at_most], len(known) <= at_most


def _walk(base: sqlite3.Connection, start: str, side: str, at_most: int) -> list[Edge]:
    """Edges reached from a target, breadth first: `side` is where the known end stands."""
    found: dict[Edge, None] = {}
    seen, todo = {start}, [start]
    while todo and len(found) <= at_most:
        for edge in _edges(base, side, todo.pop(0), at_most + 1):
            found[edge] = None
            other = edge.parent if side == "child" else edge.child
            if other and other not in seen:
                seen.add(other)
                todo.append(other)
    return list(found)


def _edges(base: sqlite3.Connection, side: str, fingerprint: str, at_most: int) -> list[Edge]:
    rows = base.execute(
        f"SELECT DISTINCT child, parent, method, kind, base FROM edges WHERE {side} = ? "
        f"AND {_NO_SHADOW if side == 'parent' else '1'} ORDER BY child, parent, method LIMIT ?",
        (fingerprint, at_most),
    )
    return [Edge(*row) for row in rows]


def trees(root: Path, at_most: int = 100) -> tuple[tuple[Item, int], ...]:
    """Targets that others came from and that came from none here, with their children's number."""
    with _base(root) as base:
        found = base.execute(
            "SELECT parent, count(DISTINCT child) FROM edges WHERE parent <> '' "
            f"AND {_NO_SHADOW} AND parent NOT IN (SELECT child FROM edges WHERE parent <> '') "
            "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?",
            (at_most,),
        ).fetchall()
    there = targets_of(root, [parent for parent, _ in found])
    return tuple((there.get(parent) or _elsewhere(parent), children) for parent, children in found)


def _elsewhere(fingerprint: str) -> Item:
    """A target that others came from, and that is not in this store."""
    blank = Item("", "", "target", "", "", "", fingerprint, "", "", "", None, None, None, None)
    return replace(blank, target=f"not in this store ({fingerprint})")


def history(root: Path, name: str, at_most: int = 500) -> History:
    """All that the store knows of a record, by its id or its pseudonym; newest first."""
    key = key_of(name)
    item_columns = f"{_ITEM}, ''"
    joined = "m.population = p.population JOIN runs r ON r.folder = m.folder WHERE p.key = ?"
    with _base(root) as base:
        members = base.execute(
            f"SELECT substr(m.roles, p.place + 1, 1), {item_columns} FROM members p "
            f"JOIN memberships m ON {joined} ORDER BY r.created DESC, r.folder LIMIT ?",
            (key, at_most),
        ).fetchall()
        exposures = base.execute(
            "SELECT m.attack, m.outsiders, substr(m.sides, p.place + 1, 1), "
            f"substr(m.above, 4 * p.place + 1, 4), {item_columns} FROM members p "
            f"JOIN exposures m ON {joined} ORDER BY r.created DESC, r.folder LIMIT ?",
            (key, at_most),
        ).fetchall()
        asked = _deletions(base, "number IN (SELECT number FROM deleted WHERE key = ?)", (key,))
    return History(
        tuple(_membership(bytes(letter).decode(), Item(*row)) for letter, *row in members),
        tuple(_exposed(row) for row in exposures),
        asked,
    )


def owner(root: Path, name: str, at_most: int = 500) -> Owner:
    """All that the store knows of one owner's records, by the owner's name or pseudonym."""
    mine = (key_of(name, "owner"),)
    joined = "m.population = o.population JOIN runs r ON r.folder = m.folder WHERE o.owner = ?"
    with _base(root) as base:
        keys = base.execute(
            f"SELECT DISTINCT key FROM owned WHERE owner = ? LIMIT {at_most}", mine
        ).fetchall()
        members = base.execute(
            f"SELECT lower(substr(m.roles, o.place + 1, 1)), count(*), {_ITEM}, '' FROM owned o "
            f"JOIN memberships m ON {joined} GROUP BY r.folder, 1 "
            "ORDER BY r.created DESC, r.folder LIMIT ?",
            (*mine, 4 * at_most),
        ).fetchall()
        exposures = base.execute(
            "SELECT m.attack, m.outsiders, substr(m.sides, o.place + 1, 1), "
            f"substr(m.above, 4 * o.place + 1, 4), {_ITEM}, '' FROM owned o "
            f"JOIN exposures m ON {joined} ORDER BY r.created DESC, r.folder LIMIT ?",
            (*mine, 40 * at_most),
        ).fetchall()
        where = (
            "number IN (SELECT d.number FROM owned o JOIN deleted d ON d.key = o.key "
            "WHERE o.owner = ?)"
        )
        asked = _deletions(base, where, mine)
    return Owner(tuple(hidden_name(key) for (key,) in keys), _shares(members),
                 _surest(_exposed(row) for row in exposures), asked)  # fmt: skip


def _shares(rows: Iterable[tuple[Any, ...]]) -> tuple[Share, ...]:
    found: dict[str, tuple[Item, dict[str, int]]] = {}
    for letter, count, *row in rows:
        item = Item(*row)
        letter = letter.decode() if isinstance(letter, bytes) else letter
        role = _ROLES.get(letter.lower(), "unknown")
        known = found.setdefault(item.folder, (item, {}))[1]
        known[role] = known.get(role, 0) + count
    return tuple(Share(item, roles) for item, roles in found.values())


def _surest(rows: Iterable[Exposed]) -> tuple[Exposed, ...]:
    """Of each audit the record that stands above the most outsiders."""
    found: dict[str, Exposed] = {}
    for one in rows:
        known = found.get(one.item.folder)
        if known is None or one.above < known.above:
            found[one.item.folder] = one
    return tuple(found.values())


def _exposed(row: Sequence[Any]) -> Exposed:
    attack, n, side, above, *rest = row
    return Exposed(Item(*rest), attack, bytes(side) == b"m", struct.unpack("<f", above)[0], n)


def _membership(letter: str, found: Item) -> Membership:
    return Membership(found, _ROLES.get(letter.lower(), "unknown"), letter.isupper())


def deletions_of(root: Path, fingerprint: str) -> tuple[Deletion, ...]:
    """Entries of the deletion ledger that a target was made by, or left behind by."""
    with _base(root) as base:
        return _deletions(base, "before = ?1 OR after = ?1", (fingerprint,))


def _deletions(base: sqlite3.Connection, where: str, values: Sequence[Any]) -> tuple[Deletion, ...]:
    asked = f"SELECT * FROM deletions WHERE {where} ORDER BY number DESC LIMIT 500"
    return tuple(Deletion(*row) for row in base.execute(asked, tuple(values)))


def subjects(root: Path, folder: str) -> list[str]:
    """Fingerprints of the targets that a run asked something."""
    with _base(root) as base:
        asked = "SELECT fingerprint FROM subjects WHERE folder = ? ORDER BY rowid LIMIT 50"
        return [row[0] for row in base.execute(asked, (folder,))]
