"""A SQLite index over run folders. Deleting it loses nothing: `reindex` makes it again."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from engram.core import EngramError
from engram.store import deletions, elsewhere
from engram.store.contents import Contents, People, Roles, contents
from engram.store.folders import RECORD, TARGET, disk_errors
from engram.store.tables import FILE, alone, is_current, opened, opened_to_read

OWN = ("findings", "targets", "edges", "subjects", "memberships", "exposures", "runs")
"""Tables in which a folder has rows; the one that the others refer to is the last."""
GIVEN_UP = 3600.0
"""Seconds after which a half-written index counts as left behind."""


@dataclass(frozen=True)
class Row:
    """One finished run or target, as the index knows it."""

    folder: str
    id: str
    kind: str
    method: str
    created: str
    target: str
    fingerprint: str
    headline: str


def add(root: Path, folder: Path) -> None:
    """Put one finished folder into the index of a store; where there is none, it is made whole.

    Where a folder lies elsewhere, the store keeps its place. A store that cannot be written to
    does not take anything from such a folder: it is whole without.
    """
    if not folder.resolve().is_relative_to(root.resolve()):
        try:
            root.mkdir(parents=True, exist_ok=True)
            with alone(root):
                elsewhere.remember(root, folder)
        except OSError:
            return
    if not is_current(root / FILE):
        reindex(root)
        return
    with disk_errors(root), alone(root), closing(opened(root / FILE)) as base, base:
        _insert(base, root, folder)


def expect(root: Path, folder: Path) -> None:
    """Note that work begins in a folder, so that it is seen while it goes on.

    A store is not made for it, and one that cannot be written to does not stop the work.
    """
    if root.is_dir() and not folder.resolve().is_relative_to(root.resolve()):
        with suppress(OSError), alone(root):
            elsewhere.remember(root, folder)


def reindex(root: Path) -> int:
    """Make the index again from the folders alone; returns how many it holds.

    A folder whose record is damaged is left out: it does not stop the others. Whoever reads the
    old index meanwhile goes on doing so: the new one takes its place when it is whole.
    """
    if not root.is_dir():
        raise EngramError(
            f"there is no store at {root}", hint="name another with --store, or make a run first"
        )
    part = root / f"{FILE}.{os.getpid()}.part"
    with disk_errors(root):
        try:
            seen = _make(part, root)
            with alone(root):
                # What was finished meanwhile goes in before any reader can miss it.
                with closing(opened(part)) as base, base:
                    late = [f for f in _all(root) if f not in seen]
                    count = len(seen) + sum(_insert(base, root, folder) for folder in late)
                    for entry in deletions.whole(root)[0]:
                        deletions.note(base, entry)
                for stale in root.glob(f"{FILE}-*"):
                    stale.unlink()
                part.replace(root / FILE)
                return count
        finally:
            _clear(root, part)


def _make(part: Path, root: Path) -> set[Path]:
    """A new index in a file of its own; the folders that it holds."""
    part.unlink(missing_ok=True)  # of a process of the same number that was killed
    with closing(opened(part)) as base:
        base.execute("PRAGMA journal_mode = OFF")
        base.execute("PRAGMA synchronous = OFF")
        with base:
            return {f for f in _all(root) if _insert(base, root, f, fresh=True)}


def _clear(root: Path, part: Path) -> None:
    """Remove what this process, or one that was killed long ago, left half-written."""
    part.unlink(missing_ok=True)
    for other in root.glob(f"{FILE}.*.part"):
        with suppress(OSError):  # gone since it was listed
            if time.time() - other.stat().st_mtime > GIVEN_UP:
                other.unlink()


def rows(root: Path, kind: str = "") -> list[Row]:
    """Finished runs, newest first."""
    if not is_current(root / FILE):
        if not root.is_dir():
            return []
        reindex(root)
    with opened_to_read(root / FILE) as base:
        found = base.execute(
            "SELECT folder, id, kind, method, created, target, fingerprint, headline FROM runs "
            "WHERE ? IN ('', kind) ORDER BY created DESC, folder",
            (kind,),
        )
        return [Row(*row) for row in found]


def finished(root: Path) -> Iterator[Path]:
    """Folders below `root`, at most four deep, that have a record; hidden ones are not ours.

    A link that leads out of the store, or around in it, is not followed.
    """
    home = root.resolve()
    for depth in range(1, 5):
        for name in (RECORD, TARGET):
            for path in root.glob("*/" * depth + name):
                inside = path.parent.relative_to(root)
                hidden = any(part.startswith(".") for part in inside.parts)
                if not hidden and path.parent.resolve() == home / inside:
                    yield path.parent


def _all(root: Path) -> Iterator[Path]:
    """What an index holds: the finished folders of a store, and those that it knows elsewhere."""
    yield from finished(root)
    yield from elsewhere.folders(root)


def _insert(base: sqlite3.Connection, root: Path, folder: Path, fresh: bool = False) -> int:
    """Put a folder's rows in the place of those that it had; 0 where its record is damaged."""
    found = contents(folder)
    if found is None:
        return 0
    place = place_of(root, folder)
    if not fresh or base.execute("SELECT 1 FROM runs WHERE folder = ?", (place,)).fetchone():
        for table in OWN:
            base.execute(f"DELETE FROM {table} WHERE folder = ?", (place,))
    _rows(base, "runs", 14, [(place, *found.run)])
    _rows(base, "findings", 11, [(place, *finding) for finding in found.findings])
    _rows(base, "targets", 14, [(place, *found.target)] if found.target else [])
    _rows(base, "edges", 6, [(place, *edge) for edge in found.edges])
    _rows(base, "subjects", 2, [(place, subject) for subject in found.subjects])
    _records(base, place, found)
    return 1


