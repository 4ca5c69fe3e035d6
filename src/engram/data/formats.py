"""One reader a file format: bytes of an untrusted file -> `Rows`."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedIOBase
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engram.core.errors import EngramError
from engram.data.context import unpacked
from engram.data.lines import lines, too_long
from engram.data.rows import BLOCK, Rows, gathered, kind
from engram.data.sources import Limits, size

Reader = Callable[[BufferedIOBase, str, Limits, int | None], Rows]
"""Stream, its name, limits, and the most bytes in all (None: a plain file) -> rows."""


def read_jsonl(stream: BufferedIOBase, origin: str, limits: Limits, total: int | None) -> Rows:
    """One JSON object a line; blank lines are passed over."""
    return gathered(_objects(lines(stream, origin, limits, total), origin), origin, "line")


def read_json(stream: BufferedIOBase, origin: str, limits: Limits, total: int | None) -> Rows:
    """One JSON array of objects."""
    most = min(limits.total, 2**30) if total is None else min(total, 2**30)
    raw = stream.read(most + 1)
    if len(raw) > most:
        raise EngramError(
            f"{origin} is more than {size(most)} of JSON in one piece",
            hint="write one object a line and call it .jsonl: that is read line by line",
        )
    try:
        found = _parsed(raw.decode("utf-8-sig"), origin)
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise EngramError(
            f"{origin} is not UTF-8: byte 0x{raw[problem.start]:02x} at offset {problem.start} "
            f"(line {line})",
            hint="save it as UTF-8",
        ) from None
    if not isinstance(found, list):
        raise EngramError(
            f"{origin} holds {kind(found)}, but must hold a list of objects",
            hint='write [{"text": "..."}, ...], or one object a line in a .jsonl file',
        )
    return gathered(_numbered(found, origin), origin, "row")


def read_text(stream: BufferedIOBase, origin: str, limits: Limits, total: int | None) -> Rows:
    """One record a line; blank lines are passed over."""
    kept = ((n, line.rstrip("\r\n")) for n, line in lines(stream, origin, limits, total))
    return gathered(((n, {"text": line}) for n, line in kept if line.strip()), origin, "line")


def read_csv(stream: BufferedIOBase, origin: str, limits: Limits, total: int | None) -> Rows:
    """Comma-separated values with a header; quoted values may hold commas and line ends."""
    return _delimited(stream, origin, limits, total, ",")


def read_tsv(stream: BufferedIOBase, origin: str, limits: Limits, total: int | None) -> Rows:
    """Tab-separated values with a header."""
    return _delimited(stream, origin, limits, total, "\t")


def read_parquet(stream: BufferedIOBase, origin: str, limits: Limits, total: int | None) -> Rows:
    """A Parquet file, batch by batch."""
    most = limits.total if total is None else total
    try:
        file = pq.ParquetFile(stream)
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        _check_unfolded(sum(g.total_byte_size for g in groups), most, origin)
        shared = unpacked(file.schema_arrow.metadata, origin)
        schema = file.schema_arrow.remove_metadata()
        batches, held = [], 0
        for batch in file.iter_batches(batch_size=1024):
            held += batch.nbytes
            _check_unfolded(held, most, origin)
            batches.append(batch.replace_schema_metadata(None))
        table = pa.Table.from_batches(batches, schema)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as problem:
        raise EngramError(
            f"{origin} is not a readable Parquet file ({_short(problem)})",
            hint="it may be cut off or damaged; write it again",
        ) from None
    return Rows(plain(table), origin, shared=shared)


def plain(table: pa.Table) -> pa.Table:
    """Every string kind as `string`, dictionaries unfolded, pandas' index dropped."""
    columns = {}
    for name in table.column_names:
        if name.startswith("__index_level_"):
            continue
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
            column = column.cast(pa.string())
        columns[name] = column
    return pa.table(columns)


def _check_unfolded(found: int, most: int, origin: str) -> None:
    if found > most:
        raise EngramError(
            f"{origin} unfolds to more than {size(most)}", hint="split it into smaller files"
        )


