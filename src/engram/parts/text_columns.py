"""Columns of strings, and of lists of strings, as Python has them."""

import pyarrow as pa

from engram.core import EngramError, Split


def strings_of(split: Split, name: str, hint: str) -> list[str]:
    """A column of strings; "" where a record has none.

    Args:
        split: The records.
        name: The column.
        hint: What to do where it holds something else.

    Raises:
        EngramError: It does.
    """
    column = split.column(name)
    if not _is_string(column.type):
        raise _other(split, name, "strings", hint)
    return ["" if value is None else value for value in column.to_pylist()]


def lists_of(split: Split, name: str, hint: str) -> list[list[str]]:
    """A column of lists of strings; an empty list where a record has none.

    Raises:
        EngramError: The column holds something else.
    """
    kind = split.column(name).type
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_a(kind) for is_a in lists) or not (
        _is_string(kind.value_type) or pa.types.is_null(kind.value_type)
    ):
        raise _other(split, name, "lists of strings", hint)
    return [list(values or ()) for values in split.column(name).to_pylist()]


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _other(split: Split, name: str, wanted: str, hint: str) -> EngramError:
    kind = split.column(name).type
    return EngramError(
        f"column {name!r} of split {split.name!r} holds {kind}, not {wanted}", hint=hint
    )
