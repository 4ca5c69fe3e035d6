"""Which shard and slice each record lies in, and how the answers of shards become one.

A sharded model is several models, each of which saw some of the records and no others. A shard may
be cut further into slices: it is trained on the first, then on the first two, and so on, so that
what it was before a slice is still there when a record of that slice is to be forgotten.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from engram.core import EngramError, nearest
from engram.core.strings import Strings

FILE = "placement.parquet"
TIE = 1e-6
"""Weight of the mean probability in a vote: enough to decide where votes are even."""
LARGEST = 2**16
"""No more shards or slices than this: their number may come from outside."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Where each record lies. A placement says nothing of a record but its id.

    Attributes:
        ids: The records, in the order in which shards are trained on them.
        shard: Of each record, counted from 0.
        slice: Of each record inside its shard, counted from 0.
        shards: How many shards there are; one may be empty.
        slices: How many slices a shard has; one may be empty.
    """

    ids: Sequence[str]
    shard: Int[np.ndarray, " n"]
    slice: Int[np.ndarray, " n"]
    shards: int
    slices: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", Strings(self.ids))
        for name, most in (("shard", self.shards), ("slice", self.slices)):
            if not (isinstance(most, int) and 1 <= most <= LARGEST):
                raise EngramError(
                    f"{name}s is {most}, but must be a whole number from 1 to {LARGEST}",
                    hint="5 shards of 1 slice are a start",
                )
            place = np.array(getattr(self, name), np.int64).reshape(-1)
            object.__setattr__(self, name, place)
            if len(place) != len(self.ids):
                raise EngramError(f"{len(place)} entries of {name} for {len(self.ids)} records")
            if len(place) and not (place.min() >= 0 and place.max() < most):
                row = int(np.argmax((place < 0) | (place >= most)))
                raise EngramError(
                    f"record {self.ids[row]!r} is placed in {name} {place[row]}, but there are "
                    f"{most} (0 to {most - 1})",
                    hint="the placement may be damaged; train again",
                )
        self._check_claims()

    def _check_claims(self) -> None:
        if self.ids.distinct == len(self.ids):
            return
        first: dict[str, int] = {}
        for row, record in enumerate(self.ids):
            if record in first:
                one, other = self.shard[first[record]], self.shard[row]
                where = f"shards {one} and {other}" if one != other else f"shard {one} twice"
                raise EngramError(
                    f"record {record!r} is claimed by {where}",
                    hint="every record lies in one shard and one slice; place it once",
                )
            first[record] = row

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        shard: Sequence[int] | np.ndarray,
        slice: Sequence[int] | np.ndarray | None = None,
        *,
        shards: int = 0,
        slices: int = 0,
    ) -> "Placement":
        """A placement from plain sequences; without `slice`, every shard is one slice.

        Args:
            ids: The records.
            shard: Of each.
            slice: Of each.
            shards: How many there are; 0: up to the highest that is named.
            slices: The same for slices.

        Raises:
            EngramError: A record is claimed twice, or placed where there is no shard or slice.
        """
        shard = np.array(shard, np.int64).reshape(-1)
        inside = np.zeros_like(shard) if slice is None else np.array(slice, np.int64).reshape(-1)
        return cls(
            Strings(ids),
            shard,
            inside,
            shards or int(shard.max(initial=0)) + 1,
            slices or int(inside.max(initial=0)) + 1,
        )

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Iterable[str]) -> Int[np.ndarray, " m"]:
        """The row of each of these records.

        Raises:
            EngramError: One is not placed: the shards never saw it, or have forgotten it.
        """
        wanted = Strings(ids)
        found = self.ids.places(wanted)
        if found is None:
            known = set(self.ids)
            unknown = [record for record in wanted if record not in known]
            raise EngramError(
                f"no shard holds record {unknown[0]!r} ({len(unknown)} such ids)",
                hint=nearest(unknown[0], known, "`placement.parquet` lists the placed records"),
            )
        return found

    def take(self, rows: Sequence[int] | np.ndarray) -> "Placement":
        """These rows alone; shards and slices stay as many as they were."""
        rows = np.array(rows, np.int64).reshape(-1)
        ids = self.ids.take(rows)
        return Placement(ids, self.shard[rows], self.slice[rows], self.shards, self.slices)

    def without(self, ids: Iterable[str]) -> "Placement":
        """The placement of the other records; every one stays where it is."""
        gone = np.zeros(len(self), bool)
        gone[self.rows(ids)] = True
        return self.take(np.flatnonzero(~gone))

    def inside(self, shard: int, upto: int | None = None) -> tuple[str, ...]:
        """Ids of a shard's records, in order; with `upto`, of its slices 0 to `upto` alone."""
        chosen = self.shard == shard
        if upto is not None:
            chosen &= self.slice <= upto
        return tuple(self.ids.take(np.flatnonzero(chosen)))

    @property
    def sizes(self) -> Int[np.ndarray, "shards slices"]:
        """How many records lie in each slice of each shard."""
        flat = np.bincount(
            self.shard * self.slices + self.slice, minlength=self.shards * self.slices
        )
        return flat.reshape(self.shards, self.slices)

    def save(self, folder: Path) -> None:
        """Write `placement.parquet`: id, shard and slice."""
        table = pa.table(
            {
                "id": pa.array(self.ids, pa.string()),
                "shard": pa.array(self.shard, pa.int32()),
                "slice": pa.array(self.slice, pa.int32()),
            }
        )
        pq.write_table(table, folder / FILE)

    @classmethod
    def load(cls, folder: Path, shards: int, slices: int) -> "Placement":
        """Read `placement.parquet`.

        Raises:
            EngramError: It is missing or damaged, or claims a record twice.
        """
        try:
            table = pq.read_table(folder / FILE)
            ids = [str(record) for record in table.column("id").to_pylist()]
            shard, inside = (
                np.array(table.column(name).to_pylist(), np.int64) for name in ("shard", "slice")
            )
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as problem:
            raise EngramError(
                f"the placement in {folder} cannot be read ({type(problem).__name__}: {problem})",
                hint="the folder may be damaged; train the target again",
            ) from None
        return cls(ids, shard, inside, shards, slices)


