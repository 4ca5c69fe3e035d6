"""Run folders: same inputs, same id; the record is written last and in one step."""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from engram.core import EngramError

RECORD = "run.json"
TARGET = "target.json"
LOG = "log.jsonl"
LARGEST_RECORD = 64 * 2**20
"""A record from outside that is larger than this is refused, in bytes."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = ("no space left", "file too large", "disk quota", "disk is full")


def default_root() -> Path:
    """Where runs are kept: the folder named by `ENGRAM_RUNS`, else `runs` here."""
    return Path(os.environ.get("ENGRAM_RUNS") or "runs")


def run_id(method: str, /, **inputs: Any) -> str:
    """A name that is the same for the same inputs: `audit-1f0c52ab9d`.

    The inputs must be plain JSON values; anything else is an error, not a guess.
    """
    text = json.dumps(inputs, sort_keys=True, allow_nan=False)
    return f"{method}-{sha256(text.encode()).hexdigest()[:10]}"


def write_json(path: Path, document: Mapping[str, Any]) -> Path:
    """Write a JSON file in one step: it is there whole, or not at all."""
    part = path.with_name(path.name + ".part")
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False, default=_plain)
    with disk_errors(path.parent):
        try:
            with part.open("w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            return part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from outside: size-limited, and an error that says what is wrong."""
    try:
        size = path.stat().st_size
        if size > LARGEST_RECORD:
            raise EngramError(
                f"{path} has {size:,} bytes; more than {LARGEST_RECORD:,} are not read",
                hint="this does not look like a record that Engram wrote",
            )
        document = json.loads(path.read_bytes().decode("utf-8"))
    except OSError as problem:
        raise EngramError(
            f"{path} cannot be read ({problem.strerror})", hint="is the path right?"
        ) from None
    except (ValueError, RecursionError) as problem:
        raise EngramError(
            f"{path} is not valid JSON ({str(problem)[:120]})",
            hint="the file may be damaged: make it again",
        ) from None
    if not isinstance(document, dict):
        raise EngramError(f"{path} holds {type(document).__name__}, not a JSON object")
    return document


def is_complete(folder: Path) -> bool:
    """Whether a run folder has its record."""
    return (folder / RECORD).is_file()


def save_record(folder: Path, document: Mapping[str, Any]) -> Path:
    """Write `run.json`, last of all: a folder that has one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_json(folder / RECORD, document)


def load_record(folder: Path) -> dict[str, Any]:
    """Read `run.json` of a complete run folder."""
    if not is_complete(folder):
        raise EngramError(
            f"{folder} is not a finished run: it has no {RECORD}",
            hint="`engram ls runs` lists the finished ones; start the same command again to resume",
        )
    return read_json(folder / RECORD)


class DiskFullError(EngramError):
    """The disk is full. What was finished before is kept."""


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk into one clear error, whichever library met it."""
    try:
        yield
    except EngramError:
        raise
    except Exception as problem:
        if not _is_full(problem):
            raise
        free = shutil.disk_usage(_existing(folder)).free
        raise DiskFullError(
            f"the disk is full: could not write to {folder} ({free:,} bytes are free)",
            hint="free some space, or choose another place with --out or --store; what was "
            "finished before is kept, and the same command goes on from there",
        ) from problem


def _is_full(problem: BaseException) -> bool:
    if isinstance(problem, OSError) and problem.errno in _FULL:
        return True
    return any(word in str(problem).lower() for word in _FULL_WORDS)


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON")
