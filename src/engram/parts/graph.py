"""Undirected graphs as sorted arrays, and the graph that stands beside the records of a split.

The records of a graph are its nodes: a column `node` says which one a record is, and `shared` holds
what all of them need: `edges` (2, E) and `node_features` (N, F). A record whose node is `OUTSIDE`
stands in no graph: it is asked about by its own features alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from engram.core import EngramError, Split
from engram.parts.labelled import features_of

NODE, EDGES, FEATURES = "node", "edges", "node_features"
CONTEXT = frozenset({EDGES, FEATURES})
"""What stands in `shared` and decides the answers about a record."""
NODE_IDS = "node_ids"
"""What each node is called in the files that a graph was read from; (N,), where it was."""
OUTSIDE = -1
"""The node of a record that stands in no graph."""
Edges = Int[np.ndarray, "2 edges"]


@dataclass(frozen=True, eq=False)
class Graph:
    """An undirected graph without self-loops. Build one with `Graph.of(edges, nodes)`.

    Attributes:
        edges: Each edge once, the smaller end above, sorted by both ends.
        nodes: How many nodes there are; some may have no edge.
        loops: How many self-loops were left out.
        doubles: How many further copies of edges were left out, in either direction.
    """

    edges: Edges
    nodes: int
    loops: int = 0
    doubles: int = 0

    @classmethod
    def of(cls, edges: np.ndarray, nodes: int) -> "Graph":
        """A graph from any list of edges: directed or not, with self-loops, with copies.

        Args:
            edges: (2, E), nodes counted from 0.
            nodes: How many there are.

        Raises:
            EngramError: The array has another shape, or an edge ends at a node that is not there.
        """
        given = np.asarray(edges)
        if given.ndim != 2 or given.shape[0] != 2 or given.dtype.kind not in "iu":
            raise EngramError(
                f"edges have the shape {given.shape} and the type {given.dtype}",
                hint="give whole numbers of shape (2, E): both ends of every edge",
            )
        given = given.astype(np.int64)
        if given.size and not (given.min() >= 0 and given.max() < nodes):
            strange = given[(given < 0) | (given >= nodes)][0]
            raise EngramError(
                f"an edge ends at node {strange}, but there are {nodes} nodes (0 to {nodes - 1})",
                hint="number the nodes from 0, and give features for every one of them",
            )
        low, high = given.min(0), given.max(0)
        proper = low != high
        keys = np.unique(low[proper] * max(nodes, 1) + high[proper])
        found = np.stack(np.divmod(keys, max(nodes, 1)))
        loops = int((~proper).sum())
        return cls(found, nodes, loops, given.shape[1] - loops - len(keys))

    @cached_property
    def directed(self) -> Int[np.ndarray, "2 arcs"]:
        """Every edge in both directions, sorted by where it starts, then by where it ends."""
        both = np.concatenate([self.edges, self.edges[::-1]], axis=1)
        return both[:, np.lexsort((both[1], both[0]))]

    @cached_property
    def starts(self) -> Int[np.ndarray, " nodes_and_one"]:
        """Where each node's neighbours begin in `directed`; the last entry is their number."""
        return np.concatenate([[0], np.cumsum(self.degrees)])

    @cached_property
    def degrees(self) -> Int[np.ndarray, " nodes"]:
        """How many neighbours each node has."""
        return np.bincount(self.edges.reshape(-1), minlength=self.nodes)

    @property
    def isolated(self) -> Bool[np.ndarray, " nodes"]:
        """Which nodes have no neighbour."""
        return self.degrees == 0

    def induced(self, rows: np.ndarray) -> "Graph":
        """The graph of these nodes, in this order, and of the edges between them alone.

        `OUTSIDE` stands for a node without edges.
        """
        rows = np.asarray(rows, np.int64)
        place = np.full(self.nodes + 1, -1, np.int64)  # the last entry is that of OUTSIDE
        place[rows] = np.arange(len(rows))
        place[OUTSIDE] = -1
        ends = place[self.edges]
        return Graph.of(ends[:, (ends >= 0).all(0)], len(rows))

    def around(self, rows: np.ndarray, hops: int) -> Int[np.ndarray, " found"]:
        """These nodes and all that are at most `hops` edges away, ascending."""
        inside = np.zeros(self.nodes, bool)
        inside[rows] = True
        for _ in range(hops):
            low, high = inside[self.edges]
            inside[self.edges[1][low]] = True
            inside[self.edges[0][high]] = True
        return np.flatnonzero(inside)

    def without(self, keys: Iterable[int]) -> "Graph":
        """The graph without the edges at these places of `edges`."""
        kept = np.ones(self.edges.shape[1], bool)
        kept[np.fromiter(keys, np.int64)] = False
        return Graph(self.edges[:, kept], self.nodes)