def mean(probabilities: Float[np.ndarray, "shards n classes"]) -> Float[np.ndarray, "n classes"]:
    """The mean over shards of what each holds probable."""
    _check_some(probabilities)
    return probabilities.mean(0)


def vote(probabilities: Float[np.ndarray, "shards n classes"]) -> Float[np.ndarray, "n classes"]:
    """The share of shards that hold each class the most probable.

    The mean probability enters with the weight `TIE`, so that it decides where votes are even.
    A shard that is itself undecided votes for the first of its classes.
    """
    _check_some(probabilities)
    shards, n, classes = probabilities.shape
    ballots = np.zeros((n, classes))
    for choice in probabilities.argmax(2):
        ballots[np.arange(n), choice] += 1
    return (1 - TIE) * ballots / shards + TIE * probabilities.mean(0)


def weighted(
    probabilities: Float[np.ndarray, "shards n classes"], weights: Float[np.ndarray, " shards"]
) -> Float[np.ndarray, "n classes"]:
    """The mean over shards by weights, which are made to sum to 1 over the shards given here.

    Raises:
        EngramError: A weight is negative or not finite, or all are 0.
    """
    _check_some(probabilities)
    weights = np.asarray(weights, np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        raise EngramError(
            f"the weights of the shards are {np.round(weights, 4).tolist()}",
            hint="they must be 0 or more, and one of them above 0",
        )
    return np.tensordot(weights / weights.sum(), probabilities, axes=1)


def _check_some(probabilities: np.ndarray) -> None:
    if not len(probabilities):
        raise EngramError(
            "no shard can be asked: every one is empty",
            hint="every record was deleted; delete the model too",
        )
