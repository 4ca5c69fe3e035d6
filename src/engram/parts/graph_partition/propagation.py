"""Balanced label propagation (Chen et al., 2022, Algorithm 1): neighbours together, none too many.

Every node wishes to be where most of its neighbours are. The most wished-for moves come first. A
move into a full community waits in that community's queue; whenever somebody leaves there, the
first in the queue moves in, which leaves room where it came from, and so on.
"""

from collections import deque

import numpy as np
from jaxtyping import Int

from engram.parts.graph import Graph


def even_start(n: int, m: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Communities by lot, of equal size give or take one."""
    community = np.empty(n, np.int64)
    community[rng.permutation(n)] = np.arange(n) % m
    return community


def balanced_propagation(
    graph: Graph, m: int, cap: int, rng: np.random.Generator, rounds: int
) -> Int[np.ndarray, " nodes"]:
    """The community of each node after at most `rounds` rounds, none with more than `cap` nodes.

    A node without neighbours wishes nothing and stays where the lot put it.
    """
    community = even_start(graph.nodes, m, rng)
    for _ in range(rounds):
        movers, wanted, weight = wishes(graph, community, m, rng)
        order = np.argsort(-weight, kind="stable")
        if not move_in_order(community, movers[order], wanted[order], m, cap):
            break
    return community


def wishes(
    graph: Graph, community: Int[np.ndarray, " nodes"], m: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """Who would rather be elsewhere, where, and how many neighbours it has there; in random order.

    Where several communities have the most neighbours of a node, one is drawn.
    """
    node, said = graph.directed
    pairs, counts = np.unique(node * m + community[said], return_counts=True)
    lots = rng.random(len(pairs))
    who, where = np.divmod(pairs, m)
    order = np.lexsort((lots, -counts, who))
    who, where, counts = who[order], where[order], counts[order]
    first = np.ones(len(who), bool)
    first[1:] = who[1:] != who[:-1]
    first &= where != community[who]
    shuffled = rng.permutation(np.flatnonzero(first))
    return who[shuffled], where[shuffled], counts[shuffled]


def move_in_order(
    community: Int[np.ndarray, " nodes"],
    movers: Int[np.ndarray, " k"],
    wanted: Int[np.ndarray, " k"],
    m: int,
    cap: int,
) -> int:
    """Grant moves in this order, in place; those into full communities queue. Returns how many."""
    sizes = np.bincount(community, minlength=m).tolist()
    queues: list[deque[int]] = [deque() for _ in range(m)]
    place = community.tolist()
    moved = 0
    for node, to in zip(movers.tolist(), wanted.tolist(), strict=True):
        if sizes[to] >= cap:
            queues[to].append(node)
            continue
        while True:
            left = place[node]
            place[node] = to
            sizes[to] += 1
            sizes[left] -= 1
            moved += 1
            if not queues[left]:
                break
            node, to = queues[left].popleft(), left
    community[:] = place
    return moved
