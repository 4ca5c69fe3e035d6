"""`engram compare TARGET...`: defences side by side."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from textwrap import wrap
from typing import Any

import tyro

from engram.cli.output import make_run, tell
from engram.cli.parse import Common, Printed, parse
from engram.cli.plain import plain
from engram.engine import Reading, load
from engram.engine import compare as run_compare
from engram.store import read_json

WIDEST = 10_000
"""Columns that a table is measured in."""
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
    lines = [document["verdict"]["sentence"], "", *_block(document, "cells", "As trained"), ""]
    if level is None:
        lines.append(f"Not compared at matched perplexity: {reason}.")
    else:
        title = (
            f"At a validation perplexity of {level:.4g} ({reason}); bars: epoch by epoch, "
            "on one scale for all targets"
        )
        lines += [*_block(document, "matched", title), ""]
    for row in document["targets"]:
        if row["guarantee"]:
            lines.append(f"{row['name']}: guarantee {row['guarantee']}")
    lines += [f"warning: {warning}" for warning in document["warnings"]]
    return [*lines, f"report: {path}"]


def _block(document: Mapping[str, Any], which: str, title: str) -> list[str]:
    """A table with a row a target; where it would not fit, the targets one under another.

    A number is never cut: half a number is another number.
    """
    asked = [q for q in document["questions"] if which == "cells" or q["key"]]
    heads = [q["name"] + (f" ({q['unit']})" if q["unit"] else "") for q in asked]
    rows = [
        (row["name"], [_cell(cell) for cell in row[which]], drawn, row["epoch"])
        for row, drawn in zip(document["targets"], _courses(document, which, asked), strict=True)
    ]
    table = _table(heads, rows, which == "matched")
    return _wrapped(title, _width()) + (_fitting(table) or _stacked(heads, rows))


Shown = tuple[str, list[tuple[str, str]], list[str], float | None]
"""A target's name, its values with their intervals, its courses, and the epoch."""


def _courses(
    document: Mapping[str, Any], which: str, asked: Sequence[Mapping[str, Any]]
) -> list[list[str]]:
    """How each number went while each target trained, on one scale a number; by target."""
    every = [[_course(row, question["key"]) for question in asked] for row in document["targets"]]
    if which == "cells":
        return [[""] * len(asked) for _ in every]
    ends = []
    for column in zip(*every, strict=True):
        values = [value for course in column for value in course]
        ends.append((min(values), max(values)) if values else (0.0, 0.0))
    return [
        [sparkline(course, ends=span) for course, span in zip(courses, ends, strict=True)]
        for courses in every
    ]


def _table(heads: Sequence[str], rows: Sequence[Shown], epochs: bool) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True)
    table.add_column("target", no_wrap=True)
    for head in heads:
        table.add_column("\n".join(wrap(head, 18)), no_wrap=True)
    if epochs:
        table.add_column("epoch", no_wrap=True)
    for name, cells, courses, epoch in rows:
        shown = [
            "\n".join(part for part in (value, *wrap(low_high, 24), course) if part)
            for (value, low_high), course in zip(cells, courses, strict=True)
        ]
        last = ["-" if epoch is None else f"{epoch:.2f}"] if epochs else []
        named = "\n".join(wrap(plain(name, keep=""), 28))
        table.add_row(Text(named), *map(Text, [*shown, *last]))
    return table


def _fitting(table: Any) -> list[str]:
    """The table's lines, or none where the terminal is too narrow; a file has no width."""
    from rich.console import Console

    wide = Console(width=WIDEST, file=StringIO())
    needed = table.__rich_measure__(wide, wide.options).maximum
    if sys.stdout.isatty() and needed > _width():
        return []
    text = StringIO()
    Console(file=text, width=needed).print(table)
    return [line.rstrip() for line in text.getvalue().rstrip().splitlines()]


def _stacked(heads: Sequence[str], rows: Sequence[Shown]) -> list[str]:
    """Target by target, a line or two for each number."""
    lines: list[str] = []
    widest = max(map(len, heads), default=0)
    for name, cells, courses, epoch in rows:
        at = f", epoch {epoch:.2f}" if any(courses) and epoch is not None else ""
        lines.append(plain(name, keep="") + at)
        for head, (value, low_high), course in zip(heads, cells, courses, strict=True):
            parts = [head.ljust(widest), f"{value} {low_high}".ljust(20), course]
            together = "  " + "  ".join(parts).rstrip()
            apart = [f"  {head}", *(f"    {part}".rstrip() for part in parts[1:] if part)]
            lines += [together] if len(together) <= _width() else apart
    return lines


def _width() -> int:
    from rich.console import Console

    return Console().width


def _wrapped(title: str, width: int) -> list[str]:
    return wrap(title, max(width, 20)) if sys.stdout.isatty() else [title]


def _cell(finding: Mapping[str, Any]) -> tuple[str, str]:
    if finding["value"] is None:
        return "-", finding["note"]
    digits = ".1f" if abs(finding["value"]) >= 10 else ".3f"
    value, low, high = (format(finding[key], digits) for key in ("value", "low", "high"))
    alone = finding["n"] == 1 and finding["low"] == finding["high"]
    return value, "n = 1" if alone else f"[{low}, {high}]"


def _course(row: Mapping[str, Any], key: str) -> list[float]:
    return [entry[key] for entry in row["trace"] if key in entry]


def sparkline(
    values: Sequence[float], width: int = 16, ends: tuple[float, float] | None = None
) -> str:
    """A line of bars from the least to the largest value; at most `width` of them.

    Args:
        values: In order.
        width: The most bars.
        ends: Values of the lowest and of the highest bar; None: the least and the largest.

    >>> sparkline([0.0, 1.0, 2.0, 7.0])
    '▁▂▃█'
    """
    if not values:
        return ""
    step = -(-len(values) // width)
    shown = [*values[::step]]
    if (len(values) - 1) % step:
        shown[-1:] = [values[-1]] if len(shown) == width else [shown[-1], values[-1]]
    low, high = ends or (min(values), max(values))
    span = (high - low) or 1.0
    return "".join(BARS[min(7, int(8 * (value - low) / span))] for value in shown)
