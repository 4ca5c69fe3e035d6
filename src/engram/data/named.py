"""Data sets by name: one file each in `sets/`, found by listing, never fetched from anywhere.

Files are looked for in `$ENGRAM_DATA/<folder>/`, compressed or not, and their content is checked
against a SHA-256 before a byte of it is parsed: so a set means the same records everywhere.
"""

import ast
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from engram.core.errors import EngramError
from engram.data.files import check_regular, opened
from engram.data.sources import Source, check_options, parted

HOME = Path(__file__).parent / "sets"
PLACE = "ENGRAM_DATA"
ENDINGS = ("", ".gz", ".xz")
"""Of a file that lies there as it is, or compressed."""


@dataclass(frozen=True)
class DataSet:
    """What a file in `sets/` says of its data.

    Attributes:
        folder: Its folder in `$ENGRAM_DATA`.
        source: Where it was published: repository, commit and path.
        licence: As stated there.
        files: SHA-256 of the content of each file (unpacked: `a.csv` may lie there as `a.csv.gz` or
            `a.csv.xz`).
        options: The options it takes, each with the values it may have, the default first; no
            values where it is a number.
        made: How the files were made from what was published, where they are not the same.
    """

    folder: str
    source: str
    licence: str
    files: Mapping[str, str]
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    made: str = ""


@cache
def sets() -> dict[str, Source]:
    """Every named set, by name, without importing its file."""
    found = {}
    for path in sorted(HOME.glob("[!_]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets
                 if isinstance(t, ast.Name)}  # fmt: skip
        summary = (ast.get_docstring(tree) or "").partition("\n")[0]
        name = path.stem.replace("_", "-")
        found[name] = Source(name, summary, "scores" if "SCORES" in names else "set")
    return found


def folder_of(name: str) -> str:
    """The folder in `$ENGRAM_DATA` in which a named set is looked for."""
    about: DataSet = import_module(f"engram.data.sets.{name.replace('-', '_')}").ABOUT
    return about.folder


def load(source: str) -> Any:
    """What the set's `load(files, options)` makes: a `Split`, or a table of scores.

    Raises:
        EngramError: Its files are not here or are others, or an option is unknown.
    """
    base, options = parted(source)
    module = import_module(f"engram.data.sets.{base.replace('-', '_')}")
    about: DataSet = module.ABOUT
    check_options(base, options, about.options)
    for name, allowed in about.options.items():
        if allowed and options.setdefault(name, allowed[0]) not in allowed:
            raise EngramError(
                f"{base!r}: the option {name} is {options[name]!r}, but must be one of "
                f"{', '.join(allowed)}",
                hint=f"{base}?{name}={allowed[0]}",
            )
    wanted = module.files(options) if hasattr(module, "files") else tuple(about.files)
    return module.load({name: content(base, about, name) for name in wanted}, options)


def content(base: str, about: DataSet, name: str) -> bytes:
    """The checked content of one file of a set."""
    place = os.environ.get(PLACE, "")
    found = [Path(place, about.folder, name + end) for end in ENDINGS] if place else []
    path = next((p for p in found if p.exists()), None)
    if path is None:
        where = f"in {found[0].parent}" if found else f"anywhere: {PLACE} is not set"
        made = f" ({about.made})" if about.made else ""
        raise EngramError(
            f"the file {name} of the data set {base!r} is not {where}",
            hint=f"it is published at {about.source}{made}; put it into a folder "
            f"{about.folder}/ and set {PLACE} to the folder around that",
        )
    check_regular(path)
    with opened(path, path.name != name) as stream:
        raw = stream.read(2**30)  # no set of ours is near 1 GB
    if (digest := sha256(raw).hexdigest()) != about.files[name]:
        raise EngramError(
            f"{path} has the checksum {digest[:16]}..., but the data set {base!r} has "
            f"{about.files[name][:16]}...",
            hint=f"take the file from {about.source}, or name your own file by its path",
        )
    return raw
