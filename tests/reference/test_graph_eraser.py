"""GraphEraser: weights of shards, and deletions that leave what would be there without them."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.core import EngramError, stream
from engram.data import read
from engram.engine import EngineRun, edit, known_records, load, train
from engram.families.sharded_graph import FAMILY
from engram.methods.edits.graph_eraser_retrain import GraphEraserRetrain
from engram.methods.recipes.graph_eraser import GraphEraser
from engram.parts.fingerprints import weights
from engram.parts.forgotten_edges import FORGOTTEN, NamedEdges
from engram.parts.graph import Graph, cut_out, graph_beside, with_edges
from engram.parts.graph_eraser_training import GraphEraserTraining
from engram.parts.learned_aggregation import gradient, learned_weights, lots, objective, true_class

SOURCE = "demo:graph?n=90&communities=5&classes=4&features=6"
RECIPE = {
    "shards": 3,
    "partition": "random",
    "width": 8,
    "epochs": 3,
    "sample": 20,
    "aggregation_epochs": 5,
}


def simplex(shards, n, seed):
    return stream(seed, "posteriors").dirichlet(np.ones(4), (shards, n))


def test_learnt_weights_are_those_of_a_mixture():
    """Without a penalty the best weights are the fixed point of expectation maximisation."""
    posteriors = simplex(5, 300, 0)
    labels = stream(0, "labels").integers(0, 4, 300)
    posteriors[1, np.arange(300), labels] += 1.0
    posteriors[1] /= posteriors[1].sum(1, keepdims=True)
    true = true_class(posteriors, labels)
    alpha = np.full(5, 0.2)
    for _ in range(3000):
        alpha *= (true / (alpha @ true)).mean(1)
    found = learned_weights(true, stream(0, "order"), penalty=0.0, epochs=200)
    assert objective(found, true, 0.0) == pytest.approx(objective(alpha, true, 0.0), abs=2e-3)
    assert found.argmax() == 1
    even = learned_weights(true, stream(0, "order"), penalty=100.0)
    np.testing.assert_allclose(even, 0.2, atol=0.02)


@given(st.integers(1, 6), st.integers(0, 40), st.integers(0, 10**6))
def test_weights_are_at_least_0_and_sum_to_1(shards, n, seed):
    true = true_class(simplex(shards, n, seed), stream(seed, "labels").integers(0, 4, n))
    found = learned_weights(true, stream(seed, "order"), epochs=3, learning_rate=0.1)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1)


def test_the_gradient_is_that_of_the_objective():
    true = true_class(simplex(4, 30, 1), stream(1, "labels").integers(0, 4, 30))
    alpha = np.array([0.1, 0.2, 0.3, 0.4])
    slopes = [
        (objective(alpha + h, true, 0.7) - objective(alpha - h, true, 0.7)) / 2e-6
        for h in 1e-6 * np.eye(4)
    ]
    np.testing.assert_allclose(gradient(alpha, true, 0.7), slopes, rtol=1e-5)


def test_log_probabilities_are_no_probabilities():
    with pytest.raises(EngramError, match="does not sum to 1") as caught:
        true_class(np.log(simplex(2, 5, 0)), np.zeros(5, int))
    assert "softmax" in caught.value.hint


def test_a_sample_without_one_of_its_records_is_the_old_one_and_the_next():
    ids = tuple(f"r{i}" for i in range(50))
    before = [ids[i] for i in lots(ids, 3, 10)]
    left = tuple(i for i in ids if i != before[4])
    after = [left[i] for i in lots(left, 3, 10)]
    assert after[:-1] == before[:4] + before[5:]
    shuffled = tuple(stream(0, "order").permutation(ids).tolist())
    assert [shuffled[i] for i in lots(shuffled, 3, 10)] == before


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def engine(store):
    return EngineRun(seed=1, root=store, scratch=store / "scratch")


@pytest.fixture(scope="module")
def made(engine):
    """A target, its records, and a function that deletes rows of them."""
    target = train(GraphEraser(**RECIPE), read(SOURCE), engine, source=SOURCE, holdout=0.2)
    known = known_records(target)

    def without(rows, edges="", of=target, out=None):
        gone = np.isin(np.arange(len(known.trained)), rows)
        forget = known.trained.where(gone, "forget") if gone.any() else None
        keep = known.trained.where(~gone, "keep")
        return edit(GraphEraserRetrain(edges=edges), of, keep, forget, engine, out=out), keep

    return target, known, without


def same(one, other):
    first, second = weights(one), weights(other)
    return all(np.array_equal(first[name], second[name]) for name in first)


def trained_anew(target, placement, records, engine):
    """All shards from nothing, on records that never had the deleted ones beside them."""
    recipe = target.lineage.recipe()
    training = GraphEraserTraining(**recipe.config)
    networks = [
        training.train_shard(k, records, placement, 4, engine, seed=recipe.seed)[0]
        for k in range(placement.shards)
    ]
    return networks, training.weigh(networks, records, placement, seed=recipe.seed)


def test_shards_hold_no_more_than_they_may_and_answer_together(made):
    target, known, _ = made
    model = target.model
    assert model.placement.sizes.sum() == len(known.trained)
    assert model.placement.sizes.max() <= 25  # ceil(72 / 3 + 0.005 * 48)
    told = FAMILY.posteriors(model, known.held_out)
    expected = np.log(np.tensordot(model.weights, told, 1))
    np.testing.assert_allclose(FAMILY.logits(model, known.held_out), expected)
    np.testing.assert_allclose(told.sum(2), 1)
    assert model.weights.sum() == pytest.approx(1)
    assert (model.weights >= 0).all()


@pytest.mark.parametrize("rows", [[4], [0, 7, 30, 55]], ids=["one", "batch"])
def test_a_deleted_node_was_never_there(made, engine, rows):
    target, known, without = made
    after, keep = without(rows)
    touched = set(
        target.model.placement.shard[target.model.placement.rows(known.trained.take(rows).ids)]
    )
    rest = target.model.placement.without(known.trained.take(rows).ids)
    # A graph of other numbers, without the nodes, their edges and everybody who was held out.
    networks, alpha = trained_anew(target, rest, cut_out(keep), engine)
    for k, (fresh, found) in enumerate(zip(networks, after.model.shards, strict=True)):
        assert same(fresh, found.model)
        assert same(target.model.shards[k].model, found.model) == (k not in touched)
    np.testing.assert_array_equal(alpha, after.model.weights)
    assert list(after.model.placement.ids) == list(rest.ids)
    assert after.lineage.guarantee["kind"] == "exact"


def inner_edge(target, known, inside):
    """An edge with both ends in one shard, or in two."""
    graph, _ = graph_beside(known.trained)
    node = dict(zip(known.trained.matrix("node").tolist(), known.trained.ids, strict=True))
    placed = target.model.placement
    for u, v in graph.edges.T.tolist():
        if u in node and v in node:
            k, other = placed.shard[placed.rows([node[u], node[v]])].tolist()
            if (k == other) == inside:
                return u, v, k
    raise AssertionError("the graph has no such edge")


def test_a_deleted_edge_was_never_there(made, engine):
    target, known, without = made
    u, v, shard = inner_edge(target, known, inside=True)
    after, keep = without([], edges=f"{v}-{u}")
    graph, _ = graph_beside(keep)
    pairs = [p for p in graph.edges.T.tolist() if p != [u, v]]
    other = with_edges(keep, Graph.of(np.array(pairs).T, graph.nodes))
    networks, alpha = trained_anew(target, after.model.placement, cut_out(other), engine)
    for k, (fresh, found) in enumerate(zip(networks, after.model.shards, strict=True)):
        assert same(fresh, found.model)
        assert same(target.model.shards[k].model, found.model) == (k != shard)
    np.testing.assert_array_equal(alpha, after.model.weights)
    # The next deletion remembers it, although the data still has the edge.
    later, keep = without([3], of=after)
    assert later.model.extra[FORGOTTEN].tolist() == NamedEdges.of(f"{u}-{v}").marks
    rest = target.model.placement.without(known.trained.take([3]).ids)
    networks, _ = trained_anew(target, rest, with_edges(keep, other_graph(keep, u, v)), engine)
    assert all(same(a, b.model) for a, b in zip(networks, later.model.shards, strict=True))


def other_graph(split, u, v):
    graph, _ = graph_beside(split)
    return Graph.of(np.array([p for p in graph.edges.T.tolist() if p != [u, v]]).T, graph.nodes)


def test_an_edge_that_was_cut_takes_no_training(made):
    target, known, without = made
    u, v, _ = inner_edge(target, known, inside=False)
    after, _ = without([], edges=f"{u}-{v}")
    assert all(
        same(a.model, b.model) for a, b in zip(target.model.shards, after.model.shards, strict=True)
    )
    assert "0 shards" in after.lineage.guarantee["sentence"]


def test_nothing_of_what_was_deleted_is_in_the_new_folder(made, tmp_path):
    target, known, without = made
    u, v, _ = inner_edge(target, known, inside=True)
    after, _ = without([8], edges=f"{u}-{v}", out=tmp_path / "new")
    gone, kept = known.trained.ids[8], known.trained.ids[9]
    tables = [pq.read_table(p).to_pylist() for p in sorted(after.folder.rglob("*.parquet"))]
    plain = [
        p.read_bytes() for p in after.folder.rglob("*") if p.suffix != ".parquet" and p.is_file()
    ]
    assert len(tables) == 2  # packed, so they have to be opened: the ledger, and who lies where
    assert all(kept in json.dumps(table) for table in tables)
    assert gone not in json.dumps(tables)
    assert not any(gone.encode() in each for each in plain)
    record = json.loads((after.folder / "target.json").read_text())
    assert f"{u}-{v}" not in json.dumps(record["lineage"]["config"])
    assert record["lineage"]["config"]["edges"].startswith("forgotten-")
    assert load(after.folder).fingerprint == after.fingerprint


def test_the_last_node_of_a_shard_leaves_it_empty(made):
    target, known, without = made
    placed = target.model.placement
    rows = [
        i for i, each in enumerate(known.trained.ids) if placed.shard[placed.rows([each])[0]] == 1
    ]
    after, _ = without(rows)
    assert after.model.shards[1] is None
    assert after.model.weights[1] == 0
    assert after.model.weights.sum() == pytest.approx(1)
    assert np.isfinite(FAMILY.losses(after.model, known.held_out)).all()
    assert FAMILY.describe(after.model)["empty shards"] == [1]


def test_the_last_node_of_a_class_leaves_the_class(made):
    _, known, without = made
    after, _ = without(np.flatnonzero(known.trained.matrix("label") == 3))
    assert FAMILY.logits(after.model, known.held_out).shape[1] == 4


def test_requests_that_cannot_be_are_refused(made, engine):
    target, known, without = made
    keep = known.trained
    for edges, says in (("0-0", "names no edge"), ("1", "names no edge")):
        with pytest.raises(EngramError, match=says):
            GraphEraserRetrain(edges=edges)
    held = int(known.held_out.matrix("node")[0])
    graph, _ = graph_beside(keep)
    neighbour = int(graph.directed[1][graph.starts[held]])
    for edges, says in (
        ("0-900", "node 900 does not exist"),
        (f"{held}-{neighbour}", "is not among the records that are kept"),
    ):
        with pytest.raises(EngramError, match=says):
            without([], edges=edges)
    with pytest.raises(EngramError, match="no records to forget"):
        edit(GraphEraserRetrain(), target, keep, None, engine)
    with pytest.raises(EngramError, match="were not trained on"):
        edit(GraphEraserRetrain(), target, keep, known.held_out.take([0]), engine)
    with pytest.raises(EngramError, match="neither to be kept nor to be forgotten"):
        edit(GraphEraserRetrain(), target, keep.take(range(3, 9)), keep.take([0]), engine)
    with pytest.raises(EngramError, match="no record would be left"):
        edit(GraphEraserRetrain(), target, known.held_out, keep, engine)
    strange = replace(target, lineage=replace(target.lineage, kind="", method=""))
    with pytest.raises(EngramError, match="does not carry the recipe"):
        GraphEraserRetrain()(strange, keep.take(range(1, len(keep))), keep.take([0]), engine)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("shards", 0, "shards is 0"),
        ("aggregation", "median", "aggregation is 'median'"), ("delta", 2.0, r"in \[0, 1\]"),
        ("penalty", -1.0, "penalty is -1"), ("aggregation_rate", 0.0, "above 0"),
        ("epochs", 0, "epochs is 0"), ("dropout", 1.0, "dropout is 1"),
    ],
)  # fmt: skip
def test_fields_out_of_range_are_refused(field, value, says):
    with pytest.raises(EngramError, match=says):
        GraphEraser(**{field: value})


def test_more_shards_than_nodes_leave_some_empty(engine):
    few = read("demo:graph?n=12&communities=2&classes=3&features=4")
    recipe = GraphEraser(**{**RECIPE, "shards": 20, "partition": "bekm"})
    target = train(recipe, few, engine, source="few", holdout=0.0)
    assert len(target.model.alive) == 12
    assert np.isfinite(FAMILY.losses(target.model, few)).all()
