"""A user's own graph: a folder of two files, one of nodes and one of edges.

    nodes.csv    id,label,...     one row a node: its id, its class, and its features
    edges.csv    source,target    one row an edge: the ids of the nodes at both of its ends

Each may be of any format that is read (.csv, .tsv, .jsonl, .parquet). Edges have no direction.
Self-loops and copies of an edge are left out, and nodes without an edge are nodes all the same.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from engram.core.errors import EngramError, nearest
from engram.core.split import ID, Split
from engram.data.columns import FEATURES, LABEL, Wanted, sampled, to_split
from engram.data.files import READERS, ending, read_rows
from engram.data.rows import Rows
from engram.data.sources import Limits
from engram.parts.graph import EDGES, NODE, NODE_IDS, Graph
from engram.parts.graph import FEATURES as NODE_FEATURES

NODES_FILE, EDGES_FILE = "nodes", "edges"
ENDS = ("source", "target")
"""The columns of an edge's ends; where there are no such columns, there must be just two."""


def is_graph(folder: Path) -> bool:
    """Whether a folder holds a graph: it has a file of nodes, or of edges and no other data."""
    try:
        if not folder.is_dir():
            return False
        edges = _files(folder, EDGES_FILE)
        return bool(_files(folder, NODES_FILE) or (edges and edges == _files(folder, "*")))
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte
        return False


def read_graph(folder: Path, wanted: Wanted, limits: Limits) -> Split:
    """The graph in a folder: one record a node, beside the whole graph.

    Node i is the i-th row of the file of nodes; `node_ids` in the split's shared context says what
    the file calls it.

    Raises:
        EngramError: A file is missing or there twice, a node has no id, label or features, two
            nodes have one id, a feature is not finite, or an edge ends at a node that is not there.
    """
    nodes, edges = (_only(folder, what) for what in (NODES_FILE, EDGES_FILE))
    rows = read_rows(nodes, limits)
    for column, said, option in (
        (ID, wanted.id, "--id-column"), (LABEL, wanted.label, "--label-column"),
    ):  # fmt: skip
        if said is None and column not in rows.table.column_names:
            raise EngramError(
                f"{nodes} has no column {column!r}; it has {', '.join(rows.table.column_names)}",
                hint=f"every node has an id and a label; {option} NAME says where they are",
            )
    split = to_split(rows, folder.resolve().name, replace(wanted, limit=None), limits)
    features = _features(split, rows)
    graph = Graph.of(_edges(read_rows(edges, limits), split.ids), len(split))
    table = split.to_table().append_column(NODE, pa.array(np.arange(len(split))))
    shared = {
        **split.shared,
        EDGES: graph.edges,
        NODE_FEATURES: features,
        NODE_IDS: np.array(list(split.ids)),
    }
    whole = Split.from_table(split.name, table, shared=shared)
    kept = sampled(len(whole), wanted.limit, wanted.seed)
    return whole if kept is None else whole.take(kept)


def _files(folder: Path, what: str) -> list[Path]:
    """The data files of this name, or of any (`*`), whatever their format."""
    return sorted(
        path
        for path in folder.glob(f"{what}.*")
        if what in ("*", path.name.partition(".")[0]) and ending(path.name)[0] in READERS
    )


def _only(folder: Path, what: str) -> Path:
    found = _files(folder, what)
    if len(found) != 1:
        there = f"{len(found)} files" if found else "no file"
        names = ", ".join(path.name for path in found) or f"{what}.csv, say"
        raise EngramError(
            f"{folder} is the folder of a graph, but has {there} of {what} ({names})",
            hint="a graph is one file of nodes (id, label, features) and one of edges (source, "
            "target)",
        )
    return found[0]


def _features(split: Split, rows: Rows) -> np.ndarray:
    """The features of all nodes, finite; (N, F)."""
    if FEATURES not in split.columns:
        raise EngramError(
            f"{rows.origin} has no features: {', '.join(split.columns)} is what its nodes have",
            hint="give every node numbers, in columns of their own or in one list `features`",
        )
    found = np.ascontiguousarray(split.matrix(FEATURES), np.float32)
    bad = ~np.isfinite(found).all(axis=1)
    if bad.any():
        raise EngramError(
            f"{rows.origin}, {rows.where(int(np.argmax(bad)))}: a feature of node "
            f"{split.ids[int(np.argmax(bad))]!r} is not a finite number ({bad.sum()} such nodes)",
            hint="fill it in or take the node out: nothing is filled in silently",
        )
    return found


def _edges(rows: Rows, ids: Sequence[str]) -> np.ndarray:
    """Both ends of every edge, as numbers of nodes; (2, E)."""
    names = rows.table.column_names
    columns = ENDS if set(ENDS) <= set(names) else tuple(names)
    if len(columns) != 2:
        raise EngramError(
            f"{rows.origin} has the columns {', '.join(names) or 'of nothing'}, but an edge has "
            "two ends",
            hint=f"call the columns of its ends {' and '.join(ENDS)}",
        )
    place = {node: number for number, node in enumerate(ids)}
    ends = []
    for column in columns:
        words = rows.table.column(column).to_pylist()
        numbers = [place.get(str(word), -1) for word in words]
        if -1 in numbers:
            row = numbers.index(-1)
            raise EngramError(
                f"{rows.origin}, {rows.where(row)}: an edge ends at node {words[row]!r}, which is "
                "not among the nodes",
                hint=nearest(str(words[row]), list(ids)[:10000], "edges name the ids of nodes"),
            )
        ends.append(numbers)
    return np.array(ends, np.int64).reshape(2, -1)
