"""Edges that a request names, and what may be kept of them once they are deleted."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from engram.core import EngramError, Split
from engram.core.pseudonyms import pseudonym
from engram.parts.graph import Graph, edge_places, graph_beside, with_edges

FORGOTTEN = "forgotten_edges"
"""What a sharded model calls the marks of its deleted edges."""
DIGITS = 15
"""Hexadecimal digits of a mark: as many as a whole number of 64 bits holds."""


def named_edges(text: str) -> Int[np.ndarray, "2 edges"]:
    """`17-25,3-9` as an array of ends, each edge once, the smaller end above.

    Raises:
        EngramError: A piece is not two numbers with a dash between them, or one end is the other.
    """
    pairs = set()
    for piece in filter(None, (each.strip() for each in text.split(","))):
        found = re.fullmatch(r"([0-9]{1,15})-([0-9]{1,15})", piece)
        if found is None or int(found[1]) == int(found[2]):
            raise EngramError(
                f"edges has the piece {piece!r}, which names no edge",
                hint="an edge is the numbers of two nodes: --edges 17-25,3-9",
            )
        pairs.add(tuple(sorted((int(found[1]), int(found[2])))))
    return np.array(sorted(pairs), np.int64).reshape(-1, 2).T


@dataclass(frozen=True, eq=False)
class NamedEdges:
    """Edges by the nodes at their ends; (2, E)."""

    ends: Int[np.ndarray, "2 edges"]

    @classmethod
    def of(cls, text: str) -> "NamedEdges":
        """From `17-25,3-9`."""
        return cls(named_edges(text))

    def __len__(self) -> int:
        return self.ends.shape[1]

    @property
    def pseudonyms(self) -> list[str]:
        """What the edges are called once they are deleted: who knows one can check it."""
        return [pseudonym(f"{u}-{v}", "edge") for u, v in self.ends.T.tolist()]

    @property
    def marks(self) -> list[int]:
        """The beginning of each pseudonym, as a number."""
        return [_mark(name) for name in self.pseudonyms]

    def check(self, graph: Graph) -> None:
        """Raise where the graph has no such node or no such edge."""
        for u, v in self.ends.T.tolist():
            if v >= graph.nodes:
                raise EngramError(
                    f"node {v} does not exist: the graph has {graph.nodes} (0 to "
                    f"{graph.nodes - 1})",
                    hint="edges are named by the column `node` of their ends",
                )
            if edge_places(graph, np.array([[u], [v]]))[0] < 0:
                raise EngramError(
                    f"the graph has no edge between nodes {u} and {v}",
                    hint="it may have been taken out already; a pair is named in either order",
                )


def without_forgotten(split: Split, marks: Iterable[int]) -> Split:
    """The records beside their graph without the edges of these marks."""
    gone = set(marks)
    if not gone:
        return split
    graph, _ = graph_beside(split)
    names = NamedEdges(graph.edges).marks
    return with_edges(split, graph.without([i for i, mark in enumerate(names) if mark in gone]))


def _mark(name: str) -> int:
    return int(name.rpartition("-")[2][:DIGITS], 16)
