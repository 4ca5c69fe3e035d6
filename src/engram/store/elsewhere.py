"""Folders that a store's commands made outside of it: with `--out`, targets lie where one works.

Only where they are is kept, a JSON string a line in `elsewhere.jsonl`, so that an index that is
made again finds them. One that is beside the store is named from there, so that both can be moved
together. A folder that has gone is passed over.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from engram.store.folders import RECORD, TARGET

FILE = "elsewhere.jsonl"
LARGEST = 2**24
"""Bytes of the file that are read."""


def remember(root: Path, folder: Path) -> None:
    """Write down where a finished folder is; the caller holds the index's lock."""
    home, place = root.resolve(), folder.resolve()
    named = os.path.relpath(place, home) if place.is_relative_to(home.parent) else str(place)
    if named not in _named(root):
        with (root / FILE).open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(json.dumps(named) + "\n")


def folders(root: Path) -> Iterator[Path]:
    """Those folders that are still there and have a record."""
    for place in places(root):
        if any((place / name).is_file() for name in (RECORD, TARGET)):
            yield place


def places(root: Path) -> Iterator[Path]:
    """Those folders that are still there, whatever is in them."""
    home = root.resolve()
    for named in _named(root):
        with suppress(OSError, ValueError):  # a name that no file can have
            place = (home / named).resolve()
            if place.is_dir() and not place.is_relative_to(home):
                yield place


def _named(root: Path) -> dict[str, None]:
    """What the file says, in order, each once; a damaged line is left out."""
    found: dict[str, None] = {}
    try:
        with (root / FILE).open("rb") as file:
            lines = file.read(LARGEST).splitlines()
    except OSError:
        return found
    for line in lines:
        with suppress(ValueError, RecursionError):
            if isinstance(named := json.loads(line), str):
                found[named] = None
    return found
