"""A named, ordered, immutable set of records that never says which of them were trained on."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from json.encoder import encode_basestring_ascii
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from engram.core.errors import EngramError, nearest
from engram.core.strings import Strings

if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
    # Arrow's own pools keep what is freed, for each thread: megabytes that a model could have.
    pa.set_memory_pool(pa.system_memory_pool())

ID, OWNER, CANARY = "id", "owner", "canary"
RESERVED = (ID, OWNER, CANARY)
"""Columns about a record rather than of it: they do not enter its digest."""
GATHERED = ("origins", "origin_owners")
"""What records were made from, and whose that was: of two sides, all of it."""


@dataclass(frozen=True, eq=False)
class Split:
    """Records, one row each, backed by an Arrow table.

    Build one with `Split.of(...)` or `Split.from_table(...)`, which give the ids.

    Attributes:
        name: A short name for messages and reports.
        records: One row a record, without the reserved columns.
        ids: One id a record, unique. Content hashes unless the data brought its own. Any sequence
            is taken; it is held as `Strings`, which equal the tuple of them.
        owners: The data subject of each record, where known.
        canaries: True where a record was made up to be planted, where any was.
        shared: Context that all records need (a graph's edges), by name.
    """

    name: str
    records: pa.Table
    ids: Sequence[str]
    owners: tuple[str, ...] | None = None
    canaries: tuple[bool, ...] | None = None
    shared: Mapping[str, np.ndarray] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        n = self.records.num_rows
        object.__setattr__(self, "ids", Strings(self.ids))
        for what, given in (("ids", self.ids), ("owners", self.owners), (CANARY, self.canaries)):
            if given is not None and len(given) != n:
                raise EngramError(f"split {self.name!r}: {len(given)} {what} for {n} records")
        if self.ids.distinct != n:
            twice = next(i for i, times in Counter(self.ids).items() if times > 1)
            raise EngramError(
                f"split {self.name!r}: the id {twice!r} stands on more than one record",
                hint="give every record an id of its own, or drop the id column: "
                "ids are then made from the content",
            )

    @classmethod
    def of(
        cls,
        name: str,
        *,
        owners: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        shared: Mapping[str, np.ndarray] | None = None,
        **columns: Sequence[object] | np.ndarray,
    ) -> "Split":
        """A split from plain columns: `Split.of("letters", text=[...], owners=[...])`.

        A 2-D array becomes a column of fixed-size lists.
        """
        table = pa.table({key: _column(value) for key, value in columns.items()})
        if ids is not None:
            table = table.append_column(ID, pa.array([str(i) for i in ids], pa.string()))
        if owners is not None:
            table = table.append_column(OWNER, pa.array([str(o) for o in owners], pa.string()))
        return cls.from_table(name, table, shared=shared)

    @classmethod
    def from_table(
        cls, name: str, table: pa.Table, *, shared: Mapping[str, np.ndarray] | None = None
    ) -> "Split":
        """A split from a table; its columns `id`, `owner` and `canary`, if any, are taken out."""
        records = table.drop_columns([c for c in RESERVED if c in table.column_names])
        records = records.combine_chunks()
        pa.default_memory_pool().release_unused()  # the pieces that were just put together
        owners, canaries = _reserved(table, OWNER), _reserved(table, CANARY)
        given, digests = _reserved(table, ID), record_digests(records)
        split = cls(
            name,
            records,
            content_ids(digests) if given is None else [str(i) for i in given],
            None if owners is None else tuple("" if o is None else str(o) for o in owners),
            None if canaries is None else tuple(bool(c) for c in canaries),
            MappingProxyType(dict(shared or {})),
        )
        # Fills the cached property: contents are hashed once, and ids share the strings.
        split.__dict__["digests"] = digests
        return split

    def __len__(self) -> int:
        return self.records.num_rows

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the record columns."""
        return tuple(self.records.column_names)

    @cached_property
    def digests(self) -> Strings:
        """The content hash of each record: equal content, equal digest."""
        return record_digests(self.records)

    @cached_property
    def fingerprint(self) -> str:
        """One hash over ids, contents, owners and shared context, in order."""
        total = sha256()
        owners = self.owners or ("",) * len(self)
        for row in zip(self.ids, self.digests, owners, strict=True):
            total.update(f"[{', '.join(map(encode_basestring_ascii, row))}]".encode())  # as JSON
        for key in sorted(self.shared):
            total.update(key.encode())
            # Its own bytes, not a copy of them: a graph's features may be most of what there is.
            total.update(np.ascontiguousarray(self.shared[key]).reshape(-1).view(np.uint8))
        return total.hexdigest()[:16]

    def column(self, name: str) -> pa.ChunkedArray:
        """One record column, or an error that names the columns there are."""
        if name not in self.records.column_names:
            raise EngramError(
                f"split {self.name!r} has no column {name!r}; it has {', '.join(self.columns)}",
                hint=nearest(name, self.columns, "say which column with --text-column NAME"),
            )
        return self.records.column(name)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The `text` column."""
        return tuple("" if t is None else t for t in self.column("text").to_pylist())

    def matrix(self, name: str = "features") -> np.ndarray:
        """A column of equal-length lists (or of numbers) as an array of shape (n, ...)."""
        column = self.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        if pa.types.is_fixed_size_list(column.type):
            return _list_rows(self.column(name))
        return np.asarray(column.to_numpy(zero_copy_only=False))

    def take(
        self, rows: Sequence[int | np.integer] | np.ndarray, name: str | None = None
    ) -> "Split":
        """The records at these row numbers, in this order."""
        index = np.array(rows, np.int64).reshape(-1)
        same = np.array_equal(index, np.arange(len(self)))  # all in order: nothing is copied
        taken = Split(
            name or self.name,
            self.records if same else self.records.take(pa.array(index)),
            self.ids.take(index),
            None if self.owners is None else tuple(self.owners[i] for i in index),
            None if self.canaries is None else tuple(self.canaries[i] for i in index),
            self.shared,
        )
        if "digests" in self.__dict__:  # the contents are the same: no need to hash them again
            taken.__dict__["digests"] = self.digests.take(index)
        return taken

    def where(self, mask: Sequence[bool] | np.ndarray, name: str | None = None) -> "Split":
        """The records whose entry of `mask` is true."""
        return self.take(np.flatnonzero(np.asarray(mask, bool)), name)

    def select(self, ids: Iterable[str], name: str | None = None) -> "Split":
        """The records with these ids, in this order; an unknown id is an error."""
        place = {record: row for row, record in enumerate(self.ids)}
        wanted = list(ids)
        if unknown := [i for i in wanted if i not in place]:
            raise EngramError(
                f"split {self.name!r} has no record {unknown[0]!r} ({len(unknown)} such ids)",
                hint=nearest(unknown[0], self.ids, "ids are listed in the ledger and in scores"),
            )
        return self.take([place[i] for i in wanted], name)

    def reversed(self) -> "Split":
        """The same records, last first."""
        return self.take(range(len(self) - 1, -1, -1))

    def renamed(self, name: str) -> "Split":
        """The same records under another name."""
        return Split(name, self.records, self.ids, self.owners, self.canaries, self.shared)

    def only(self, columns: Sequence[str]) -> "Split":
        """The same records with these columns alone."""
        if list(columns) == list(self.columns):
            return self
        table = self.records.select(list(columns))
        return Split(self.name, table, self.ids, self.owners, self.canaries, self.shared)

    def with_texts(self, texts: Sequence[str], name: str | None = None) -> "Split":
        """The same records, ids and owners with other texts (a perturbation, say)."""
        place = self.records.column_names.index("text")
        changed = pa.array(list(texts), pa.string())
        return Split(
            name or self.name,
            self.records.set_column(place, "text", changed),
            self.ids,
            self.owners,
            self.canaries,
            self.shared,
        )

    def joined(self, other: "Split", name: str | None = None) -> "Split":
        """These records, then those of `other`; shared ids are an error.

        What all records of a side need stays: equal on both sides, or on one side alone. Where
        both say something else (another graph, another range of pixels) there is no reading them
        together, which is an error; only what either was made from is put together.
        """
        if both := set(self.ids) & set(other.ids):
            some = ", ".join(sorted(both)[:3])
            raise EngramError(
                f"{len(both)} records are in both {self.name!r} and {other.name!r} ({some})",
                hint="build both with `engram transform partition`, which cannot overlap",
            )
        mixed = (self.owners is None) != (other.owners is None)
        canaries = None
        if self.canaries is not None or other.canaries is not None:
            canaries = (self.canaries or (False,) * len(self)) + (
                other.canaries or (False,) * len(other)
            )
        owners = None if mixed or self.owners is None else self.owners + (other.owners or ())
        common = [c for c in self.columns if c in other.columns]
        table = pa.concat_tables(
            [self.records.select(common), other.records.select(common)], promote_options="default"
        ).combine_chunks()
        shared = _both_share(self, other)
        return Split(name or self.name, table, self.ids + other.ids, owners, canaries, shared)

    def to_table(self) -> pa.Table:
        """The records with their reserved columns, as they are written to a file."""
        table = self.records.append_column(ID, pa.array(self.ids, pa.string()))
        if self.owners is not None:
            table = table.append_column(OWNER, pa.array(self.owners, pa.string()))
        if self.canaries is not None:
            table = table.append_column(CANARY, pa.array(self.canaries, pa.bool_()))
        return table


def _both_share(one: Split, other: Split) -> Mapping[str, np.ndarray]:
    if one.shared is other.shared:
        return one.shared
    shared = {**other.shared, **one.shared}
    for key in set(one.shared) & set(other.shared):
        ours, theirs = np.asarray(one.shared[key]), np.asarray(other.shared[key])
        if np.array_equal(ours, theirs):
            continue
        if key not in GATHERED:
            raise EngramError(
                f"{one.name!r} and {other.name!r} have another {key!r} that all their records "
                "share, so they cannot be put together",
                hint="take both from the same data, read in the same way",
            )
        shared[key] = np.union1d(ours, theirs)
    return MappingProxyType(shared)


def record_digests(records: pa.Table) -> Strings:
    """SHA-256 of each record's content, 16 hexadecimal digits.

    Plain values enter as canonical JSON, lists of a fixed size as their bytes.
    """
    names = sorted(records.column_names)
    lists = [n for n in names if pa.types.is_fixed_size_list(records.schema.field(n).type)]
    plain = records.select([n for n in names if n not in lists])
    blocks = [pa.array([], pa.string())]
    for first in range(0, records.num_rows, 4096):
        block = records.slice(first, 4096)
        digests = []
        matrices = [(name, _list_rows(block.column(name))) for name in lists]
        count = min(4096, records.num_rows - first)
        # Arrow forgets how long a table without columns is, once it is cut.
        rows = plain.slice(first, count).to_pylist() if plain.num_columns else [{}] * count
        for row, values in enumerate(rows):
            text = json.dumps(values, sort_keys=True, ensure_ascii=False, default=str)
            total = sha256(text.encode("utf-8", "surrogatepass"))
            for name, matrix in matrices:
                total.update(name.encode() + matrix[row].tobytes())
            digests.append(total.hexdigest()[:16])
        blocks.append(pa.array(digests, pa.string()))
    return Strings(pa.concat_arrays(blocks))


def _list_rows(column: pa.ChunkedArray) -> np.ndarray:
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0)
    flat = whole.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(whole), whole.type.list_size)


def content_ids(digests: Strings) -> Strings:
    """Digests as ids; the second record with the same content gets the suffix `~2`, and so on."""
    if digests.distinct == len(digests):
        return digests
    seen: Counter[str] = Counter()
    ids = []
    for digest in digests:
        seen[digest] += 1
        ids.append(digest if seen[digest] == 1 else f"{digest}~{seen[digest]}")
    return Strings(ids)


def check_disjoint(one: Split, other: Split) -> None:
    """Raise where a record, by id or by content, is in both splits."""
    ids = set(one.ids) & set(other.ids)
    if "text" in one.columns and "text" in other.columns:  # whatever the other columns say
        contents = set(one.texts) & set(other.texts) - {""}
    else:
        contents = set(one.digests) & set(other.digests)
    if not ids and not contents:
        return
    shared = ids or contents
    some = ", ".join(repr(s[:40]) for s in sorted(shared)[:3])
    what = "records" if ids else "contents"
    raise EngramError(
        f"{len(shared)} {what} are in both {one.name!r} and {other.name!r} ({some})",
        hint="take them out of one side; `engram transform partition` makes sides that "
        "cannot overlap",
    )


def _column(values: Sequence[object] | np.ndarray) -> pa.Array:
    if isinstance(values, np.ndarray) and values.ndim > 1:
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))
    return pa.array(values)


def _reserved(table: pa.Table, name: str) -> list[object] | None:
    return table.column(name).to_pylist() if name in table.column_names else None
