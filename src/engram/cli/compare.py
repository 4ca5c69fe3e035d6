"""`engram compare TARGET...`: defences side by side."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import tyro

from engram.cli.output import make_run, tell
from engram.cli.parse import Common, Printed, parse
from engram.engine import Reading, load
from engram.engine import compare as run_compare
from engram.store import read_json

NARROWEST = 110
"""Columns that the table takes where nobody says how wide the terminal is."""
BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class CompareOptions(Common):
    """Options of `engram compare`."""

    targets: tyro.conf.Positional[tuple[str, ...]] = ()
    """Folders of two or more targets that were trained on the same records."""
    at: float | None = None
    """The validation perplexity at which they are compared; by default the best that every
    training reached."""
    battery: str = "standard"
    """Of the audits: quick, standard or thorough. Audits that were made before are found."""
    data: str = ""
    """The data that the targets were trained on, if it has moved."""
    batch_tokens: int = 4096
    """Tokens in one forward pass."""
    out: Path | None = None
    """Folder of the comparison; by default one in the store, named by its inputs."""


def compare(args: list[str]) -> int:
    """`engram compare TARGET TARGET ...`."""
    try:
        options = parse("engram compare", args, CompareOptions).options
    except Printed:
        return 0
    run = make_run(options, replace(Reading(), batch_tokens=options.batch_tokens))
    targets = [load(where, run.device, root=run.root) for where in options.targets]
    done = run_compare(
        targets, run, at=options.at, battery=options.battery, data=options.data, out=options.out
    )
    path = done.folder / "report.html"
    found = read_json(done.folder / "report.json")
    tell({**found, "report": str(path), "run": str(done.folder)}, _lines(done.document, path),
         options.json)  # fmt: skip
    return 0


def _lines(document: Mapping[str, Any], path: Path) -> list[str]:
    level, reason = document["matched"]["at"], document["matched"]["reason"]
    lines = [document["verdict"]["sentence"], "", _table(document, "cells", "As trained")]
    if level is None:
        lines.append(f"Not compared at matched perplexity: {reason}.")
    else:
        title = f"At a validation perplexity of {level:.4g} ({reason}); bars: epoch by epoch"
        lines.append(_table(document, "matched", title))
    for row in document["targets"]:
        if row["guarantee"]:
            lines.append(f"{row['name']}: guarantee {row['guarantee']}")
    lines += [f"warning: {warning}" for warning in document["warnings"]]
    return [*lines, "", f"report: {path}"]


def _table(document: Mapping[str, Any], which: str, title: str) -> str:
    """A table with a row a target: value over interval, and how it went while training."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    asked = [q for q in document["questions"] if which == "cells" or q["key"]]
    table = Table(title=title, title_justify="left", title_style="bold", show_lines=True)
    table.add_column("target", overflow="fold")
    for question in asked:
        table.add_column(question["name"] + (f" ({question['unit']})" if question["unit"] else ""))
    if which == "matched":
        table.add_column("epoch")
    for row in document["targets"]:
        cells = [_cell(cell) for cell in row[which]]
        if which == "matched":
            courses = [sparkline(_course(row, question["key"])) for question in asked]
            cells = [f"{cell}\n{drawn}" for cell, drawn in zip(cells, courses, strict=True)]
            cells.append("-" if row["epoch"] is None else f"{row['epoch']:.2f}")
        table.add_row(Text(row["name"]), *(Text(cell) for cell in cells))
    text, real = StringIO(), Console()
    width = real.width if sys.stdout.isatty() else max(real.width, NARROWEST)
    Console(file=text, width=width).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


def _cell(finding: Mapping[str, Any]) -> str:
    if finding["value"] is None:
        return f"-\n{finding['note']}"
    digits = ".1f" if abs(finding["value"]) >= 10 else ".3f"
    value, low, high = (format(finding[key], digits) for key in ("value", "low", "high"))
    return f"{value}\n[{low}, {high}]"


def _course(row: Mapping[str, Any], key: str) -> list[float]:
    return [entry[key] for entry in row["trace"] if key in entry]


def sparkline(values: Sequence[float], width: int = 16) -> str:
    """A line of bars from the least to the largest value; at most `width` of them.

    >>> sparkline([0.0, 1.0, 2.0, 7.0])
    '▁▂▃█'
    """
    if not values:
        return ""
    step = -(-len(values) // width)
    shown = [*values[::step]]
    if (len(values) - 1) % step:
        shown[-1:] = [values[-1]] if len(shown) == width else [shown[-1], values[-1]]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(BARS[min(7, int(8 * (value - low) / span))] for value in shown)
