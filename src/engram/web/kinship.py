"""Which target came from which, by what arrow: laid out in columns and drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from engram.report.svg import element, text
from engram.store import questions
from engram.store.questions import Edge, Item
from engram.web.templates import path, plain, query

WIDE, HIGH, ACROSS, DOWN = 220, 46, 384, 66
"""Pixels of a box, and from one box to the next."""
TRUNK, ROUND = 18, 8
"""Pixels from a box to where the ways to its children part, and of the corners there."""
LETTERS = 25
"""Characters of a name that fit a box."""


@dataclass(frozen=True)
class Node:
    """A target in the drawing: one of the store, or one that only a lineage tells of."""

    fingerprint: str
    name: str
    href: str
    column: int
    row: int


@dataclass(frozen=True)
class Tree:
    """A drawing, and the same as steps in words.

    Attributes:
        drawing: An SVG whose boxes are links.
        steps: Parent, what was done, child; each a name and an address ("" for none).
        whole: Whether all kin are shown.
    """

    drawing: Markup
    steps: tuple[tuple[tuple[str, str], str, tuple[str, str]], ...]
    whole: bool


def lineage(root: Path, request: Any) -> tuple[str, dict[str, Any]]:
    """The trees of a store, or the kin of one target."""
    asked = request.query_params.get("of", "")[:100]
    trees = questions.trees(root)
    chosen = asked or (trees[0][0].fingerprint if trees else "")
    tree = family(root, chosen) if chosen else None
    shown = questions.targets_of(root, [chosen]).get(chosen)
    return "lineage.html.j2", {
        "title": "Lineage", "here": "/lineage", "trees": trees, "chosen": chosen, "tree": tree,
        "name": shown.target if shown else chosen,
    }  # fmt: skip


def family(root: Path, fingerprint: str) -> Tree | None:
    """A target's kin, drawn; None where it came from nothing and nothing came from it."""
    edges, whole = questions.kin(root, fingerprint)
    drawn = [edge for edge in edges if edge.parent]
    if not drawn:
        return None
    prints = dict.fromkeys(print_ for edge in drawn for print_ in (edge.parent, edge.child))
    known = questions.targets_of(root, list(prints))
    nodes = _placed(drawn, known)
    ends = {n.fingerprint: (n.name, n.href) for n in nodes.values()}
    steps = tuple((ends[e.parent], plain(e.method, 60), ends[e.child]) for e in drawn)
    return Tree(_drawing(nodes, drawn, fingerprint), steps, whole)


def _placed(edges: Sequence[Edge], known: dict[str, Item]) -> dict[str, Node]:
    """Columns by the longest way from a root; a first child stands in its parent's row."""
    columns, children = _columns(edges), _children(edges)
    for born in children.values():  # as they were made; what is not here, last
        born.sort(key=lambda p: (known[p].created, known[p].target) if p in known else ("~", p))
    began = {edge.child for edge in edges}
    rows: dict[str, int] = {}
    free = 0
    # Without a root the lineage goes round in a circle, and so was forged.
    for root in [print_ for print_ in columns if print_ not in began] or list(columns):
        if root not in rows:
            free = _put(root, free, children, rows) + 1
    bases = {edge.parent: edge.base for edge in edges}
    return {
        print_: _node(print_, known.get(print_), bases.get(print_, ""), column, rows[print_])
        for print_, column in columns.items()
        if print_ in rows
    }


def _children(edges: Sequence[Edge]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for edge in edges:
        found.setdefault(edge.parent, []).append(edge.child)
    return found


def _put(print_: str, row: int, children: dict[str, list[str]], rows: dict[str, int]) -> int:
    """Give a target and all that came from it their rows; returns the last that was taken."""
    rows[print_] = last = row
    first = True
    for child in children.get(print_, []):
        if child not in rows:
            last = _put(child, row if first else last + 1, children, rows)
            first = False
    return last


def _columns(edges: Sequence[Edge]) -> dict[str, int]:
    columns = {print_: 0 for edge in edges for print_ in (edge.parent, edge.child)}
    for _ in range(min(len(columns), 40)):  # ends also for a lineage that goes round in circles
        for edge in edges:
            columns[edge.child] = min(max(columns[edge.child], columns[edge.parent] + 1), 40)
    return columns


def _node(fingerprint: str, item: Item | None, base: str, column: int, row: int) -> Node:
    if item is not None:
        return Node(fingerprint, plain(item.target), f"/target/{path(item.folder)}", column, row)
    name = plain(base.rstrip("/").rpartition("/")[2] or fingerprint)
    return Node(fingerprint, f"{name} (not here)", "", column, row)


def _drawing(nodes: dict[str, Node], edges: Sequence[Edge], chosen: str) -> Markup:
    width = ACROSS * max(n.column for n in nodes.values()) + WIDE + 4
    height = DOWN * max(n.row for n in nodes.values()) + HIGH + 6
    parts = [_arrow(nodes[e.parent], nodes[e.child], e) for e in edges
             if e.parent in nodes and e.child in nodes]  # fmt: skip
    parts += [_box(node, node.fingerprint == chosen) for node in nodes.values()]
    return element(
        "svg", *parts, class_="chart kin", viewBox=f"0 0 {width} {height}", width=width,
        height=height, role="group", aria_label="Lineage; the same stands below as a list",
    )  # fmt: skip


def _box(node: Node, chosen: bool) -> Markup:
    x, y = ACROSS * node.column + 2, DOWN * node.row + 3
    kind = "node" + (" chosen" if chosen else "") + ("" if node.href else " gone")
    shape = element("rect", x=x, y=y, width=WIDE, height=HIGH, rx=9)
    shown = node.name if len(node.name) <= LETTERS else node.name[: LETTERS - 1] + "…"
    name = text(x + 12, y + 20, shown, class_="label")
    below = text(x + 12, y + 37, node.fingerprint[:16], class_="print")
    inner = [element("title", node.name), shape, name, below]
    if not node.href:
        return element("g", *inner, class_=kind)
    current = "true" if chosen else None
    return element("a", *inner, class_=kind, href=node.href, aria_label=node.name,
                   aria_current=current)  # fmt: skip


def _arrow(parent: Node, child: Node, edge: Edge) -> Markup:
    x0, y0 = ACROSS * parent.column + WIDE + 2, DOWN * parent.row + 3 + HIGH / 2
    x1, y1 = ACROSS * child.column + 2, DOWN * child.row + 3 + HIGH / 2
    way = f"M{x0} {y0:g}"
    if abs(y1 - y0) >= 2 * ROUND:  # one trunk for all children, so that no line crosses a word
        turn = ROUND if y1 > y0 else -ROUND
        way += (
            f"H{x0 + TRUNK - ROUND}q{ROUND} 0 {ROUND} {turn}V{y1 - turn:g}q0 {turn} {ROUND} {turn}"
        )
    way += f"L{x1 - 7} {y1:g}"
    head = f"M{x1 - 9} {y1 - 4.5:g}L{x1 - 1} {y1:g}L{x1 - 9} {y1 + 4.5:g}Z"
    shown = plain(edge.method, 22)
    word = text(x1 - 12, y1 - 6, shown, class_="step halo", text_anchor="end")
    style = "edge-line" + (" edit" if edge.kind == "edits" else "")
    return element("g", element("path", d=way, class_=style),
                   element("path", d=head, class_="edge-head"), word)  # fmt: skip


def link(fingerprint: str) -> str:
    """The address of a target's kin."""
    return query("/lineage", of=fingerprint)
