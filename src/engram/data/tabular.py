"""Tables of features: numbers as they are, categories one-hot, the class as a whole number."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Int64

from engram.core.errors import EngramError
from engram.data.rows import Rows

MOST_CATEGORIES = 1000
"""A column with more different words is no category."""


def is_number(rows: Rows, column: str) -> bool:
    """Whether a column holds numbers: by its type, or in a CSV by all of its values."""
    kind = rows.table.schema.field(column).type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return True
    if rows.typed or not rows.table.num_rows:
        return False
    return as_floats(rows.table.column(column)) is not None


def features_and_label(
    rows: Rows, label: str, apart: Sequence[str]
) -> tuple[pa.Table, dict[str, np.ndarray]]:
    """A table with `features` (float32, fixed size), `label` (int64) and the `apart` columns.

    Words become one column a category, in sorted order. Two files have the same columns only if
    they have the same categories: cut members and outsiders from one file.

    Returns:
        The table, and as shared context `feature_names` and, where labels were words, `classes`.

    Raises:
        EngramError: A number is missing or not finite, or a column is no category.
    """
    columns = [c for c in rows.table.column_names if c != label and c not in apart]
    blocks, names = [], []
    for column in columns:
        block, labels = (_numbers if is_number(rows, column) else _one_hot)(rows, column)
        blocks.append(block)
        names += labels
    if not blocks:
        raise EngramError(
            f"{rows.origin} has no columns beside {label!r} to learn from",
            hint="give the table feature columns",
        )
    codes, shared = label_codes(rows, label)
    matrix = np.ascontiguousarray(np.concatenate(blocks, axis=1))
    table = feature_table(matrix, codes)
    for column in apart:
        if column in rows.table.column_names:
            table = table.append_column(column, rows.table.column(column))
    return table, {"feature_names": np.array(names), **shared}


def feature_table(
    features: Float32[np.ndarray, "n width"], label: Int64[np.ndarray, " n"]
) -> pa.Table:
    """The two columns of a classifier's split."""
    flat = pa.array(np.ascontiguousarray(features).reshape(-1), pa.float32())
    lists = pa.FixedSizeListArray.from_arrays(flat, features.shape[1])
    return pa.table({"features": lists, "label": pa.array(label, pa.int64())})


def label_codes(rows: Rows, column: str) -> tuple[Int64[np.ndarray, " n"], dict[str, np.ndarray]]:
    """Classes as whole numbers.

    Whole numbers from 0 stay as they are; anything else is numbered in sorted order, and the
    words are returned as `classes`.

    Raises:
        EngramError: A label is missing, or is a fraction: then it is no class.
    """
    values = rows.table.column(column)
    missing = values.is_null().to_numpy(zero_copy_only=False)
    if not rows.typed:  # CSV writes nothing where there is nothing
        missing = missing | np.array([not str(word).strip() for word in values.to_pylist()])
    if missing.any():
        raise EngramError(
            f"{rows.origin}, {rows.where(int(np.argmax(missing)))}: {column!r} is missing",
            hint="give every record a class",
        )
    if is_number(rows, column):
        numbers = as_floats(values)
        if numbers is None or not np.isfinite(numbers).all() or (numbers % 1 != 0).any():
            raise EngramError(
                f"{rows.origin}: {column!r} holds fractions, so it is no class",
                hint="name a column of classes with --label-column; regression is not read here",
            )
        if (numbers >= 0).all():
            return numbers.astype(np.int64), {}
        classes, codes = np.unique(numbers.astype(np.int64), return_inverse=True)
    else:
        words = np.array([str(v) for v in values.to_pylist()])
        classes, codes = np.unique(words, return_inverse=True)
    return codes.astype(np.int64), {"classes": classes}


def _numbers(rows: Rows, column: str) -> tuple[Float32[np.ndarray, "n 1"], list[str]]:
    values = rows.table.column(column)
    numbers = as_floats(values)
    if numbers is None or not np.isfinite(numbers).all():
        row = 0 if numbers is None else int(np.argmin(np.isfinite(numbers)))
        raise EngramError(
            f"{rows.origin}, {rows.where(row)}: {column!r} is missing or not a finite number",
            hint="fill it in or take the record out: nothing is filled in silently",
        )
    return numbers.astype(np.float32)[:, None], [column]


def _one_hot(rows: Rows, column: str) -> tuple[Float32[np.ndarray, "n width"], list[str]]:
    values = rows.table.column(column)
    if not pa.types.is_string(values.type):
        raise EngramError(
            f"{rows.origin}: {column!r} is {values.type}, which is neither a number nor a word",
            hint="take the column out, or call a list of numbers `features`",
        )
    encoded = values.fill_null("").combine_chunks()
    encoded = encoded.dictionary_encode()
    found = encoded.dictionary.to_pylist()
    categories = sorted(found)
    if len(categories) > MOST_CATEGORIES:
        raise EngramError(
            f"{rows.origin}: {column!r} has {len(categories)} different words, too many for a "
            "category",
            hint="take the column out, or name it with --text-column, --id-column or "
            "--owner-column",
        )
    place = {category: i for i, category in enumerate(categories)}
    codes = np.array([place[word] for word in found])[encoded.indices.to_numpy()]
    block = np.zeros((len(codes), len(categories)), np.float32)
    block[np.arange(len(codes)), codes] = 1
    return block, [f"{column}={category}" for category in categories]


def as_floats(values: pa.ChunkedArray) -> np.ndarray | None:
    """As numbers, null (and in a CSV nothing) as NaN; None where a value is not a number."""
    try:
        if pa.types.is_boolean(values.type):
            values = values.cast(pa.int8())
        if pa.types.is_string(values.type):
            words = pc.call_function("utf8_trim_whitespace", [values])
            empty = pc.call_function("equal", [words, pa.scalar("")])
            values = pc.call_function("if_else", [empty, pa.scalar(None, pa.string()), words])
        if values.null_count == len(values):
            return None
        return values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        return None
