"""Which column is the text, the owner, the id, the label: rows from outside -> a `Split`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engram.core.errors import EngramError, nearest
from engram.core.randomness import stream
from engram.core.split import CANARY, ID, OWNER, Split
from engram.data.lines import too_long
from engram.data.rows import Rows
from engram.data.sources import Limits, size
from engram.data.tabular import features_and_label, is_number, label_codes

TEXT, LABEL, FEATURES = "text", "label", "features"
IMAGE, PROMPT = "image", "prompt"
_YES, _NO = frozenset({"true", "1", "1.0", "yes"}), frozenset({"false", "0", "0.0", "no", ""})


@dataclass(frozen=True)
class Wanted:
    """What the user said about the columns, and how many records to take."""

    text: str | None = None
    owner: str | None = None
    id: str | None = None
    label: str | None = None
    limit: int | None = None
    seed: int = 0


def to_split(rows: Rows, name: str, wanted: Wanted, limits: Limits) -> Split:
    """Choose and check the columns.

    Raises:
        EngramError: No records, an unknown column, no text, a null, a duplicate id, ...
    """
    if not rows.table.num_rows:
        what = f"has a header ({', '.join(rows.table.column_names)}) but no records"
        if not rows.table.column_names:
            what = "holds no records"
        raise EngramError(f"{rows.origin} {what}", hint="write at least one record into it")
    rows = renamed(rows, wanted)
    table, shared = rows.table, {}
    text = _text_column(rows, wanted)
    if text is not None:
        table = _with_text(rows, text, limits)
        if wanted.label is not None or LABEL in table.column_names:
            table, shared = _with_label(rows, table)
    elif _shows_pictures(rows):
        pass  # what a picture may be is the family's affair
    elif FEATURES not in table.column_names:
        table, shared = features_and_label(rows, LABEL, (ID, OWNER, CANARY))
    else:
        table = _with_features(rows)
    for column in (ID, OWNER, CANARY):
        if column in table.column_names:
            table = _with_reserved(rows, table, column)
    kept = sampled(table.num_rows, wanted.limit, wanted.seed)
    shared = {**rows.shared, **shared}
    return Split.from_table(name, table if kept is None else table.take(kept), shared=shared)


def sampled(n: int, limit: int | None, seed: int) -> np.ndarray | None:
    """Row numbers of at most `limit` records, drawn at random, in file order; None for all."""
    if limit is None or limit >= n:
        return None
    if limit < 1:
        raise EngramError(f"the limit is {limit} records, but must be at least 1")
    return np.sort(stream(seed, "data", "limit").choice(n, limit, replace=False))


def _check_known(rows: Rows, column: str | None) -> None:
    names = rows.table.column_names
    if column is not None and column not in names:
        raise EngramError(
            f"{rows.origin} has no column {column!r}; it has {', '.join(names)}",
            hint=nearest(column, names, "name one of those"),
        )


def renamed(rows: Rows, wanted: Wanted) -> Rows:
    """Give the columns that the user named their own names: `owner`, `id`, `label`.

    A column that already has such a name, and is not the one that was named, is left out.

    Raises:
        EngramError: There is no such column, or one was named for two things.
    """
    for column in (wanted.text, wanted.owner, wanted.id, wanted.label):
        _check_known(rows, column)
    said = {OWNER: wanted.owner, ID: wanted.id, LABEL: wanted.label}
    given = [old for old in (*said.values(), wanted.text) if old is not None]
    if twice := [old for old in given if given.count(old) > 1]:
        raise EngramError(
            f"{rows.origin}: the column {twice[0]!r} was named for two things",
            hint="text, owner, id and label are four different columns",
        )
    names = {old: new for new, old in said.items() if old is not None}
    replaced = set(names.values()) - set(given)
    kept = [c for c in rows.table.column_names if c not in replaced]
    table = rows.table.select(kept).rename_columns([names.get(c, c) for c in kept])
    return Rows(table, rows.origin, rows.lines, rows.typed, rows.shared)


def _text_column(rows: Rows, wanted: Wanted) -> str | None:
    """The text column's name; None for a table of features.

    The one that was named; else `text`; else the only column of strings. A table with a label and
    numbers is a table of features, and one of pictures with prompts has no text either.
    """
    names = rows.table.column_names
    if wanted.text is not None:
        return wanted.text
    if TEXT in names:
        return TEXT
    if FEATURES in names or _shows_pictures(rows):
        return None
    others = [c for c in names if c not in (ID, OWNER, CANARY, LABEL)]
    numbers = [c for c in others if is_number(rows, c)]
    strings = [c for c in others if c not in numbers and _is_string(rows.table, c)]
    if LABEL in names and (numbers or (wanted.label is not None and len(strings) != 1)):
        return None
    if len(strings) == 1:
        return strings[0]
    raise EngramError(
        f"{rows.origin} has no column called 'text', and "
        f"{len(strings) or 'none'} of its columns hold{'' if len(strings) else 's'} strings; "
        f"the columns are {', '.join(names)}",
        hint="name the text with --text-column NAME, or for a table of features its class with "
        "--label-column NAME",
    )


def _shows_pictures(rows: Rows) -> bool:
    """Whether the records are pictures that something is asked about."""
    table = rows.table
    if not {IMAGE, PROMPT} <= set(table.column_names):
        return False
    kind = table.schema.field(IMAGE).type
    return pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_string(table: pa.Table, column: str) -> bool:
    return pa.types.is_string(table.schema.field(column).type)


def _with_text(rows: Rows, column: str, limits: Limits) -> pa.Table:
    """The table with its text column checked and called `text`."""
    values = rows.table.column(column)
    if values.null_count:
        row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        raise EngramError(
            f"{rows.origin}, {rows.where(row)}: {column!r} is missing "
            f"({values.null_count} such records)",
            hint="give every record a text, or take those records out",
        )
    if not pa.types.is_string(values.type):
        raise EngramError(
            f"{rows.origin}, {rows.where(0)}: {column!r} is {values.type}, but must be a string",
            hint="name the column that holds the text with --text-column NAME",
        )
    lengths = pc.call_function("binary_length", [values]).to_numpy(zero_copy_only=False)
    if (longest := int(lengths.max())) > limits.record:
        row = int(np.argmax(lengths > limits.record))
        found = f"{size(int(lengths[row]) if row else longest)} long"
        raise too_long(rows.origin, rows.where(row), found, limits)
    table = rows.table
    if column != TEXT and TEXT in table.column_names:
        other = [f"other_{TEXT}" if c == TEXT else c for c in table.column_names]
        table = table.rename_columns(other)
    return table.rename_columns([TEXT if c == column else c for c in table.column_names])


def _with_label(rows: Rows, table: pa.Table) -> tuple[pa.Table, dict[str, np.ndarray]]:
    codes, shared = label_codes(rows, LABEL)
    place = table.column_names.index(LABEL)
    return table.set_column(place, LABEL, pa.array(codes)), shared


def _with_features(rows: Rows) -> pa.Table:
    """The table with its `features` (lists of equal length) as float32 of fixed size."""
    values = rows.table.column(FEATURES).combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0)
    if pa.types.is_fixed_size_list(values.type):
        return rows.table
    if not pa.types.is_list(values.type) or values.null_count:
        raise EngramError(
            f"{rows.origin}: 'features' is {values.type}, but must be lists of numbers",
            hint="write every record's features as a list of numbers of one length",
        )
    lengths = pc.call_function("list_value_length", [values]).to_numpy(zero_copy_only=False)
    if (lengths != lengths[0]).any():
        row = int(np.argmax(lengths != lengths[0]))
        raise EngramError(
            f"{rows.origin}, {rows.where(row)}: {lengths[row]} features, but {lengths[0]} before",
            hint="give every record the same number of features",
        )
    flat = values.flatten().cast(pa.float32())
    fixed = pa.FixedSizeListArray.from_arrays(flat, int(lengths[0]))
    place = rows.table.column_names.index(FEATURES)
    return rows.table.set_column(place, FEATURES, fixed)


def _with_reserved(rows: Rows, table: pa.Table, column: str) -> pa.Table:
    """The table with its `id`, `owner` or `canary` checked and of the right type."""
    values = table.column(column).to_pylist()
    for row, value in enumerate(values):
        if value is None or value == "":
            raise EngramError(
                f"{rows.origin}, {rows.where(row)}: {column!r} is missing",
                hint=f"give every record {'an' if column != CANARY else 'a'} {column}, or take "
                "the whole column out",
            )
    words = [str(v) for v in values]
    if column == ID:
        _check_unique(rows, words)
    ready = pa.array(_flags(rows, words)) if column == CANARY else pa.array(words, pa.string())
    return table.set_column(table.column_names.index(column), column, ready)


def _check_unique(rows: Rows, ids: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for row, record in enumerate(ids):
        if (before := first.setdefault(record, row)) != row:
            raise EngramError(
                f"{rows.origin}: the id {record!r} stands at {rows.where(before)} and at "
                f"{rows.where(row)}",
                hint="give every record an id of its own, or drop the id column: ids are then "
                "made from the content",
            )


def _flags(rows: Rows, words: Sequence[str]) -> list[bool]:
    for row, word in enumerate(words):
        if word.lower() not in _YES | _NO:
            raise EngramError(
                f"{rows.origin}, {rows.where(row)}: 'canary' is {word!r}, but must be true or "
                "false",
                hint="rename the column if it is not about planted records",
            )
    return [word.lower() in _YES for word in words]
