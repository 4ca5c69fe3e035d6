"""Edges that a request names, and what may be kept of them once they are deleted."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from engram.core import EngramError, Split
from engram.core.pseudonyms import pseudonym
from engram.parts.graph import NODE_IDS, Graph, edge_places, graph_beside, with_edges

FORGOTTEN = "forgotten_edges"
"""What a sharded model calls the marks of its deleted edges."""
DIGITS = 15
"""Hexadecimal digits of a mark: as many as a whole number of 64 bits holds."""


def named_edges(text: str, ids: Sequence[str] = ()) -> Int[np.ndarray, "2 edges"]:
    """`17-25,3-9` as an array of ends, each edge once, the smaller end above.

    Args:
        text: Pairs of nodes.
        ids: What the nodes are called; without ids, by their numbers.

    Raises:
        EngramError: A piece is not two nodes with a dash between them, or one end is the other.
    """
    place = {name: number for number, name in enumerate(ids)}
    pairs = set()
    for piece in pieces(text):
        found = _by_ids(piece, place) if place else _by_numbers(piece)
        if found[0] == found[1]:
            raise _no_edge(piece)
        pairs.add(tuple(sorted(found)))
    return np.array(sorted(pairs), np.int64).reshape(-1, 2).T


def pieces(text: str) -> list[str]:
    """What stands between the commas; each is two different words with a dash between them.

    Raises:
        EngramError: One of them is not.
    """
    found = [each for each in (piece.strip() for piece in text.split(",")) if each]
    for piece in found:
        if not any(a and b and a != b for a, b in _cuts(piece)):
            raise _no_edge(piece)
    return found


def told_of(text: str) -> list[str]:
    """The pseudonyms of named edges, in either order of their ends, where no graph is at hand."""
    found = []
    for piece in pieces(text):
        ends = piece.split("-")
        if len(ends) == 2:
            ends = sorted(ends, key=lambda end: (int(end), end) if end.isdecimal() else (-1, end))
        found.append(pseudonym("-".join(ends), "edge"))
    return sorted(set(found))


def _cuts(piece: str) -> list[tuple[str, str]]:
    """Both sides of every dash: an id may hold dashes itself."""
    return [(piece[:at], piece[at + 1 :]) for at, sign in enumerate(piece) if sign == "-"]


def _by_numbers(piece: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,15})-([0-9]{1,15})", piece)
    if found is None:
        raise _no_edge(piece)
    return int(found[1]), int(found[2])


def _by_ids(piece: str, place: Mapping[str, int]) -> tuple[int, int]:
    known = [(place[a], place[b]) for a, b in _cuts(piece) if a in place and b in place]
    if len(known) == 1:
        return known[0]
    beside = [b for a, b in _cuts(piece) if a in place] + [a for a, b in _cuts(piece) if b in place]
    what = "it can be read twice" if known else f"node {(beside or [piece])[0]!r} does not exist"
    raise EngramError(
        f"edges has the piece {piece!r}, but {what}",
        hint="this graph came with ids: an edge is the ids of two nodes with a dash between them",
    )


def _no_edge(piece: str) -> EngramError:
    return EngramError(
        f"edges has the piece {piece!r}, which names no edge",
        hint="an edge is two nodes, by the numbers or ids that the graph has: --edges 17-25,3-9",
    )


@dataclass(frozen=True, eq=False)
class NamedEdges:
    """Edges by the nodes at their ends; (2, E)."""

    ends: Int[np.ndarray, "2 edges"]

    @classmethod
    def of(cls, text: str, split: Split | None = None) -> "NamedEdges":
        """From `17-25,3-9`; by the nodes' ids where the graph beside `split` came with such."""
        ids = () if split is None else [str(name) for name in split.shared.get(NODE_IDS, ())]
        return cls(named_edges(text, ids))

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
