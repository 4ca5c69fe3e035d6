"""A SQLite index over run folders. Deleting it loses nothing: `reindex` makes it again."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engram.core import EngramError
from engram.store.folders import RECORD, TARGET, disk_errors, read_json

FILE = "index.sqlite"

_TABLES = """
CREATE TABLE IF NOT EXISTS runs (
    folder TEXT PRIMARY KEY, id TEXT, kind TEXT, method TEXT, created TEXT,
    target TEXT, fingerprint TEXT, headline TEXT
);
CREATE TABLE IF NOT EXISTS findings (
    folder TEXT REFERENCES runs(folder) ON DELETE CASCADE,
    method TEXT, name TEXT, split TEXT, value REAL, low REAL, high REAL, n INTEGER, unit TEXT
);
CREATE INDEX IF NOT EXISTS by_fingerprint ON runs(fingerprint, kind, created);
CREATE INDEX IF NOT EXISTS by_run ON findings(folder);
"""


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
    """Put one finished folder of `root` into its index.

    A folder elsewhere is not indexed: `reindex` could not find it again.
    """
    if not folder.resolve().is_relative_to(root.resolve()):
        return
    with disk_errors(root), closing(_open(root)) as base, base:
        _insert(base, root, folder)


def reindex(root: Path) -> int:
    """Make the index again from the folders alone; returns how many it holds.

    A folder whose record is damaged is left out: it does not stop the others.
    """
    if not root.is_dir():
        raise EngramError(
            f"there is no store at {root}", hint="name another with --store, or make a run first"
        )
    for stale in root.glob(f"{FILE}*"):
        stale.unlink()
    with disk_errors(root), closing(_open(root)) as base, base:
        return sum(_insert(base, root, folder) for folder in finished(root))


def rows(root: Path, kind: str = "") -> list[Row]:
    """Finished runs, newest first."""
    if not (root / FILE).is_file():
        if not root.is_dir():
            return []
        reindex(root)
    with closing(_open(root)) as base:
        found = base.execute(
            "SELECT folder, id, kind, method, created, target, fingerprint, headline FROM runs "
            "WHERE ? IN ('', kind) ORDER BY created DESC, folder",
            (kind,),
        )
        return [Row(*row) for row in found]


def _open(root: Path) -> sqlite3.Connection:
    root.mkdir(parents=True, exist_ok=True)
    try:
        base = sqlite3.connect(root / FILE, timeout=30)
        base.executescript(_TABLES)
    except sqlite3.DatabaseError as problem:
        raise EngramError(
            f"the index {root / FILE} cannot be opened ({problem})",
            hint="`engram reindex` makes it again from the run folders",
        ) from None
    return base


def finished(root: Path) -> Iterator[Path]:
    """Folders below `root`, at most four deep, that have a record; hidden ones are not ours."""
    for depth in range(1, 5):
        for name in (RECORD, TARGET):
            for path in root.glob("*/" * depth + name):
                inside = path.relative_to(root).parts
                if not any(part.startswith(".") for part in inside):
                    yield path.parent


def _insert(base: sqlite3.Connection, root: Path, folder: Path) -> int:
    name = RECORD if (folder / RECORD).is_file() else TARGET
    try:
        record = read_json(folder / name)
        row = _summary(record, name)
        findings = [_finding(f) for f in record.get("index", record.get("measures", []))]
    except (EngramError, KeyError, TypeError, AttributeError):
        return 0
    place = place_of(root, folder)
    try:
        base.execute("DELETE FROM findings WHERE folder = ?", (place,))
        base.execute("INSERT OR REPLACE INTO runs VALUES (?,?,?,?,?,?,?,?)", (place, *row))
        base.executemany(
            "INSERT INTO findings VALUES (?,?,?,?,?,?,?,?,?)", [(place, *f) for f in findings]
        )
    except (sqlite3.InterfaceError, sqlite3.ProgrammingError):  # values of a damaged record
        return 0
    return 1


def place_of(root: Path, folder: Path) -> str:
    """A folder's name in the index: its way from the store."""
    return folder.resolve().relative_to(root.resolve()).as_posix()


def _summary(record: dict[str, Any], name: str) -> tuple[str, ...]:
    if name == TARGET:
        lineage = record.get("lineage", {})
        values = (
            record["id"], "target", lineage.get("method", ""), record.get("created", ""),
            record["name"], record["fingerprint"], "",
        )  # fmt: skip
    else:
        target = record.get("target", {})
        values = (
            record["id"], record["kind"], record.get("method", record["kind"]),
            record.get("created", ""), target.get("name", record.get("title", "")),
            target.get("fingerprint", ""), record.get("verdict", {}).get("sentence", ""),
        )  # fmt: skip
    return tuple(str(v) for v in values)


def _finding(finding: dict[str, Any]) -> tuple[Any, ...]:
    keys = ("method", "name", "split", "value", "low", "high", "n", "unit")
    return tuple(finding.get(key) for key in keys)
