"""Graphs: what is made of any list of edges, and what a split carries beside its records."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.core import EngramError, Split
from engram.data import read
from engram.parts.forgotten_edges import NamedEdges, named_edges, without_forgotten
from engram.parts.graph import (
    OUTSIDE,
    Graph,
    cut_out,
    edge_places,
    graph_beside,
    graph_split,
    nodes_of,
    structural_features,
)

N = 9
LISTS = st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), max_size=40)


def graph_of(pairs, nodes=N):
    return Graph.of(np.array(pairs, np.int64).reshape(-1, 2).T, nodes)


def line(n=5, classes=2):
    """A path of n nodes, each with its number as a feature."""
    edges = np.stack([np.arange(n - 1), np.arange(1, n)])
    return graph_split(
        "line", np.arange(n, dtype=np.float32)[:, None], np.arange(n) % classes, edges
    )


@given(LISTS)
def test_a_graph_is_the_set_of_its_edges(pairs):
    graph = graph_of(pairs)
    expected = sorted({(min(p), max(p)) for p in pairs if p[0] != p[1]})
    assert list(map(tuple, graph.edges.T.tolist())) == expected
    assert graph.loops == sum(a == b for a, b in pairs)
    assert graph.doubles == len(pairs) - graph.loops - len(expected)
    near = {v: {w for e in expected for w in e if v in e and w != v} for v in range(N)}
    assert graph.degrees.tolist() == [len(near[v]) for v in range(N)]
    for v in range(N):
        found = graph.directed[1][graph.starts[v] : graph.starts[v + 1]]
        assert found.tolist() == sorted(near[v])
    assert graph.isolated.tolist() == [not near[v] for v in range(N)]


@given(LISTS, st.permutations(range(N)), st.integers(0, N))
def test_an_induced_graph_has_the_edges_inside(pairs, order, count):
    graph, rows = graph_of(pairs), np.array(order[:count], np.int64)
    found = {frozenset(rows[e]) for e in graph.induced(rows).edges.T}
    inside = {frozenset(e) for e in graph.edges.T.tolist() if set(e) <= set(rows.tolist())}
    assert found == inside


@given(LISTS, st.integers(0, N - 1), st.integers(0, 4))
def test_around_is_what_can_be_reached(pairs, start, hops):
    graph, reached = graph_of(pairs), {start}
    for _ in range(hops):
        reached |= {w for e in graph.edges.T.tolist() for w in e if set(e) & reached}
    assert graph.around(np.array([start]), hops).tolist() == sorted(reached)


def test_edges_are_found_in_either_direction():
    graph = graph_of([(0, 1), (4, 2)])
    assert edge_places(graph, np.array([[1, 2, 0], [0, 4, 4]])).tolist() == [0, 1, -1]
    assert edge_places(graph_of([]), np.array([[1], [0]])).tolist() == [-1]
    assert graph.without([0]).edges.T.tolist() == [[2, 4]]


@pytest.mark.parametrize(
    ("edges", "says"),
    [
        (np.array([[0], [N]]), f"node {N}, but there are {N}"),
        (np.array([[-1], [0]]), "node -1"),
        (np.zeros((3, 2), np.int64), r"shape \(3, 2\)"),
        (np.zeros((2, 1)), "float64"),
    ],
)
def test_edges_that_cannot_be_are_refused(edges, says):
    with pytest.raises(EngramError, match=says):
        Graph.of(edges, N)


def test_a_record_must_be_a_node_that_exists():
    split = line()
    for node, says in ((5, "node 5, which does not exist"), (-2, "node -2")):
        wrong = Split.of("wrong", features=np.zeros((1, 1), np.float32), label=[0], node=[node],
                         shared=split.shared)  # fmt: skip
        with pytest.raises(EngramError, match=says):
            nodes_of(wrong, 5)
    with pytest.raises(EngramError, match="no column 'node'"):
        nodes_of(split.only(["features", "label"]), 5)
    with pytest.raises(EngramError, match="holds string"):
        nodes_of(Split.of("words", node=["a"]), 5)


def test_a_split_must_carry_its_graph():
    with pytest.raises(EngramError, match="carries no graph") as caught:
        graph_beside(Split.of("bare", node=[0]))
    assert "demo:graph" in caught.value.hint
    shared = {"edges": np.zeros((2, 0), np.int64), "node_features": np.full((2, 1), np.nan)}
    with pytest.raises(EngramError, match="not finite"):
        graph_beside(Split.of("broken", node=[0], shared=shared))


def test_cut_out_leaves_nothing_of_other_nodes():
    part = cut_out(line().take([3, 0, 2], "part"))
    assert part.matrix("node").tolist() == [0, 1, 2]
    assert part.shared["edges"].T.tolist() == [[0, 2]]  # 3-2 alone; 0 has lost its neighbour
    assert part.shared["node_features"].reshape(-1).tolist() == [3, 0, 2]
    assert part.ids == line().take([3, 0, 2]).ids


def test_a_node_is_learnt_from_once():
    split = line()
    twice = Split.of("twice", features=np.zeros((2, 1), np.float32), label=[0, 1], node=[1, 1],
                     shared=split.shared)  # fmt: skip
    with pytest.raises(EngramError, match="node 1 stands on 2 records"):
        cut_out(twice)
    outside = Split.of("outside", features=np.zeros((3, 1), np.float32), label=[0, 1, 1],
                       node=[OUTSIDE, OUTSIDE, 1], shared=split.shared)  # fmt: skip
    assert cut_out(outside).shared["edges"].shape == (2, 0)


def test_nodes_without_a_label_are_no_records_but_stay_in_the_graph():
    split = graph_split("some", np.zeros((3, 2), np.float32), np.array([0, -1, 1]),
                        np.array([[0, 1], [1, 2]]))  # fmt: skip
    assert split.matrix("node").tolist() == [0, 2]
    assert split.shared["node_features"].shape == (3, 2)
    assert list(split.ids) == ["some-00000", "some-00002"]


def test_structural_features_by_hand():
    # A triangle 0-1-2 with a tail 2-3, and node 4 alone.
    found = structural_features(graph_of([(0, 1), (1, 2), (0, 2), (2, 3)], 5))
    assert found.shape == (5, 20)
    assert found[:, :16].argmax(1).tolist() == [2, 2, 2, 1, 0]
    np.testing.assert_allclose(found[:, 16], np.log1p([2, 2, 3, 1, 0]), rtol=1e-6)
    np.testing.assert_allclose(found[:, 17], [np.log(12) / 2] * 2 + [np.log(18) / 3, np.log(4), 0],
                               rtol=1e-6)  # fmt: skip
    np.testing.assert_allclose(found[:, 18], np.log1p([1, 1, 1, 0, 0]), rtol=1e-6)
    np.testing.assert_allclose(found[:, 19], [5 / 12, 5 / 12, 2 / 3, 1 / 3, 0], rtol=1e-6)


def test_edges_are_named_by_the_nodes_at_their_ends():
    assert named_edges("17-25, 9-3,25-17").T.tolist() == [[3, 9], [17, 25]]
    assert named_edges("").shape == (2, 0)
    for text in ("3", "3-", "a-b", "3-3", "3-4-5", "-3-4"):
        with pytest.raises(EngramError, match="names no edge"):
            named_edges(text)


def test_a_forgotten_edge_is_known_by_its_mark_alone():
    split = line()
    named = NamedEdges.of("2-1")
    left = graph_beside(without_forgotten(split, named.marks))[0]
    assert left.edges.T.tolist() == [[0, 1], [2, 3], [3, 4]]
    assert without_forgotten(split, []) is split
    assert all(name.startswith("forgotten-") for name in named.pseudonyms)
    graph = graph_beside(split)[0]
    for text, says in (("0-7", "node 7 does not exist"), ("0-2", "no edge between nodes 0 and 2")):
        with pytest.raises(EngramError, match=says):
            NamedEdges.of(text).check(graph)


def test_the_planted_graph_has_communities_and_blocks():
    split = read("demo:graph?n=420&communities=6&seed=1")
    assert read("demo:graph?n=420&communities=6&seed=1").fingerprint == split.fingerprint
    assert read("demo:graph?n=420&communities=6").fingerprint != split.fingerprint
    assert set(split.matrix("label").tolist()) == set(range(7))
    graph, features = graph_beside(split)
    np.testing.assert_array_equal(features, split.matrix("features"))
    same = split.matrix("label")[graph.edges]
    assert 0.3 < np.mean(same[0] == same[1]) < 0.9  # a seventh, if edges knew nothing of classes
    with pytest.raises(EngramError, match="do not fill 40 communities"):
        read("demo:graph?n=100")


@pytest.mark.parametrize(
    ("name", "nodes", "edges", "classes"),
    [("cora", 2708, 5278, 7), ("pubmed-structure", 19717, 44324, 3),
     ("dblp-reliant-small", 39424, 52460, 8)],
)  # fmt: skip
def test_graphs_by_name(data, monkeypatch, name, nodes, edges, classes):
    monkeypatch.setenv("ENGRAM_DATA", str(data))
    split = read(name)
    assert len(split) == nodes
    assert split.shared["edges"].shape == (2, edges)
    assert set(split.matrix("label").tolist()) == set(range(classes))
