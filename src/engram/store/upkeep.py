"""What a store takes on the disk, and what of it can go without losing a result.

Only two things may go. Work that was given up: folders of trainings that nobody is at, and what
was half-written. And answers that can be asked for again: the cache of signals. Targets, audits,
evidence and the ledger of deletion requests are results, and are never touched.
"""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engram import __version__
from engram.core import EngramError
from engram.store.folders import RECORD, TARGET, read_json
from engram.store.index import FILE as INDEX
from engram.store.index import finished, place_of, rows
from engram.store.tables import is_current

SIGNALS, WORK, INCOMING = "signals", ".work-", ".incoming"
GIVEN_UP, CACHED = "work that was given up", "answers that can be asked for again"


@dataclass(frozen=True)
class Share:
    """One kind of thing in a store: how many, and how many bytes."""

    what: str
    count: int
    size: int


@dataclass(frozen=True)
class Dispensable:
    """Something that can go."""

    path: Path
    why: str
    size: int


def shares(root: Path) -> list[Share]:
    """What a store holds, by kind; empty where there is none."""
    if not root.is_dir():
        return []
    found: dict[str, list[int]] = {}
    for path in sorted(root.iterdir()):
        found.setdefault(_kind(path), []).append(size_of(path))
    return [Share(what, len(sizes), sum(sizes)) for what, sizes in sorted(found.items())]


def _kind(path: Path) -> str:
    if (path / RECORD).is_file():
        return "audits and stories"
    if (path / TARGET).is_file():
        return "targets"
    if path.name == SIGNALS:
        return "cached answers"
    if path.name.startswith(INDEX):
        return "index"
    return "unfinished or other" if path.is_dir() else "other files"


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; links are not followed."""
    if path.is_symlink():
        return 0
    if not path.is_dir():
        return _bytes(path)
    total = 0
    for folder, _, names in os.walk(path):
        total += sum(_bytes(Path(folder, name)) for name in names)
    return total


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # it has gone since it was listed
        return 0


def unreadable(root: Path) -> list[tuple[Path, str]]:
    """Finished folders that the index does not hold, each with the reason.

    Only those are opened, so that a store of many runs is soon looked through. Nothing is written.
    """
    if not root.is_dir():
        return []
    try:
        indexed = is_current(root / INDEX)  # else to ask would make it again
        known = {row.folder for row in rows(root)} if indexed else set()
    except (EngramError, OSError, sqlite3.Error) as problem:
        return [(root / INDEX, f"{problem}; `engram reindex` makes it again")]
    left = [folder for folder in finished(root) if place_of(root, folder) not in known]
    told = [(folder, _reason(folder)) for folder in left]
    if indexed:
        return [
            (f, why or "is not in the index; `engram reindex` puts it there") for f, why in told
        ]
    return [(folder, why) for folder, why in told if why]


def _reason(folder: Path) -> str:
    """What is wrong with a finished folder's record; empty: nothing."""
    name = RECORD if (folder / RECORD).is_file() else TARGET
    try:
        record = read_json(folder / name)
    except EngramError as problem:
        return f"{name} {str(problem).removeprefix(f'{folder / name} ')}"
    made_by = record.get("engram", "")
    if made_by != __version__:
        return f"{name} is of Engram {str(made_by)[:20] or 'unknown'}, this is {__version__}"
    return "" if "id" in record else f"{name} is damaged: it has no 'id'"


def dispensable(root: Path, *, cached: bool = False) -> list[Dispensable]:
    """What can go: work that was given up, and cached answers if they are asked for.

    Raises:
        EngramError: There is no store there, or the folder is none.
    """
    _check_store(root)
    found = [Dispensable(p, GIVEN_UP, size_of(p)) for p in _given_up(root)]
    if cached and (root / SIGNALS).is_dir() and not (root / SIGNALS).is_symlink():
        inside = [path for path in sorted((root / SIGNALS).iterdir()) if not _held(path)]
        found += [Dispensable(p, CACHED, size_of(p)) for p in inside]
    return found


def prune(root: Path, things: list[Dispensable]) -> int:
    """Delete what was found; returns the bytes that it took.

    Raises:
        EngramError: Something would be deleted that does not lie in the store.
        OSError: Something cannot be deleted.
    """
    home = root.resolve()
    for thing in things:
        if not thing.path.parent.resolve().is_relative_to(home):
            raise EngramError(
                f"{thing.path} does not lie in the store {root}",
                hint="links in a store are not followed; delete it yourself if it may go",
            )
    for thing in things:
        if thing.path.is_symlink() or not thing.path.is_dir():
            thing.path.unlink(missing_ok=True)
        elif thing.path.exists():
            shutil.rmtree(thing.path)
    return sum(thing.size for thing in things)


def _check_store(root: Path) -> None:
    if not root.is_dir():
        what = f"{root} is a file, not a store" if root.exists() else f"there is no store at {root}"
        raise EngramError(what, hint="name another with --store, or make a run first")
    if not ((root / INDEX).is_file() or (root / SIGNALS).is_dir() or any(_records(root))):
        raise EngramError(
            f"{root} does not look like a store: it has no run, no index and no cached answers",
            hint="name the store with --store, or in ENGRAM_RUNS",
        )


def _records(root: Path) -> Iterator[Path]:
    for name in (RECORD, TARGET):
        yield from root.glob(f"*/{name}")


def _given_up(root: Path) -> Iterator[Path]:
    """Folders without a record whose training nobody is at, and what finished ones left behind."""
    for folder in sorted(root.iterdir()):
        if folder.is_symlink() or not folder.is_dir() or folder.name == SIGNALS:
            continue
        finished = (folder / RECORD).is_file() or (folder / TARGET).is_file()
        work = [path for path in folder.iterdir() if _is_work(path)]
        incoming = folder / INCOMING
        if not (work or (finished and incoming.is_dir())) or any(_held(path) for path in work):
            continue
        yield from [*work, *[incoming] * incoming.is_dir()] if finished else [folder]


def _is_work(path: Path) -> bool:
    """Whether it is a folder that a training of ours worked in: its first file is its lock.

    Folders of the same name that others made in a folder which is used as a store are theirs.
    """
    return path.name.startswith(WORK) and not path.is_symlink() and (path / "lock").is_file()


def _held(work: Path) -> bool:
    """Whether a process is at this work."""
    try:
        with (work / "lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock file: nobody can be at it
        return False
    return False
