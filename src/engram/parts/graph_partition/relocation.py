"""Label propagation with sizes kept by a linear programme (Ugander and Backstrom, 2013).

In each round every node names the community that it would gain the most neighbours by moving to.
How many may move from i to j is decided for all pairs at once, so that no community grows or
shrinks too far and the gain is the largest; those who gain the most go first. The gain of the
first x movers is concave in x, so the programme is linear in how many move at each gain.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linprog
from scipy.sparse import coo_array

from engram.parts.graph import Graph
from engram.parts.graph_partition.propagation import even_start


def relocation(
    graph: Graph, m: int, cap: int, rng: np.random.Generator, rounds: int
) -> Int[np.ndarray, " nodes"]:
    """The community of each node after at most `rounds` rounds, none with more than `cap` nodes."""
    community = even_start(graph.nodes, m, rng)
    least = max(0, 2 * (graph.nodes // m) - cap)
    for _ in range(rounds):
        movers, wanted, gain = gains(graph, community, m, rng)
        if not len(movers):
            break
        pair = community[movers] * m + wanted
        kinds, inverse, counts = np.unique(
            np.stack([pair, gain]), axis=1, return_inverse=True, return_counts=True
        )
        room = np.bincount(community, minlength=m)
        numbers = how_many(kinds[0] // m, kinds[0] % m, kinds[1], counts, room, (least, cap))
        rank = np.empty(len(movers), np.int64)
        order = np.argsort(inverse.reshape(-1), kind="stable")
        rank[order] = np.arange(len(movers)) - np.repeat(np.cumsum(counts) - counts, counts)
        granted = rank < numbers[inverse.reshape(-1)]
        if not granted.any():
            break
        community[movers[granted]] = wanted[granted]
    return community


def gains(
    graph: Graph, community: Int[np.ndarray, " nodes"], m: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """Who would have more neighbours elsewhere, where, and how many more; in random order."""
    node, said = graph.directed
    pairs, counts = np.unique(node * m + community[said], return_counts=True)
    who, where = np.divmod(pairs, m)
    now = np.zeros(graph.nodes, np.int64)
    home = where == community[who]
    now[who[home]] = counts[home]
    order = np.lexsort((rng.random(len(who)), -counts, who))
    who, where, counts = who[order], where[order], counts[order]
    first = np.ones(len(who), bool)
    first[1:] = who[1:] != who[:-1]
    first &= counts > now[who]
    shuffled = rng.permutation(np.flatnonzero(first))
    who = who[shuffled]
    return who, where[shuffled], counts[shuffled] - now[who]


def how_many(
    source: Int[np.ndarray, " k"],
    destination: Int[np.ndarray, " k"],
    gain: Int[np.ndarray, " k"],
    waiting: Int[np.ndarray, " k"],
    sizes: Int[np.ndarray, " m"],
    bounds: tuple[int, int],
) -> Int[np.ndarray, " k"]:
    """How many of each kind may move: the largest sum of gains with all sizes within bounds.

    Args:
        source: Where those of this kind are.
        destination: Where they want to be.
        gain: Of each of them.
        waiting: How many there are.
        sizes: Of the communities now.
        bounds: Least and largest size afterwards.
    """
    k, m = len(source), len(sizes)
    columns = np.arange(k)
    change = coo_array(
        (
            np.concatenate([np.ones(k), -np.ones(k)]),
            (np.concatenate([destination, source]), np.concatenate([columns, columns])),
        ),
        shape=(m, k),
    ).tocsr()
    low, high = (np.full(m, float(b)) - sizes for b in bounds)
    low = np.minimum(low, 0.0)  # a community that is below the least already need not grow
    limits = np.concatenate([high, -low])
    both: Float[np.ndarray, "rows k"] = _stacked(change)
    # Dual simplex ends in a corner, and the corners of flows through a network are whole numbers.
    found = linprog(
        -gain.astype(np.float64),
        A_ub=both,
        b_ub=limits,
        bounds=np.stack([np.zeros(k), waiting], 1),
        method="highs-ds",
    )
    if found.x is None:
        return np.zeros(k, np.int64)
    return np.rint(found.x).astype(np.int64)


def _stacked(change: object) -> object:
    from scipy.sparse import vstack

    return vstack([change, -change]).tocsr()  # type: ignore[operator]
