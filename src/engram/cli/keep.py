"""`engram report` and `engram reindex`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from engram import report as writing
from engram.cli.output import tell
from engram.cli.parse import Common, Printed, parse
from engram.core import EngramError
from engram.store import reindex as remake


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
    tell(
        {"store": str(options.root), "indexed": count},
        [f"{count:,} finished runs and targets in {options.root}"],
        options.json,
    )
    return 0