def _objects(
    numbered: Iterator[tuple[int, str]], origin: str
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in numbered:
        if not line.strip():
            continue
        found = _parsed(line.rstrip("\r\n"), f"{origin}, line {number}")
        if not isinstance(found, dict):
            raise EngramError(
                f"{origin}, line {number} holds {kind(found)}, not an object",
                hint='write one record a line: {"text": "..."}',
            )
        yield number, found


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as problem:
        at = f"character {problem.colno}"
        if "\n" in text.strip():
            at = f"line {problem.lineno}, {at}"
        extra = "if each line is a record of its own, call the file .jsonl"
        hint = extra if problem.msg == "Extra data" else "each record must be whole, valid JSON"
        raise EngramError(f"{place} is not JSON: {problem.msg} at {at}", hint=hint) from None
    except (RecursionError, ValueError) as problem:
        raise EngramError(
            f"{place} is JSON that cannot be read ({_short(problem)})",
            hint="it is nested too deeply, or holds a number of thousands of digits",
        ) from None


def _numbered(found: list[Any], origin: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, row in enumerate(found, 1):
        if not isinstance(row, dict):
            raise EngramError(
                f"{origin}, row {number} holds {kind(row)}, not an object",
                hint='write [{"text": "..."}, ...]',
            )
        yield number, row


class _Feed:
    """Lines for `csv`, which asks for several where a quoted value has line ends in it."""

    def __init__(self, numbered: Iterator[tuple[int, str]], origin: str, limits: Limits) -> None:
        self.numbered, self.origin, self.limits = numbered, origin, limits
        self.start = 1
        self.last = 0
        self.held = 0

    def __iter__(self) -> "Iterator[str]":
        return self

    def __next__(self) -> str:
        self.last, line = next(self.numbered)
        if not self.held:
            self.start = self.last
        self.held += len(line)
        if self.held > self.limits.record:
            error = too_long(
                self.origin, f"the record from line {self.start}", f"over {size(self.held)}",
                self.limits,
            )  # fmt: skip
            error.hint += "; is a quote never closed?"
            raise error
        return line

    def next_record(self) -> None:
        self.held = 0


@contextmanager
def _csv_fields_up_to(limit: int) -> Iterator[None]:
    """The csv module knows one limit for the whole process: put the old one back."""
    before = csv.field_size_limit(limit)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _delimited(
    stream: BufferedIOBase, origin: str, limits: Limits, total: int | None, delimiter: str
) -> Rows:
    feed = _Feed(lines(stream, origin, limits, total), origin, limits)
    with _csv_fields_up_to(limits.record + 1):
        try:
            rows = csv.reader(feed, delimiter=delimiter, strict=True)
            header = _header(next(rows, []), origin)
            feed.next_record()
            return _columns(header, rows, feed)
        except csv.Error as problem:
            raise EngramError(
                f"{origin}, line {feed.start}: broken quoting ({problem})",
                hint='write a quote inside a quoted value twice: "he said ""no"""',
            ) from None


def _columns(header: list[str], rows: Iterator[list[str]], feed: _Feed) -> Rows:
    tables: list[pa.Table] = []
    places: list[int] = []
    held: list[list[str]] = []
    for row in rows:
        start = feed.start
        feed.next_record()
        if not row:  # a blank line
            continue
        if len(row) != len(header):
            raise EngramError(
                f"{feed.origin}, line {start} has {len(row)} values, but the header names "
                f"{len(header)} columns",
                hint="put a value that holds the separator into double quotes",
            )
        held.append(row)
        places.append(start)
        if len(held) == BLOCK:
            tables.append(_strings(header, held))
            held = []
    tables.append(_strings(header, held))
    table = pa.concat_tables(tables).combine_chunks()
    return Rows(table, feed.origin, np.array(places, dtype=np.int64), typed=False)


def _strings(header: list[str], rows: list[list[str]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [[] for _ in header]
    arrays = [pa.array(values, pa.string()) for values in columns]
    return pa.table(dict(zip(header, arrays, strict=True)))


def _header(names: list[str], origin: str) -> list[str]:
    names = [name.strip() or f"column_{i}" for i, name in enumerate(names, 1)]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise EngramError(
            f"{origin}: the header names {twice[0]!r} twice", hint="rename one of the columns"
        )
    return names


def _short(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}".splitlines()[0][:200]
