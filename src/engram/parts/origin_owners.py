"""Whose records a made record comes from: a column `origin_owners` of names."""

from collections.abc import Collection

import pyarrow as pa

from engram.core import EngramError, Split

ORIGIN_OWNERS = "origin_owners"


def origin_owners_of(split: Split) -> list[frozenset[str]]:
    """The owners of what each record was made from; empty sets where nothing says so.

    Raises:
        EngramError: The column holds something else than lists of text.
    """
    if ORIGIN_OWNERS not in split.columns:
        return [frozenset()] * len(split)
    column = split.column(ORIGIN_OWNERS)
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (lists and (pa.types.is_string(kind.value_type) or pa.types.is_null(kind.value_type))):
        raise EngramError(
            f"column {ORIGIN_OWNERS!r} of split {split.name!r} holds {kind}, not lists of names",
            hint="it says whose records one was made from; call a column of your own otherwise",
        )
    return [frozenset(found or ()) for found in column.to_pylist()]


def owners_behind(split: Split) -> frozenset[str]:
    """Every owner of a record, or of what a record was made from."""
    return frozenset(split.owners or ()).union(*origin_owners_of(split)) - {""}


def with_origin_owners(split: Split, owners: Collection[str]) -> Split:
    """The same records, all of them made from records of these owners; unchanged for none."""
    if not owners:
        return split
    names = pa.array([sorted(owners)] * len(split), pa.list_(pa.string()))
    table = split.records.append_column(ORIGIN_OWNERS, names)
    return Split(split.name, table, split.ids, split.owners, split.canaries, split.shared)
