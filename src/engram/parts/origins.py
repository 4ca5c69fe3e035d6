"""Which given records a made record comes from: `origins`, content digests.

A protected picture stands in for one record, a distilled one for many. What they were made from
would no longer be found by its content, so it is written beside them, and a deletion request that
names the original finds what came of it. A column holds those of each record; what all records of
a split were made from together stands in what they share, under the same name.
"""

from collections.abc import Sequence

import pyarrow as pa

from engram.core import EngramError, Split

ORIGINS = "origins"


def origins_of(split: Split) -> list[frozenset[str]]:
    """The digests of what each record was made from; empty sets where nothing says so.

    They are those in the column, and those that the records share.

    Raises:
        EngramError: The column `origins` holds something else than lists of text.
    """
    common = frozenset(str(digest) for digest in split.shared.get(ORIGINS, ()))
    return [common | own if own else common for own in own_origins_of(split)]


def own_origins_of(split: Split) -> list[frozenset[str]]:
    """The digests in the column alone: what each record was made from by itself."""
    if ORIGINS not in split.columns:
        return [frozenset()] * len(split)
    column = split.column(ORIGINS)
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (lists and (pa.types.is_string(kind.value_type) or pa.types.is_null(kind.value_type))):
        raise EngramError(
            f"column {ORIGINS!r} of split {split.name!r} holds {kind}, not lists of digests",
            hint="it says what a record was made from; call a column of your own otherwise",
        )
    return [frozenset(found or ()) for found in column.to_pylist()]


def with_origins(split: Split, made_from: Sequence[Sequence[str]]) -> Split:
    """The same records, each with the digests of what it was made from, beside older ones."""
    before = own_origins_of(split)
    lists = [sorted(old | set(new)) for old, new in zip(before, made_from, strict=True)]
    column = pa.array(lists, pa.list_(pa.string()))
    table = split.records.drop_columns([c for c in (ORIGINS,) if c in split.columns])
    table = table.append_column(ORIGINS, column)
    return Split(split.name, table, split.ids, split.owners, split.canaries, split.shared)
