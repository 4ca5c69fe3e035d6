"""Choose which records are members, so that nothing of one owner or one content is on both sides.

Records that share an owner, or that are exact copies, are one group; a group is never cut.
Groups are drawn at random inside strata of equal size (planted canaries apart), so that neither
the number of records an owner has nor being a canary tells the side. Or each group has a coin of
its own: then the number of members is left to chance too, and no group's side says anything of
another's.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from engram.core.errors import EngramError
from engram.core.split import Split

By = Literal["owner", "record"]


def choose(
    split: Split, share: float, rng: np.random.Generator, by: By = "owner"
) -> Bool[np.ndarray, " n"]:
    """True for the records to train on: as near `share` of all as whole groups allow.

    The choice depends on ids, owners and contents, not on the order of the records.

    Args:
        split: The records.
        share: Wanted fraction of members, in (0, 1).
        rng: The random stream of this choice.
        by: "owner" keeps all records of an owner on one side (where owners are not known, as
            "record"); "record" keeps only exact copies together.

    Raises:
        EngramError: `share` is out of range, or there is only one group.
    """
    _check(share)
    group = groups(split, by)
    members = _draw(_strata(split, group), share, rng)
    if not members:
        raise EngramError(
            f"split {split.name!r} cannot be cut in two: its {len(split)} records are one group "
            f"by {by}",
            hint="records of one owner and exact copies stay together; give more owners, or "
            'cut by "record"',
        )
    return np.isin(group, list(members))


def toss(
    split: Split, share: float, rng: np.random.Generator, by: By = "owner"
) -> Bool[np.ndarray, " n"]:
    """True for the records to train on: each group by a coin of its own, true with this share.

    See `choose`, which fixes how many are true.

    Raises:
        EngramError: `share` is out of range, or all coins fell alike.
    """
    _check(share)
    group = groups(split, by)
    # A group's first id decides its place, so that the order of the records does not matter.
    by_id = np.argsort(np.array(split.ids), kind="stable")
    order = np.array(list(dict.fromkeys(group[by_id].tolist())), dtype=np.int64)
    heads = rng.random(len(order)) < share
    if heads.all() or not heads.any():
        raise EngramError(
            f"all {len(order)} coins fell alike, so that split {split.name!r} has "
            f"{'no outsiders' if heads.all() else 'no members'}",
            hint="give more records (or owners), or draw a fixed share of them by lot",
        )
    return np.isin(group, order[heads])


def groups(split: Split, by: By = "owner") -> Int[np.ndarray, " n"]:
    """A group number for each record; records that must stay together have the same.

    Copies are records of equal content, and of equal `text` where there is one.
    """
    keys: list[Sequence[Hashable]] = [split.digests]
    if "text" in split.columns:
        keys.append(split.texts)
    if by == "owner" and split.owners is not None:
        keys.append(split.owners)
    return connected(len(split), keys)


def connected(n: int, keys: Sequence[Sequence[Hashable]]) -> Int[np.ndarray, " n"]:
    """Components of the graph in which two records touch if they share a value of any key."""
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]  # halve the path on the way
            i = parent[i]
        return i

    for values in keys:
        first: dict[Hashable, int] = {}
        for i, value in enumerate(values):
            parent[root(i)] = root(first.setdefault(value, i))
    return np.array([root(i) for i in range(n)], dtype=np.int64)


def _check(share: float) -> None:
    if not 0 < share < 1:
        raise EngramError(
            f"the share of members is {share}, but must be in (0, 1)", hint="0.5 is a good start"
        )


def _strata(split: Split, group: Int[np.ndarray, " n"]) -> list[tuple[int, list[int]]]:
    """(size, groups of that size), largest first; groups in an order that only ids decide."""
    rows: dict[int, list[int]] = defaultdict(list)
    for row, g in enumerate(group.tolist()):
        rows[g].append(row)
    canaries = split.canaries or (False,) * len(split)
    strata: dict[tuple[bool, int], list[tuple[str, int]]] = defaultdict(list)
    for g, mine in rows.items():
        planted = any(canaries[row] for row in mine)
        strata[planted, len(mine)].append((min(split.ids[row] for row in mine), g))
    # Canaries first: their rounding is mended by the ordinary records after them.
    order = sorted(strata, key=lambda key: (not key[0], -key[1]))
    return [(key[1], [g for _, g in sorted(strata[key])]) for key in order]


def _draw(
    strata: list[tuple[int, list[int]]], share: float, rng: np.random.Generator
) -> frozenset[int]:
    """The chosen groups; empty where there are fewer than two to choose from.

    In each stratum as many are drawn as bring the running total to `share`, rounded at random so
    that each group is chosen with probability `share`, whatever its size. The total is off by
    less than the largest group; small groups come last and mend what large ones had to round.
    """
    chosen: set[int] = set()
    seen = taken = 0
    for size, candidates in strata:
        seen += size * len(candidates)
        wanted = (share * seen - taken) / size
        # 1e-9: a whole number that floating point made a little too small is still that number.
        count = int(np.clip(np.floor(wanted + 1e-9 + rng.random()), 0, len(candidates)))
        chosen |= {candidates[i] for i in rng.permutation(len(candidates))[:count]}
        taken += size * count
    every = [g for _, candidates in strata for g in candidates]
    if len(every) < 2:
        return frozenset()
    if len(chosen) in (0, len(every)):  # no side may be empty: one of the smallest groups moves
        smallest = strata[-1][1]
        chosen ^= {smallest[int(rng.integers(len(smallest)))]}
    return frozenset(chosen)
