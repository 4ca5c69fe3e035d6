"""What chance put into the training data or left out of it, as a whole: records, copies, owners."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from engram.core import Split
from engram.parts.partition import groups


@dataclass(frozen=True, eq=False)
class Units:
    """Groups of records that were in or out together.

    Attributes:
        records: The records of all units, in an order that only their ids decide.
        unit: Which unit each record belongs to; (records,).
        inside: Whether each unit was trained on; (units,).
        sizes: Records in each unit; (units,).
        strata: Units with equal numbers here were drawn from one urn; (units,).
        seen: How many records there were to choose from.
    """

    records: Split
    unit: Int[np.ndarray, " n"]
    inside: Bool[np.ndarray, " units"]
    sizes: Int[np.ndarray, " units"]
    strata: Int[np.ndarray, " units"]
    seen: int

    def mean(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " units"]:
        """The mean of the records' values in each unit."""
        return np.bincount(self.unit, values, len(self.inside)) / np.maximum(self.sizes, 1)


def units_of(members: Split, outsiders: Split, *, alone: bool, canaries: bool) -> Units:
    """The units of two sides of a hold-out.

    A group with records on both sides was not drawn as a whole, and is left out.

    Args:
        members: Records that were trained on.
        outsiders: Records that were held out.
        alone: Take only records that are a unit by themselves.
        canaries: Take only units that are canaries.
    """
    both = members.joined(outsiders, name="units")
    # Membership must not show in the order, by which later steps break ties.
    order = np.argsort(np.array(both.ids))
    both, inside = both.take(order), (np.arange(len(both)) < len(members))[order]
    planted = np.array(both.canaries or (False,) * len(both))
    group = np.unique(groups(both), return_inverse=True)[1]
    count = np.bincount(group)
    trained = np.bincount(group, inside)
    made_up = np.bincount(group, planted) > 0
    good = (trained == 0) | (trained == count)
    good &= (count == 1) | (not alone)
    good &= made_up | (not canaries)
    numbers = np.flatnonzero(good)
    kept = good[group]
    return Units(
        both.where(kept),
        np.searchsorted(numbers, group[kept]),
        trained[numbers] > 0,
        count[numbers],
        # As `partition.choose` draws: canaries apart, then by the number of records.
        2 * count[numbers] + made_up[numbers],
        int((planted | (not canaries)).sum()),
    )


def matched(
    units: Units, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Random pairs of a unit that was in and one that was not, of the same stratum.

    Given the pairs, each of the two was as likely to be the one that was in, independently of
    the other pairs: every way to have one of each pair in is equally probable.
    """
    inside, outside = [], []
    for stratum in np.unique(units.strata):
        here = units.strata == stratum
        sides = [rng.permutation(np.flatnonzero(here & (units.inside == side))) for side in (1, 0)]
        pairs = min(map(len, sides))
        inside.append(sides[0][:pairs])
        outside.append(sides[1][:pairs])
    return np.concatenate([[], *inside]).astype(int), np.concatenate([[], *outside]).astype(int)


def halves(
    cluster: Int[np.ndarray, " n"], side: Bool[np.ndarray, " n"], rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """True for the records of a random half of the clusters of each side.

    A cluster is on one side; of an odd number the half is the smaller one.
    """
    chosen = np.zeros(int(cluster.max()) + 1 if len(cluster) else 0, bool)
    for value in (True, False):
        mine = rng.permutation(np.unique(cluster[side == value]))
        chosen[mine[: len(mine) // 2]] = True
    return chosen[cluster]
