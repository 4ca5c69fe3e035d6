"""Patterns of edges that go with a high or a low membership AUC, and genotypes changed by them."""

from collections.abc import Mapping, Sequence
from typing import Literal

from engram.core import EngramError
from engram.parts.cells.genotype import KINDS, Cell, Edge, Genotype, Kind, slot_of
from engram.parts.cells.risk import Importance

Direction = Literal["demote", "promote"]
DIRECTIONS: tuple[Direction, ...] = ("demote", "promote")
Where = Literal["normal", "reduce", "dual"]
WHERE: tuple[Where, ...] = ("normal", "reduce", "dual")
LENGTH = 8
"""Edges of a pattern, at most: a cell has as many."""


def pattern(
    importances: Sequence[Importance], kind: Kind, direction: Direction, length: int = LENGTH
) -> tuple[Edge, ...]:
    """The edges to bring into a cell, the most important one first.

    Greedily: the edge that changes the prediction most begins. Then the next one that hangs
    together with those chosen (it shares a node with one of them), that gives its node no third
    input, and that does not join two nodes which are joined already; from the first again after
    each.

    Args:
        importances: To promote, of cells with a high AUC; to demote, of cells with a low one.
        kind: Which cell.
        direction: promote takes edges whose importance is negative (without them the AUC would be
            lower), demote those whose importance is positive.
        length: Edges at most.

    Returns:
        Fewer edges where no others fit.
    """
    sign = 1 if direction == "promote" else -1
    helpful = [i for i in importances if i.edge.cell == kind and sign * i.value < 0]
    ranked = [i.edge for i in sorted(helpful, key=lambda i: (sign * i.value, i.edge))]
    chosen: list[Edge] = []
    while len(chosen) < length:
        after = next((edge for edge in ranked if _fits(edge, chosen)), None)
        if after is None:
            break
        chosen.append(after)
    return tuple(chosen)


def _fits(edge: Edge, chosen: Sequence[Edge]) -> bool:
    """Whether an edge may stand beside those chosen before."""
    if not chosen:
        return True
    if any((edge.source, edge.node) == (other.source, other.node) for other in chosen):
        return False
    if sum(other.node == edge.node for other in chosen) >= 2:
        return False
    reached = {end for other in chosen for end in (other.source, other.node)}
    return bool(reached & {edge.source, edge.node})


def rewrite(genotype: Genotype, patterns: Mapping[Kind, Sequence[Edge]], budget: int) -> Genotype:
    """Bring the first `budget` edges of each cell's pattern into the genotype.

    An edge that is there already stays. Another one takes the place of the edge that joins the
    same two nodes, if there is one, else of its node's first edge, unless that one is of the
    pattern; then of the second.

    Args:
        genotype: To change.
        patterns: Of the cells that are to be changed; see `pattern`.
        budget: Edges of a pattern that are used: so many edges of a cell change at most.

    Raises:
        EngramError: The budget is no number from 0 to 8.
    """
    check_plan(DIRECTIONS[0], WHERE[-1], budget)
    for kind, wanted in patterns.items():
        used = list(wanted[:budget])
        for edge in used:
            genotype = genotype.having(kind, _with_edge(genotype, edge, used))
    return genotype


def _with_edge(genotype: Genotype, edge: Edge, used: Sequence[Edge]) -> Cell:
    cell, slots = genotype.cell(edge.cell), genotype.slots(edge.cell)
    if edge in slots:
        return cell
    first = slot_of(edge.node)
    sources = cell.sources(edge.node)
    if edge.source in sources:  # a node takes no other twice
        slot = first + sources.index(edge.source)
    else:
        slot = first if slots[first] not in used else first + 1
    return cell.having(slot, edge.operation, edge.source)


def cells_of(where: str) -> tuple[Kind, ...]:
    """Which cells a mode changes."""
    if where not in WHERE:
        raise EngramError(f"where is {where!r}", hint=f"it is {', '.join(WHERE)}")
    return KINDS if where == "dual" else tuple(kind for kind in KINDS if kind == where)


def changes(before: Genotype, after: Genotype) -> int:
    """How many edges of the one are not in the other."""
    return len(before.edges - after.edges)


def check_plan(direction: str, where: str, budget: int) -> None:
    """Refuse a change that is none of those there are."""
    if direction not in DIRECTIONS:
        raise EngramError(f"direction is {direction!r}", hint=f"it is {' or '.join(DIRECTIONS)}")
    cells_of(where)
    if not 0 <= budget <= LENGTH:
        raise EngramError(
            f"the budget is {budget}, but must be from 0 to {LENGTH}",
            hint="a cell has 8 edges; the paper changes up to 4",
        )
