"""`engram report`, `engram reindex` and `engram verify`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from engram import report as writing
from engram.cli.output import tell
from engram.cli.parse import Common, Printed, parse
from engram.core import EngramError
from engram.store import read_json
from engram.store import reindex as remake
from engram.store.upkeep import unreadable


@dataclass(frozen=True)
class ReportOptions(Common):
    """Options of `engram report`."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Folders of finished runs."""
    out: Path | None = None
    """Folder to write to; by default each run's own."""


def report(args: list[str]) -> int:
    """`engram report RUN...`: write the report of finished runs again."""
    try:
        options = parse("engram report", args, ReportOptions).options
    except Printed:
        return 0
    if not options.runs:
        raise EngramError("RUN is missing", hint="engram report runs/audit-...")
    if options.out is not None and len(options.runs) > 1:
        raise EngramError(
            f"{len(options.runs)} reports cannot all go to {options.out}",
            hint="write them one by one, or leave --out away",
        )
    paths = [str(writing.write(Path(run), options.out)) for run in options.runs]
    tell({"reports": paths}, [f"report: {path}" for path in paths], options.json)
    return 0


def reindex(args: list[str]) -> int:
    """`engram reindex`: make the index of the store again."""
    try:
        options = parse("engram reindex", args, Common).options
    except Printed:
        return 0
    count = remake(options.root)
    left = [{"path": str(path), "why": why} for path, why in unreadable(options.root)]
    lines = [f"{count:,} finished runs and targets in {options.root}"]
    lines += [f"left out: {each['path']}: {each['why']}" for each in left]
    tell({"store": str(options.root), "indexed": count, "left_out": left}, lines, options.json)
    return 0


@dataclass(frozen=True)
class VerifyOptions(Common):
    """Options of `engram verify`."""

    what: tyro.conf.Positional[tuple[Path, ...]] = ()
    """A certificate.json, a target's folder, or both; without them the ledger alone is checked."""


def verify(args: list[str]) -> int:
    """`engram verify [CERTIFICATE] [TARGET]`: does the deletion ledger hold?"""
    try:
        options = parse("engram verify", args, VerifyOptions).options
    except Printed:
        return 0
    from engram.engine.deletion import verify as check_ledger  # which asks for torch

    if not options.root.is_dir():
        what = "is a file, not a store" if options.root.exists() else "is not there"
        raise EngramError(
            f"the store {options.root} {what}, so there is no ledger to check",
            hint="name the store with --store, or in ENGRAM_RUNS",
        )
    if lost := [path for path in options.what if not path.exists()]:
        raise EngramError(f"{lost[0]} cannot be read: it is not there", hint="is the path right?")
    files = [path for path in options.what if not path.is_dir()]
    folders = [path for path in options.what if path.is_dir()]
    if len(files) > 1 or len(folders) > 1:
        raise EngramError(
            f"{len(files)} files and {len(folders)} folders are given",
            hint="verify one certificate.json and one target at a time",
        )
    what = read_json(files[0]) if files else None
    found = check_ledger(options.root, what, folders[0] if folders else None)
    document = {"store": str(options.root), "entries": found.entries, "last": found.last,
                "says": list(found.says)}  # fmt: skip
    plural = "entry" if found.entries == 1 else "entries"
    lines = [f"the deletion ledger of {options.root} is whole: {found.entries:,} {plural}"]
    tell(document, [*lines, *found.says], options.json)
    return 0
