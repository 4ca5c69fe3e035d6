"""Which community each node of a graph goes to: balanced, or as the graph would have it.

Every partitioner is a function of a graph, a number of communities and a random stream, and gives
the community of each node, counted from 0. None holds a number for every pair of nodes.
"""

import math
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from engram.core import EngramError
from engram.parts.graph import Graph
from engram.parts.graph_partition.kmeans import balanced_kmeans, even_kmeans, free_kmeans
from engram.parts.graph_partition.propagation import balanced_propagation, even_start
from engram.parts.graph_partition.published import louvain, metis, propagation
from engram.parts.graph_partition.relocation import relocation

Partitioner = Literal[
    "random", "blpa", "blpa-base", "bekm", "bekm-base", "metis", "louvain", "label-propagation",
    "kmeans",
]  # fmt: skip
PARTITIONERS: tuple[Partitioner, ...] = get_args(Partitioner)
BALANCED: frozenset[str] = frozenset({"random", "blpa", "blpa-base", "bekm", "bekm-base"})
"""Those that never exceed the largest size."""
EMBEDDED: frozenset[str] = frozenset({"bekm", "bekm-base", "kmeans"})
"""Those that look at an embedding of the nodes, and not at edges."""


def largest_size(n: int, m: int, delta: float) -> int:
    """ceil(n / m + delta (n - n / m)): how many of n nodes one of m communities may hold.

    Args:
        n: Nodes.
        m: Communities.
        delta: 0 is as even as can be, 1 allows anything.
    """
    # Rounding keeps a whole number from being lifted by an error in its last bit.
    return math.ceil(round(n / m + delta * (n - n / m), 9))


def cut_share(graph: Graph, community: Int[np.ndarray, " nodes"]) -> float:
    """The share of edges whose ends lie in different communities; 0 where there is no edge."""
    if not graph.edges.shape[1]:
        return 0.0
    return float(np.mean(community[graph.edges[0]] != community[graph.edges[1]]))


def divide(
    method: str,
    graph: Graph,
    m: int,
    rng: np.random.Generator,
    *,
    delta: float = 0.005,
    rounds: int = 30,
    embedding: Float[np.ndarray, "nodes width"] | None = None,
) -> Int[np.ndarray, " nodes"]:
    """The community of each node, by the partitioner of this name.

    Args:
        method: One of `PARTITIONERS`.
        graph: Its nodes are divided.
        m: How many communities; of a graph with fewer nodes some stay empty.
        rng: All randomness comes from here.
        delta: How uneven the balanced ones may be; see `largest_size`.
        rounds: At most so many of those that work in rounds.
        embedding: Of the nodes, for those in `EMBEDDED`.

    Raises:
        EngramError: There is no such partitioner, or one lacks its embedding.
    """
    cap = largest_size(graph.nodes, m, delta)
    if method in EMBEDDED and embedding is None:
        raise EngramError(f"{method} divides an embedding of the nodes, and was given none")
    if method == "random":
        return even_start(graph.nodes, m, rng)
    if method == "blpa":
        return balanced_propagation(graph, m, cap, rng, rounds)
    if method == "blpa-base":
        return relocation(graph, m, cap, rng, rounds)
    if method == "metis":
        return metis(graph, m, delta, rng)
    if method in ("louvain", "label-propagation"):
        return (louvain if method == "louvain" else propagation)(graph, m, rng)
    by_distance = {"bekm": balanced_kmeans, "bekm-base": even_kmeans}
    if method in by_distance:
        return by_distance[method](embedding, m, cap, rng, rounds)  # type: ignore[arg-type]
    if method == "kmeans":
        return free_kmeans(embedding, m, rng)  # type: ignore[arg-type]
    raise EngramError(
        f"there is no partitioner {method!r}", hint=f"known: {', '.join(PARTITIONERS)}"
    )
