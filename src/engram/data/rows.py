"""Rows as they were read, with where each one stood, so that every error can name its place."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from engram.core.errors import EngramError

BLOCK = 8192
"""Rows that are turned into Arrow at a time."""

_KINDS = {
    str: "a string", bool: "true or false", int: "a number", float: "a number",
    list: "a list", dict: "an object", type(None): "null",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Rows:
    """A table from outside, not yet a `Split`.

    Attributes:
        table: The values.
        origin: The file's name, for messages.
        lines: Line in the file where each row starts, from 1; None where there are no lines.
        typed: False where every value is text still (CSV has no types).
        shared: What all records share, where the file says so.
    """

    table: pa.Table
    origin: str
    lines: Int[np.ndarray, " n"] | None = None
    typed: bool = True
    shared: Mapping[str, np.ndarray] = field(default_factory=dict)

    def where(self, row: int) -> str:
        """`line 7` or `row 7`, counted from 1."""
        return f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def gathered(numbered: Iterable[tuple[int, Mapping[str, Any]]], origin: str, unit: str) -> Rows:
    """Rows from mappings, block by block; a key that a mapping lacks is null there.

    Args:
        numbered: Line (or record) number and values.
        origin: The file's name, for messages.
        unit: "line" where the numbers are lines of the file, else "row".

    Raises:
        EngramError: A column holds values of different kinds (the place is named).
    """
    tables: list[pa.Table] = []
    places: list[int] = []
    stream: Iterator[tuple[int, Mapping[str, Any]]] = iter(numbered)
    while block := list(islice(stream, BLOCK)):
        tables.append(_table(block, origin, unit))
        places += [number for number, _ in block]
    if not tables:
        return Rows(pa.table({}), origin)
    lines = np.array(places) if unit == "line" else None
    return Rows(_stacked(tables, places, origin, unit), origin, lines)


def _table(block: list[tuple[int, Mapping[str, Any]]], origin: str, unit: str) -> pa.Table:
    names = list(dict.fromkeys(key for _, row in block for key in row))
    columns = {}
    for name in names:
        values = [row.get(name) for _, row in block]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, OverflowError, UnicodeError, ValueError) as problem:
            raise _mixed(name, values, [n for n, _ in block], origin, unit, problem) from None
    return pa.table(columns)


def _mixed(
    name: str, values: list[Any], places: list[int], origin: str, unit: str, problem: Exception
) -> EngramError:
    """Find the first value that Arrow could not put beside those before it."""
    first = next((v for v in values if v is not None), None)
    for place, value in zip(places, values, strict=True):
        if value is not None and kind(value) != kind(first):
            return EngramError(
                f"{origin}, {unit} {place}: {name!r} is {kind(value)}, but {kind(first)} before",
                hint=f"give {name!r} one kind of value everywhere, or take it out",
            )
        if _fails(value):
            return EngramError(
                f"{origin}, {unit} {place}: {name!r} holds a value that cannot be stored "
                f"({problem})",
                hint="half of a surrogate pair or a number over 64 bits must be written otherwise",
            )
    return EngramError(
        f"{origin}, from {unit} {places[0]}: the values of {name!r} do not fit together "
        f"({problem})",
        hint=f"give {name!r} one shape everywhere, or take it out",
    )


def _fails(value: object) -> bool:
    try:
        pa.array([value])
    except (pa.ArrowException, OverflowError, UnicodeError, ValueError):
        return True
    return False


def _stacked(tables: list[pa.Table], places: list[int], origin: str, unit: str) -> pa.Table:
    try:
        return pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    except pa.ArrowException as problem:
        known: dict[str, pa.DataType] = {}
        for block, table in enumerate(tables):
            for field in table.schema:
                before = known.setdefault(field.name, field.type)
                if before != field.type and not _mergeable(before, field):
                    raise EngramError(
                        f"{origin}, after {unit} {places[block * BLOCK]}: {field.name!r} is "
                        f"{field.type}, but {before} before",
                        hint=f"give {field.name!r} one kind of value everywhere, or take it out",
                    ) from None
        raise EngramError(f"{origin}: its rows do not fit together ({problem})") from None


def _mergeable(before: pa.DataType, field: pa.Field) -> bool:
    one, two = pa.schema([pa.field(field.name, before)]), pa.schema([field])
    try:
        pa.unify_schemas([one, two], promote_options="permissive")
    except pa.ArrowException:
        return False
    return True
