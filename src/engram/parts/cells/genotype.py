"""Cells as NASNet and DARTS search them: what a genotype is, how it is written, read and changed.

A cell has two inputs (nodes 0 and 1: the two cells before it) and four nodes of its own (2 to 5).
Each node adds up two edges; an edge takes an earlier node through an operation. What nodes give is
put side by side: the cell's output. A genotype is two such cells: one that keeps the image's size
("normal") and one that halves it ("reduce").
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from engram.core import EngramError, nearest

Kind = Literal["normal", "reduce"]
KINDS: tuple[Kind, ...] = ("normal", "reduce")
OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
INPUTS, NODES = 2, 4
OWN = tuple(range(INPUTS, INPUTS + NODES))
"""The nodes of a cell that are no inputs."""
SLOTS = 2 * NODES
LONGEST = 4096
"""Characters of a genotype that is read: it may come from outside."""
EXAMPLE = (
    "Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[2, 3, 4, 5], reduce=[...], ...)"
)


@dataclass(frozen=True, order=True)
class Edge:
    """One edge of a genotype: from node `source` through `operation` into `node`."""

    cell: Kind
    source: int
    node: int
    operation: str

    def __str__(self) -> str:
        return f"{self.cell} {self.source}->{self.node} {self.operation}"


@dataclass(frozen=True)
class Cell:
    """Eight pairs (operation, source), two for each node, and which nodes make the output.

    Raises:
        EngramError: An unknown operation, a source that is no earlier node, a node that takes one
            source twice, another number of pairs, or an output that is none.
    """

    pairs: tuple[tuple[str, int], ...]
    concat: tuple[int, ...] = OWN

    def __post_init__(self) -> None:
        if len(self.pairs) != SLOTS:
            raise EngramError(
                f"a cell has {len(self.pairs)} edges, but {NODES} nodes of two edges each have "
                f"{SLOTS}",
                hint="write two pairs ('operation', source) for each of the nodes 2 to 5",
            )
        for slot, (operation, source) in enumerate(self.pairs):
            _check_edge(operation, source, node_of(slot))
        for node in OWN:
            first, second = self.sources(node)
            if first == second:
                raise EngramError(
                    f"node {node} takes node {first} twice",
                    hint="the two edges of a node come from different nodes",
                )
        if not self.concat or list(self.concat) != sorted(set(self.concat) & set(OWN)):
            raise EngramError(
                f"a cell's output is made of nodes {list(self.concat)}",
                hint="name some of the nodes 2, 3, 4 and 5, in this order",
            )

    def sources(self, node: int) -> tuple[int, int]:
        """Where the two edges of a node come from."""
        first = slot_of(node)
        return self.pairs[first][1], self.pairs[first + 1][1]

    def having(self, slot: int, operation: str, source: int) -> "Cell":
        """The same cell with another edge in one slot."""
        pairs = (*self.pairs[:slot], (operation, source), *self.pairs[slot + 1 :])
        return replace(self, pairs=pairs)


@dataclass(frozen=True)
class Genotype:
    """A normal and a reduction cell."""

    normal: Cell
    reduce: Cell

    def cell(self, kind: Kind) -> Cell:
        """One of the two cells."""
        return self.normal if kind == "normal" else self.reduce

    def having(self, kind: Kind, cell: Cell) -> "Genotype":
        """The same genotype with another cell of this kind."""
        return replace(self, normal=cell) if kind == "normal" else replace(self, reduce=cell)

    def slots(self, kind: Kind) -> tuple[Edge, ...]:
        """The eight edges of a cell, slot by slot."""
        pairs = self.cell(kind).pairs
        return tuple(Edge(kind, s, node_of(i), o) for i, (o, s) in enumerate(pairs))

    @property
    def edges(self) -> frozenset[Edge]:
        """All sixteen edges: genotypes that differ in the order of a node's edges alone share them.

        No edge stands in it twice, because a node's two edges come from different nodes.
        """
        return frozenset(edge for kind in KINDS for edge in self.slots(kind))

    def __str__(self) -> str:
        """The text in which genotypes are published, and which `parse` reads."""
        parts = [
            f"{kind}={[tuple(p) for p in self.cell(kind).pairs]}, "
            f"{kind}_concat={list(self.cell(kind).concat)}"
            for kind in KINDS
        ]
        return f"Genotype({', '.join(parts)})"


def node_of(slot: int) -> int:
    """The node that the edge in this slot (0 to 7) goes into: 2, 2, 3, 3, 4, 4, 5, 5.

    A whole number: the authors' code divides by `/`, so that it counts the edges of every second
    slot under nodes 2.5, 3.5, ..., where nobody looks for them again.
    """
    return slot // 2 + INPUTS


def slot_of(node: int) -> int:
    """The first of the two slots of a node."""
    return 2 * (node - INPUTS)


def parse(text: str) -> Genotype:
    """Read a genotype from the text in which they are published; nothing in it is executed.

    Raises:
        EngramError: The text is no such call, or the genotype in it is not valid.
    """
    given = _arguments(text)
    known = {f"{kind}{end}" for kind in KINDS for end in ("", "_concat")}
    for name in given:
        if name not in known:
            raise EngramError(
                f"a genotype has no part called {name!r}",
                hint=nearest(name, sorted(known), f"its parts are {', '.join(sorted(known))}"),
            )
    cells = {}
    for kind in KINDS:
        if kind not in given:
            raise EngramError(f"the genotype has no {kind} cell", hint=f"write {EXAMPLE}")
        pairs = _pairs(given[kind], kind)
        try:
            cells[kind] = Cell(pairs, _concat(given.get(f"{kind}_concat"), kind))
        except EngramError as problem:
            raise EngramError(f"{kind} cell: {problem}", hint=problem.hint) from None
    return Genotype(**cells)


def random_genotype(rng: np.random.Generator) -> Genotype:
    """Each edge's operation and each node's two sources by lot."""
    cells = []
    for _ in KINDS:
        pairs: list[tuple[str, int]] = []
        for node in OWN:
            for source in sorted(rng.choice(node, 2, replace=False).tolist()):
                pairs.append((str(rng.choice(OPERATIONS)), source))
        cells.append(Cell(tuple(pairs)))
    return Genotype(*cells)


def neighbours(genotype: Genotype, edge: Edge) -> Iterator[Genotype]:
    """Every genotype that differs from this one in this edge alone.

    Its operation is one of the six others; or it comes from another earlier node, which the node's
    other edge does not come from.
    """
    slot = genotype.slots(edge.cell).index(edge)
    cell = genotype.cell(edge.cell)
    for operation in OPERATIONS:
        if operation != edge.operation:
            yield genotype.having(edge.cell, cell.having(slot, operation, edge.source))
    for source in range(edge.node):
        if source not in cell.sources(edge.node):
            yield genotype.having(edge.cell, cell.having(slot, edge.operation, source))


def every_edge() -> tuple[Edge, ...]:
    """All edges there can be, in one order: 2 cells, 14 ways from node to node, 7 operations."""
    return tuple(
        Edge(kind, source, node, operation)
        for kind in KINDS
        for node in OWN
        for source in range(node)
        for operation in OPERATIONS
    )


def _check_edge(operation: object, source: object, node: int) -> None:
    if operation not in OPERATIONS:
        raise EngramError(
            f"an edge of node {node} has the operation {operation!r}",
            hint=nearest(str(operation), OPERATIONS, f"there are {', '.join(OPERATIONS)}"),
        )
    if isinstance(source, bool) or not isinstance(source, int) or not 0 <= source < node:
        raise EngramError(
            f"an edge of node {node} comes from node {source!r}",
            hint=f"it comes from an earlier node: 0 to {node - 1}",
        )


def _arguments(text: str) -> dict[str, ast.expr]:
    """The named arguments of the call that the text is."""
    if len(text) > LONGEST:
        raise EngramError(
            f"a genotype of {len(text)} characters is not read: {LONGEST} are more than enough",
            hint="give one genotype a line",
        )
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        call = None
    named = isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    if not named or call.func.id != "Genotype" or call.args:  # type: ignore[union-attr]
        raise EngramError(f"{text[:60]!r} is no genotype", hint=f"write {EXAMPLE}")
    names = [word.arg for word in call.keywords]  # type: ignore[union-attr]
    if None in names or len(set(names)) < len(names):
        raise EngramError(f"{text[:60]!r} names a part twice, or none", hint=f"write {EXAMPLE}")
    return {str(word.arg): word.value for word in call.keywords}  # type: ignore[union-attr]


def _pairs(given: ast.expr, kind: str) -> tuple[tuple[str, int], ...]:
    found = _literal(given, kind)
    if not isinstance(found, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in found
    ):
        raise EngramError(
            f"{kind} cell: it is no list of pairs",
            hint="write [('sep_conv_3x3', 0), ('skip_connect', 1), ...]",
        )
    for operation, source in found:
        if not isinstance(operation, str) or not isinstance(source, int):
            raise EngramError(
                f"{kind} cell: ({operation!r}, {source!r}) is no edge",
                hint="an edge is ('sep_conv_3x3', 0): an operation, and the node it comes from",
            )
    return tuple((operation, source) for operation, source in found)


def _concat(given: ast.expr | None, kind: str) -> tuple[int, ...]:
    """The nodes of the output; `range(2, 6)` is written by some, and read as what it says."""
    if given is None:
        return OWN
    if isinstance(given, ast.Call) and isinstance(given.func, ast.Name):
        ends = [_literal(end, kind) for end in given.args]
        plain = given.func.id == "range" and not given.keywords and len(ends) == 2
        if plain and all(type(end) is int and abs(end) < 100 for end in ends):
            return tuple(range(*ends))
    found = _literal(given, kind)
    if not isinstance(found, list | tuple) or not all(type(node) is int for node in found):
        raise EngramError(f"{kind} cell: its output is no list of nodes", hint="write [2, 3, 4, 5]")
    return tuple(found)


def _literal(given: ast.expr, kind: str) -> object:
    try:
        return ast.literal_eval(given)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise EngramError(
            f"{kind} cell: {ast.unparse(given)[:60]!r} is no plain list", hint=f"write {EXAMPLE}"
        ) from None


DARTS_V2 = parse(
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
"""The cells that Liu, Simonyan and Yang (2019) found on CIFAR-10, second order."""
KNOWN = {"darts-v2": DARTS_V2}
"""Genotypes that have a name."""


def genotype_of(text: str) -> Genotype:
    """A genotype by its name, or as it is written."""
    if text in KNOWN:
        return KNOWN[text]
    if text.strip() and "(" not in text:
        raise EngramError(
            f"there is no genotype called {text!r}",
            hint=nearest(text, KNOWN, f"known: {', '.join(KNOWN)}; or write {EXAMPLE}"),
        )
    return parse(text)