def _rows(base: sqlite3.Connection, table: str, width: int, rows: list[tuple]) -> None:
    if rows:
        base.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * width)})", rows)


def _records(base: sqlite3.Connection, place: str, found: Contents) -> None:
    if found.ledger is not None:
        roles = found.ledger
        number = _population(base, roles.people)
        _rows(base, "memberships", 3, [(place, number, roles.letters)])
        _owners(base, number, roles)
    if found.exposure is not None:
        seen = found.exposure
        row = (_population(base, seen.people), seen.attack, seen.outsiders, seen.sides, seen.above)
        _rows(base, "exposures", 6, [(place, *row)])


def _owners(base: sqlite3.Connection, population: int, roles: Roles) -> None:
    """Whose the records of a population are, unless that is written down already."""
    if not roles.owners:
        return
    row = (population, roles.digest)
    if base.execute("INSERT OR IGNORE INTO ownerships VALUES (?,?)", row).rowcount:
        owned = zip(roles.owners, roles.people.each(), strict=True)
        base.executemany(
            "INSERT OR IGNORE INTO owned VALUES (?,?,?,?)",
            ((owner, population, place, key) for owner, (key, place) in owned),
        )


def _population(base: sqlite3.Connection, people: People) -> int:
    """The number of these records' population, which is written down if it is a new one."""
    asked = "SELECT number FROM populations WHERE digest = ?"
    known = base.execute(asked, (people.digest,)).fetchone()
    if known:
        return known[0]
    row = (None, people.digest, len(people.order))
    number = base.execute("INSERT INTO populations VALUES (?,?,?)", row).lastrowid or 0
    rows = ((key, number, place) for key, place in people.each())
    base.executemany("INSERT INTO members VALUES (?,?,?)", rows)
    return number


def place_of(root: Path, folder: Path) -> str:
    """A folder's name in the index: its way from the store; elsewhere, from the root of all."""
    place, home = folder.resolve(), root.resolve()
    return (place.relative_to(home) if place.is_relative_to(home) else place).as_posix()
