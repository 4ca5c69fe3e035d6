"""Work that is going on: folders that have no record yet, and what their logs say.

Nothing is locked to find out: who looks must never make a training believe that another one is at
its work. Where the system lists its locks, they are read there.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from engram.store import elsewhere
from engram.store.contents import number
from engram.store.folders import LOG, RECORD, TARGET

WORK = ".work-"
LOCKS = Path("/proc/locks")
TAIL = 256 * 1024
"""Bytes of a log, from its end, that are read."""
AT_MOST = 40
SCRATCH = "scratch"
"""Where commands that leave no folder in the store write their log, which outlives them."""
QUIET = 120.0
"""Seconds after which a log that nothing is written to counts as stopped, where locks are not
listed."""


@dataclass(frozen=True)
class Job:
    """Work in progress.

    Attributes:
        folder: Where its result will be: below the store, or elsewhere from the root of all.
        alive: Whether a process is at it; None where that is not known.
        since: Seconds since the last line of its log.
        lines: The last lines of the log, oldest first.
    """

    folder: str
    alive: bool | None
    since: float
    lines: tuple[Mapping[str, Any], ...]

    def course(self, key: str) -> list[tuple[float, float]]:
        """Step and value of every line that has this number."""
        rows = enumerate(self.lines)
        found = ((drawable(line.get("step")), drawable(line.get(key)), n) for n, line in rows)
        return [(float(n) if x is None else x, y) for x, y, n in found if y is not None]


def running(root: Path) -> list[Job]:
    """Jobs of a store, the liveliest first; at most `AT_MOST`."""
    held = _held()
    found = [_job(root, work, held) for work in works(root)]
    found = [job for job in found if job.folder != SCRATCH or job.alive]
    return sorted(found, key=lambda job: (not job.alive, job.since))[:AT_MOST]


def works(root: Path) -> list[Path]:
    """Folders of work whose result is not there yet."""
    if not root.is_dir():
        return []
    found = []
    own = (
        Path(entry.path)
        for entry in os.scandir(root)
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
    )
    for folder in chain(own, elsewhere.places(root)):
        if (folder / TARGET).is_file() or (folder / RECORD).is_file():
            continue
        if (folder / LOG).is_file():
            found.append(folder)
        found += [path for path in folder.glob(f"{WORK}*") if (path / LOG).is_file()]
    return found


def _job(root: Path, work: Path, held: frozenset[int] | None) -> Job:
    log = work / LOG
    try:
        since = max(0.0, time.time() - log.stat().st_mtime)
        inode = (work / "lock").stat().st_ino if (work / "lock").is_file() else 0
    except OSError:  # finished since it was listed
        since, inode = math.inf, 0
    alive = inode in held if held is not None and inode else since < QUIET or None
    folder = work.parent if work.name.startswith(WORK) else work
    inside = folder.relative_to(root) if folder.is_relative_to(root) else folder
    return Job(inside.as_posix(), alive, since, _lines(log))


def _held() -> frozenset[int] | None:
    """Inodes of locked files; None where the system does not list them."""
    try:
        lines = LOCKS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    places = (part for line in lines for part in line.split() if part.count(":") == 2)
    return frozenset(int(place.rpartition(":")[2]) for place in places if place[-1].isdigit())


def _lines(log: Path) -> tuple[Mapping[str, Any], ...]:
    """The end of a log; what is not a JSON object is left out."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            text = file.read(TAIL)
    except OSError:
        return ()
    found = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return tuple(found)


def drawable(value: object) -> float | None:
    """A number that an axis can hold, or None."""
    found = number(value)
    return None if found is None or abs(found) > 1e300 else found