def nodes_of(split: Split, nodes: int) -> Int[np.ndarray, " n"]:
    """Which node each record is.

    Raises:
        EngramError: The column is not of whole numbers, or there is no such node.
    """
    column = split.column(NODE)
    if not pa.types.is_integer(column.type) or column.null_count:
        raise EngramError(
            f"column {NODE!r} of split {split.name!r} holds {column.type} with "
            f"{column.null_count} empty places, not the numbers of nodes",
            hint=f"number the nodes from 0; {OUTSIDE} is a record in no graph",
        )
    found = np.array(split.matrix(NODE), np.int64)
    bad = (found < OUTSIDE) | (found >= nodes)
    if bad.any():
        row = int(np.argmax(bad))
        raise EngramError(
            f"record {split.ids[row]!r} of split {split.name!r} is node {found[row]}, which does "
            f"not exist: there are {nodes} (0 to {nodes - 1})",
            hint=f"number the nodes from 0; {OUTSIDE} is a record in no graph",
        )
    return found


def graph_beside(split: Split) -> tuple[Graph, Float[np.ndarray, "nodes features"]]:
    """The whole graph that a split carries, and the features of all of its nodes.

    Raises:
        EngramError: The split carries none, or one that is not whole.
    """
    if missing := [name for name in (EDGES, FEATURES) if name not in split.shared]:
        raise EngramError(
            f"split {split.name!r} carries no graph: its shared context has no {missing[0]!r}",
            hint="graphs are data sets of their own: `engram ls data` lists cora, demo:graph, ...",
        )
    features = np.asarray(split.shared[FEATURES])
    if features.ndim != 2 or features.dtype.kind not in "fiu" or not np.isfinite(features).all():
        raise EngramError(
            f"the features of the nodes of split {split.name!r} have the shape {features.shape} "
            f"and the type {features.dtype}, or are not finite",
            hint="give finite numbers of shape (N, F), a row a node",
        )
    return Graph.of(split.shared[EDGES], len(features)), features.astype(np.float32, copy=False)


def cut_out(split: Split) -> Split:
    """The same records in the graph among themselves: of other nodes and edges nothing is left.

    Record i is node i. Whatever is learnt from the result cannot depend on anything else.

    Raises:
        EngramError: Two records are the same node.
    """
    graph, _ = graph_beside(split)
    nodes = nodes_of(split, graph.nodes)
    values, times = np.unique(nodes[nodes != OUTSIDE], return_counts=True)
    if (times > 1).any():
        raise EngramError(
            f"node {values[times > 1][0]} stands on {times[times > 1][0]} records of split "
            f"{split.name!r}",
            hint="a graph is learnt from with every node once",
        )
    place = split.records.column_names.index(NODE)
    numbered = split.records.set_column(place, NODE, pa.array(np.arange(len(split))))
    shared = {
        **{name: array for name, array in split.shared.items() if name not in CONTEXT},
        EDGES: graph.induced(nodes).edges,
        FEATURES: features_of(split),
    }
    return Split(split.name, numbered, split.ids, split.owners, split.canaries, shared)


def with_edges(split: Split, graph: Graph) -> Split:
    """The same records beside another graph of the same nodes."""
    return replace(split, shared={**split.shared, EDGES: graph.edges})


def edge_places(graph: Graph, ends: Edges) -> Int[np.ndarray, " found"]:
    """Where these edges stand in `graph.edges`; -1 where there is no such edge."""
    low, high = np.sort(np.asarray(ends, np.int64), axis=0)
    keys = graph.edges[0] * graph.nodes + graph.edges[1]
    wanted = low * graph.nodes + high
    if not len(keys):
        return np.full(len(wanted), -1)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, places, -1)


def graph_split(
    name: str,
    features: Float[np.ndarray, "nodes features"],
    labels: Int[np.ndarray, " nodes"],
    edges: Edges,
    shared: Mapping[str, np.ndarray] | None = None,
) -> Split:
    """A graph as a split: one record for every node that has a label, beside the whole graph.

    Args:
        name: Of the split; node 17 gets the id `name-00017`.
        features: Of every node.
        labels: Of every node; negative where it has none.
        edges: In any order and direction.
        shared: Further context, such as names of classes.
    """
    graph = Graph.of(edges, len(features))
    nodes = np.flatnonzero(labels >= 0)
    features = np.ascontiguousarray(features, np.float32)
    return Split.of(
        name,
        ids=[f"{name}-{node:05d}" for node in nodes.tolist()],
        shared={**(shared or {}), EDGES: graph.edges, FEATURES: features},
        features=features[nodes],
        label=labels[nodes].astype(np.int64),
        node=nodes,
    )


def structural_features(graph: Graph) -> Float[np.ndarray, "nodes features"]:
    """Numbers that say where a node stands in a graph that has no others.

    In which power of two its degree lies (16 columns of 0 or 1), log(1 + degree), the mean of that
    over its neighbours, log(1 + triangles), and the chance that two random steps lead back.
    """
    from scipy.sparse import coo_array

    degrees = graph.degrees
    heard, said = graph.directed
    matrix = coo_array(
        (np.ones(len(heard)), (heard, said)), shape=(graph.nodes, graph.nodes)
    ).tocsr()
    triangles = np.asarray((matrix @ matrix).multiply(matrix).sum(1)).reshape(-1) / 2
    level = np.minimum(np.floor(np.log2(np.maximum(degrees, 1))).astype(int) + (degrees > 0), 15)
    size, share = np.log1p(degrees), 1 / np.maximum(degrees, 1)
    numbers = [size, (matrix @ size) * share, np.log1p(triangles), (matrix @ share) * share]
    return np.column_stack([np.eye(16)[level], *numbers]).astype(np.float32)
