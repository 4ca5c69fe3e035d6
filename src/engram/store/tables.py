"""The tables of the index, and how its file is opened.

Records and owners are known by pseudonyms alone (`core.pseudonyms`): a forgotten record's id must
not outlive in the index the folders that still name it, and a record, and an owner, is found by the
same key before and after it was forgotten. All folders that know the same records share one
population, the sorted list of their keys; what a folder says of each is one letter or number at
the record's place in it.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engram.core.errors import EngramError

FILE = "index.sqlite"
WAIT = 20.0
"""Seconds that a reader waits for a writer."""
VERSION = 4
"""Of the tables; an index of another version is made again."""

TABLES = """
CREATE TABLE IF NOT EXISTS runs (
    folder TEXT PRIMARY KEY, id TEXT, kind TEXT, method TEXT, created TEXT,
    target TEXT, fingerprint TEXT, headline TEXT,
    level TEXT, measure TEXT, value REAL, low REAL, high REAL, n INTEGER
);
CREATE TABLE IF NOT EXISTS findings (
    folder TEXT REFERENCES runs(folder) ON DELETE CASCADE,
    method TEXT, name TEXT, split TEXT, value REAL, low REAL, high REAL, n INTEGER, unit TEXT,
    note TEXT, better TEXT
);
CREATE TABLE IF NOT EXISTS targets (
    folder TEXT PRIMARY KEY REFERENCES runs(folder) ON DELETE CASCADE,
    family TEXT, access TEXT, arrow TEXT, parent TEXT, base TEXT, data TEXT, seed TEXT,
    guarantee TEXT, trained INTEGER, held_out INTEGER, validation INTEGER, forgotten INTEGER,
    planted INTEGER
);
CREATE TABLE IF NOT EXISTS edges (
    folder TEXT REFERENCES runs(folder) ON DELETE CASCADE,
    child TEXT, parent TEXT, method TEXT, kind TEXT, base TEXT
);
CREATE TABLE IF NOT EXISTS subjects (
    folder TEXT REFERENCES runs(folder) ON DELETE CASCADE, fingerprint TEXT
);
CREATE TABLE IF NOT EXISTS populations (
    number INTEGER PRIMARY KEY, digest BLOB UNIQUE, size INTEGER
);
CREATE TABLE IF NOT EXISTS members (
    key BLOB, population INTEGER, place INTEGER, PRIMARY KEY (key, population)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ownerships (
    population INTEGER, digest BLOB, PRIMARY KEY (population, digest)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS owned (
    owner BLOB, population INTEGER, place INTEGER, key BLOB,
    PRIMARY KEY (owner, population, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS memberships (
    folder TEXT REFERENCES runs(folder) ON DELETE CASCADE, population INTEGER, roles BLOB
);
CREATE TABLE IF NOT EXISTS exposures (
    folder TEXT REFERENCES runs(folder) ON DELETE CASCADE,
    population INTEGER, attack TEXT, outsiders INTEGER, sides BLOB, above BLOB
);
CREATE TABLE IF NOT EXISTS deletions (
    number INTEGER PRIMARY KEY, hash TEXT, time TEXT, asked TEXT, method TEXT,
    before TEXT, after TEXT, evidence TEXT, level TEXT, records INTEGER
);
CREATE TABLE IF NOT EXISTS deleted (
    key BLOB, number INTEGER, PRIMARY KEY (key, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_fingerprint ON runs(fingerprint, kind, created);
CREATE INDEX IF NOT EXISTS by_time ON runs(created DESC, folder);
CREATE INDEX IF NOT EXISTS by_kind ON runs(kind, created DESC, folder);
CREATE INDEX IF NOT EXISTS by_run ON findings(folder);
CREATE INDEX IF NOT EXISTS by_child ON edges(child);
CREATE INDEX IF NOT EXISTS by_parent ON edges(parent);
CREATE INDEX IF NOT EXISTS by_edge_folder ON edges(folder);
CREATE INDEX IF NOT EXISTS by_subject ON subjects(fingerprint);
CREATE INDEX IF NOT EXISTS by_subject_folder ON subjects(folder);
CREATE INDEX IF NOT EXISTS by_population ON memberships(population);
CREATE INDEX IF NOT EXISTS by_member_folder ON memberships(folder);
CREATE INDEX IF NOT EXISTS by_asked_population ON exposures(population);
CREATE INDEX IF NOT EXISTS by_exposure_folder ON exposures(folder);
"""


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Be the only one who writes a store's index, or puts another in its place.

    A journal is known by its name alone: one of the old file must never be taken for the new one's.
    """
    with (root / f".{FILE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def opened(path: Path) -> sqlite3.Connection:
    """An index for writing, with its tables.

    Raises:
        EngramError: The file is no database.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        base = sqlite3.connect(path, timeout=30)
        base.executescript(TABLES)
        base.execute(f"PRAGMA user_version = {VERSION}")
        base.execute("PRAGMA foreign_keys = ON")
    except sqlite3.DatabaseError as problem:
        raise broken(path, problem) from None
    return base


@contextmanager
def opened_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """An index that cannot be written through this connection, while nobody else writes it.

    Raises:
        EngramError: There is none, or it is no database, or what it holds is damaged.
    """
    with _unchanged(path.parent):
        base = None
        try:
            base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)
            yield base
        except sqlite3.DatabaseError as problem:
            raise broken(path, problem) from None
        finally:
            if base is not None:
                base.close()


@contextmanager
def _unchanged(root: Path) -> Iterator[None]:
    """Keep writers away; nothing is made for it, so that a store can be only readable."""
    try:
        lock = (root / f".{FILE}.lock").open("r")
    except OSError:  # nobody wrote here yet, or it may not be read
        yield
        return
    with lock:
        last = time.monotonic() + WAIT
        while not _shared(lock.fileno()):
            if time.monotonic() > last:
                raise EngramError(
                    f"the index of {root} is held by another process for {WAIT:.0f} seconds",
                    hint="is an `engram` of that store suspended? Let it end, then ask again",
                )
            time.sleep(0.01)
        yield


def _shared(lock: int) -> bool:
    """Whether the lock could be had beside other readers."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_current(path: Path) -> bool:
    """Whether there is an index, and it has the tables of this version.

    Raises:
        EngramError: The file is no database.
    """
    if not path.is_file():
        return False
    with opened_to_read(path) as base:
        return base.execute("PRAGMA user_version").fetchone()[0] == VERSION


def broken(path: Path, problem: Exception) -> EngramError:
    """The error that an index cannot be read, or not be made."""
    if not path.parent.is_dir():
        return EngramError(
            f"there is no store at {path.parent} any more",
            hint="was it moved, deleted, or is its disk away? Name another with --store",
        )
    if not path.exists() and not os.access(path.parent, os.W_OK):
        return EngramError(
            f"the store {path.parent} has no index, and may not be written to",
            hint="`engram reindex`, by somebody who may write there, makes the index once",
        )
    return EngramError(
        f"the index {path} cannot be opened ({problem})",
        hint="`engram reindex` makes it again from the run folders",
    )
