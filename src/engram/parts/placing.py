"""Where records are put before a sharded model is trained: by lot, or by how likely they leave."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from engram.core import EngramError, Split, nearest, seed_of
from engram.parts.sharding import Placement

Placing = Literal["uniform", "likelihood"]
PLACINGS: tuple[Placing, ...] = get_args(Placing)


def uniform(ids: Sequence[str], shards: int, slices: int, seed: int) -> Placement:
    """Each record by a lot of its own, which depends on the seed and on its id alone.

    So nobody's place depends on who else is there: records placed without one of them lie where
    they lie with it. Shards are of about equal size, not exactly.
    """
    cells = shards * slices
    lots = np.array([seed_of(seed, "placement", record) % cells for record in ids], np.int64)
    return Placement.of(ids, lots // slices, lots % slices, shards=shards, slices=slices)


def by_likelihood(
    ids: Sequence[str], chances: Float[np.ndarray, " n"], shards: int, slices: int
) -> Placement:
    """Records that are likely to leave together, and in the last slices.

    In order of their chance of being deleted, records are cut into shards of equal size (give or
    take one), and each shard into slices likewise. Requests then meet few shards, and little has
    to be trained again there; but the last shard is trained again nearly every time, and where a
    record lies tells how likely it was to leave.
    """
    shard, inside = (np.zeros(len(ids), np.int64) for _ in range(2))
    order = np.argsort(chances, kind="stable")
    for k, rows in enumerate(np.array_split(order, shards)):
        shard[rows] = k
        for j, part in enumerate(np.array_split(rows, slices)):
            inside[part] = j
    return Placement.of(ids, shard, inside, shards=shards, slices=slices)


def chances_of(split: Split, column: str) -> Float[np.ndarray, " n"]:
    """The probability with which each record is expected to be deleted, from a column.

    Raises:
        EngramError: There is no such column, or it holds anything but numbers in [0, 1].
    """
    if column not in split.columns:
        raise EngramError(
            f"split {split.name!r} has no column {column!r} of deletion probabilities; it has "
            f"{', '.join(split.columns)}",
            hint=nearest(column, split.columns, "name it with --likelihood COLUMN"),
        )
    found = split.column(column)
    if not (pa.types.is_floating(found.type) or pa.types.is_integer(found.type)):
        raise EngramError(
            f"column {column!r} of split {split.name!r} holds {found.type}, not probabilities",
            hint="give every record a number from 0 to 1",
        )
    chances = np.array(found.to_pylist(), np.float64)
    good = np.isfinite(chances) & (chances >= 0) & (chances <= 1)
    if not good.all():
        row = int(np.argmin(good))
        raise EngramError(
            f"record {split.ids[row]!r} of split {split.name!r} has the deletion probability "
            f"{chances[row]:g}",
            hint="give every record a number from 0 to 1",
        )
    return chances
