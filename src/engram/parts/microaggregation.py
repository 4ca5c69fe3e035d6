"""Groups of at least k records each, as alike as may be: microaggregation.

MDAV, and a form of it that one record hardly moves. Never are all pairs of records compared at
once.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from engram.core import EngramError

GONE = 0.125
"""Share of a block's records that may be grouped already before the block is packed anew."""


def mdav(points: Float[np.ndarray, "n d"], k: int) -> Int[np.ndarray, " n"]:
    """Maximum distance to average vector: the group of each record, numbered as they were made.

    While 3 k records are left: c is their mean, r the farthest from c and s the farthest from r;
    r and its k - 1 nearest are a group, then s and its k - 1 nearest. Of 2 k to 3 k - 1 records,
    the farthest from the mean and its k - 1 nearest are one group and the rest is another; of
    fewer, all are one. So every group has k records, but the last, which has k to 2 k - 1.

    Of records that are equally near or far, the one that comes first is taken. Time is
    O(n^2 d / k) and memory O(n d).

    Args:
        points: Finite numbers, on scales that make distances meaningful.
        k: The least records in a group, from 1 to n.

    Raises:
        EngramError: k is not in that range, or a number is not finite.
    """
    check_size(points, k)
    group = np.empty(len(points), np.int64)
    for number, rows in enumerate(_groups(_Left(points), k)):
        group[rows] = number
    return group


def _groups(left: "_Left", k: int) -> Iterator[Int[np.ndarray, " rows"]]:
    while left.count >= 3 * k:
        centre = left.mean()
        near_r = left.distances(left.point(_farthest(left.distances(centre), left.there)))
        yield left.take(_nearest(near_r, left.there, k))
        # The farthest from r is never among its nearest, unless all are equally far.
        s = left.point(_farthest(near_r, left.there))
        yield left.take(_nearest(left.distances(s), left.there, k))
        left.pack()
    if left.count >= 2 * k:
        r = left.point(_farthest(left.distances(left.mean()), left.there))
        yield left.take(_nearest(left.distances(r), left.there, k))
    yield left.rest()


class _Left:
    """The records that are in no group yet: a block with holes, packed now and then."""

    def __init__(self, points: Float[np.ndarray, "n d"]) -> None:
        # One row a column of the table: sums over columns then run in one order for all records,
        # so that equal records are equally far to the last bit.
        self.columns = np.ascontiguousarray(points.T, np.float64)
        self.rows = np.arange(len(points))
        self.there = np.ones(len(points), bool)
        self.count = len(points)
        self._total = self.columns.sum(1)
        self._room = np.empty((2, len(points)))

    def mean(self) -> Float[np.ndarray, " d"]:
        return self._total / self.count

    def point(self, place: int) -> Float[np.ndarray, " d"]:
        return self.columns[:, place]

    def distances(self, centre: Float[np.ndarray, " d"]) -> Float[np.ndarray, " block"]:
        """Squared distance of every record of the block, those that are gone too."""
        total = np.zeros(self.columns.shape[1])
        step = self._room[0, : len(total)]
        for column, value in zip(self.columns, centre.tolist(), strict=True):
            np.subtract(column, value, out=step)
            np.multiply(step, step, out=step)
            total += step
        return total

    def take(self, places: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        self.there[places] = False
        self.count -= len(places)
        self._total = self._total - self.columns[:, places].sum(1)
        return self.rows[places]

    def rest(self) -> Int[np.ndarray, " rows"]:
        return self.take(np.flatnonzero(self.there))

    def pack(self) -> None:
        if self.count < (1 - GONE) * len(self.there):
            self.columns = np.ascontiguousarray(self.columns[:, self.there])
            self.rows = self.rows[self.there]
            self.there = np.ones(self.count, bool)
            self._total = self.columns.sum(1)  # rounding errors do not pile up


def _farthest(distances: Float[np.ndarray, " block"], there: np.ndarray) -> int:
    return int(np.argmax(np.where(there, distances, -1.0)))


def _nearest(
    distances: Float[np.ndarray, " block"], there: np.ndarray, k: int
) -> Int[np.ndarray, " k"]:
    found = np.where(there, distances, np.inf)
    limit = np.partition(found, k - 1)[k - 1]
    nearer = np.flatnonzero(found < limit)
    return np.concatenate([nearer, np.flatnonzero(found == limit)[: k - len(nearer)]])


def by_order(order: Int[np.ndarray, " n"], k: int) -> Int[np.ndarray, " n"]:
    """The group of each record, where likeness is nearness in one fixed order of all records.

    MDAV with such a distance takes the first k and the last k, again and again, so the groups are
    runs of the order; here they are numbered along it. The longer one, of k to 2 k - 1, lies in
    the middle. If one record changes, every group changes by one record at most: the groups are
    insensitive, which those of `mdav` are not.

    Args:
        order: The rows, first to last, by an order that was fixed without looking at the data.
        k: The least records in a group.
    """
    check_size(order[:, None], k)
    n, whole = len(order), max(len(order) // k, 1)
    sizes = np.full(whole, k)
    sizes[whole // 2] += n - k * whole
    group = np.empty(n, np.int64)
    group[order] = np.repeat(np.arange(whole), sizes)
    return group


def insensitive_mdav(
    points: Float[np.ndarray, "n d"], low: Float[np.ndarray, " d"], k: int
) -> Int[np.ndarray, " n"]:
    """The group of each record, by distance from the corner of the a priori bounds.

    Records are ordered by their squared distance from `low`, then by their values, column by
    column: both are fixed without looking at other records. Distances should be on scales that
    are fixed likewise (each range to 1, say).
    """
    check_size(points, k)
    away = ((points - low) ** 2).sum(1)
    return by_order(np.lexsort([*points.T[::-1], away]), k)


def centroids(
    points: Float[np.ndarray, "n d"], group: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n d"]:
    """Each record's group mean, in the record's place."""
    sizes = np.bincount(group)
    sums = np.stack([np.bincount(group, column, len(sizes)) for column in points.T], 1)
    return (sums / sizes[:, None])[group]


def sizes_of_equals(values: Float[np.ndarray, "n d"]) -> Int[np.ndarray, " classes"]:
    """How many records each equivalence class has: those whose values are all the same."""
    if not len(values):
        return np.zeros(0, np.int64)
    _, sizes = np.unique(np.ascontiguousarray(values), axis=0, return_counts=True)
    return sizes


def check_size(points: np.ndarray, k: int) -> None:
    """Refuse a k that is below 1 or larger than the table, and numbers that are not finite."""
    if not (isinstance(k, int | np.integer) and k >= 1):
        raise EngramError(f"k is {k}, but must be at least 1", hint="10 is a usual size of a group")
    if k > len(points):
        raise EngramError(
            f"k is {k}, but the table has only {len(points)} records",
            hint="take a smaller k, or more records",
        )
    if not np.isfinite(points).all():
        raise EngramError(
            "a number of the table is not finite", hint="fill in missing numbers beforehand"
        )
