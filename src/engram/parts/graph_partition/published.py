"""Partitioners of other packages, for comparison: METIS, Louvain and label propagation.

Louvain and label propagation find as many communities as they like. These are dealt out to the
wanted number, the largest first, each to where the fewest nodes are; so one that is larger than its
share stays whole, and the result may be uneven.
"""

import heapq

import numpy as np
from jaxtyping import Int

from engram.core import EngramError
from engram.parts.graph import Graph

SEEDS = 2**31 - 1


def metis(
    graph: Graph, m: int, delta: float, rng: np.random.Generator
) -> Int[np.ndarray, " nodes"]:
    """METIS's k-way partition (Karypis and Kumar, 1998), about as uneven as is allowed.

    Raises:
        EngramError: pymetis is not installed.
    """
    try:
        import pymetis
    except ImportError:
        raise EngramError(
            "METIS was asked for, but pymetis is not installed", hint="pip install 'engram[graph]'"
        ) from None
    if m == 1 or graph.nodes <= m:
        return np.arange(graph.nodes) % m
    # METIS counts imbalance in thousandths above an equal share.
    slack = max(1, round(1000 * delta * (m - 1)))
    options = pymetis.Options(seed=int(rng.integers(SEEDS)), ufactor=slack)
    adjacency = pymetis.CSRAdjacency(
        graph.starts.astype(np.int32), graph.directed[1].astype(np.int32)
    )
    found = pymetis.part_graph(m, adjacency, options=options, recursive=False)
    return np.array(list(found.vertex_part), np.int64)


def louvain(graph: Graph, m: int, rng: np.random.Generator) -> Int[np.ndarray, " nodes"]:
    """Louvain's communities (Blondel et al., 2008), dealt out to `m`."""
    from networkx.algorithms.community import louvain_communities

    found = louvain_communities(_networkx(graph), seed=int(rng.integers(SEEDS)))
    return dealt_out([sorted(each) for each in found], graph.nodes, m)


def propagation(graph: Graph, m: int, rng: np.random.Generator) -> Int[np.ndarray, " nodes"]:
    """Label propagation's communities (Raghavan et al., 2007), dealt out to `m`."""
    from networkx.algorithms.community import asyn_lpa_communities

    found = asyn_lpa_communities(_networkx(graph), seed=int(rng.integers(SEEDS)))
    return dealt_out([sorted(each) for each in found], graph.nodes, m)


def dealt_out(communities: list[list[int]], n: int, m: int) -> Int[np.ndarray, " n"]:
    """Whole communities dealt out to `m`, the largest first, each to where the fewest nodes are."""
    place = np.zeros(n, np.int64)
    heap = [(0, k) for k in range(m)]
    for members in sorted(communities, key=lambda each: (-len(each), each)):
        size, k = heapq.heappop(heap)
        place[members] = k
        heapq.heappush(heap, (size + len(members), k))
    return place


def _networkx(graph: Graph) -> object:
    import networkx

    made = networkx.Graph()
    made.add_nodes_from(range(graph.nodes))
    made.add_edges_from(graph.edges.T.tolist())
    return made
