"""Classifiers of nodes: layers by name, answers that depend on the graph and the record alone."""

import sys

import numpy as np
import pytest
import torch

from engram import families
from engram.core import EngramError, Split, stream, torch_seeded
from engram.data import read
from engram.families.graph_nodes import FAMILY, GraphModel
from engram.parts.graph import OUTSIDE, Graph, cut_out, graph_beside, graph_split
from engram.parts.graph_examples import Asked, GraphExamples
from engram.parts.graph_networks import ARCHITECTURES, GraphLayout

GRAPH = "demo:graph?n=60&communities=3&classes=4&features=6"


@pytest.fixture(scope="module")
def split():
    return read(GRAPH)


def made(architecture="gcn", scaling="rows", layers=2):
    with torch_seeded(0, "tests"):
        layout = GraphLayout(architecture, 6, 4, width=8, layers=layers, scaling=scaling)
        network = layout.build()
        network.mean.normal_()
        network.scale.uniform_(0.5, 2)
    return GraphModel(network.eval())


MODELS = [pytest.param(made(name), id=name) for name in ARCHITECTURES]
models = pytest.mark.parametrize("model", MODELS)


def test_it_is_a_family():
    assert families.find("graph-nodes") is FAMILY
    assert isinstance(FAMILY, families.Family)
    assert {"graph-nodes", "sharded-graph"} <= set(families.names())


@models
def test_saved_and_opened_again_it_is_the_same(model, split, tmp_path):
    FAMILY.save(model, tmp_path)
    again = FAMILY.load(tmp_path)
    assert FAMILY.fingerprint(again) == FAMILY.fingerprint(model)
    assert FAMILY.describe(again) == FAMILY.describe(model)
    np.testing.assert_array_equal(FAMILY.logits(again, split), FAMILY.logits(model, split))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def dense(model, features, edges, n):
    """The same layers by whole matrices, from the papers' words."""
    state = {k: v.double().numpy() for k, v in model.model.state_dict().items()}
    adjacency = np.zeros((n, n))
    adjacency[edges[0], edges[1]] = adjacency[edges[1], edges[0]] = 1
    hidden = features / np.linalg.norm(features, axis=1, keepdims=True)
    kind = model.layout.architecture
    for layer in range(2):
        at = f"body.{layer}."
        if kind == "gcn":
            looped = adjacency + np.eye(n)
            root = np.diag(looped.sum(1) ** -0.5)
            hidden = root @ looped @ root @ hidden @ state[at + "lin.weight"].T + state[at + "bias"]
        elif kind == "sage":
            mean = adjacency @ hidden / np.maximum(adjacency.sum(1, keepdims=True), 1)
            hidden = (mean @ state[at + "lin_l.weight"].T + state[at + "lin_l.bias"]
                      + hidden @ state[at + "lin_r.weight"].T)  # fmt: skip
        elif kind == "gin":
            hidden = hidden + adjacency @ hidden
            hidden = np.maximum(hidden @ state[at + "nn.0.weight"].T + state[at + "nn.0.bias"], 0)
            hidden = hidden @ state[at + "nn.2.weight"].T + state[at + "nn.2.bias"]
        elif kind == "mlp":
            hidden = hidden @ state[at + "weight"].T + state[at + "bias"]
        else:
            hidden = attention(state, at, hidden, adjacency + np.eye(n))
        hidden = np.maximum(hidden, 0) if layer == 0 else hidden
    return hidden


def attention(state, at, hidden, looped):
    source, heard = (state[f"{at}att_{s}"][0] for s in ("src", "dst"))
    heads, width = source.shape
    told = (hidden @ state[at + "lin.weight"].T).reshape(len(hidden), heads, width)
    found = np.zeros_like(told)
    for h in range(heads):
        score = (told[:, h] @ heard[h])[:, None] + (told[:, h] @ source[h])[None, :]
        score = np.where(looped > 0, np.where(score > 0, score, 0.2 * score), -np.inf)
        weight = np.exp(score - score.max(1, keepdims=True))
        found[:, h] = weight / weight.sum(1, keepdims=True) @ told[:, h]
    return found.reshape(len(hidden), -1) + state[at + "bias"]


@models
def test_logits_by_whole_matrices(model, split):
    graph, features = graph_beside(split)
    expected = dense(model, features.astype(np.float64), graph.edges, graph.nodes)
    np.testing.assert_allclose(FAMILY.logits(model, split), expected, rtol=1e-4, atol=1e-5)
    losses = -np.log(np.exp(expected)[np.arange(60), split.matrix("label")]) + np.log(
        np.exp(expected).sum(1)
    )
    np.testing.assert_allclose(FAMILY.losses(model, split), losses, rtol=1e-3, atol=1e-5)
    nll = FAMILY.examples(model, split).nll(np.arange(60)).detach().numpy()
    np.testing.assert_allclose(nll, losses, rtol=1e-3, atol=1e-5)


@models
def test_an_answer_depends_on_no_other_record(model, split):
    everything = FAMILY.logits(model, split)
    for rows in ([7], [7, 3], list(range(59, -1, -1))):
        some = FAMILY.logits(model, split.take(rows))
        np.testing.assert_allclose(some, everything[rows], rtol=1e-5, atol=1e-6)
    assert FAMILY.logits(model, split.take([])).shape == (0, 4)


@models
def test_few_records_are_read_with_their_surroundings_alone(model, split):
    whole = FAMILY.examples(model, split)
    noisy = FAMILY.perturb(split, 0.5, stream(0, "noise"))
    for records in (split, noisy):
        examples = GraphExamples.of(model.model, records)
        rows = np.array([11, 4])
        near = examples.asked.near(rows, 3)
        assert len(near.features) < len(whole.asked.features)
        told = model.model.passed(*examples.tensors(near))[torch.from_numpy(near.rows)]
        expected = FAMILY.logits(model, records)[rows]
        np.testing.assert_allclose(told.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_other_features_stand_beside_the_node():
    """A noisy copy hears the neighbours; they hear of the original only."""
    edges = np.array([[0, 1], [1, 2]])
    features = np.eye(3, 6, dtype=np.float32) + 0.5
    split = graph_split("path", features, np.array([0, 1, 2]), edges)
    own = features[[1]] * np.arange(1, 7, dtype=np.float32)
    asked = Split.of("asked", features=own, label=[1], node=[1], shared=split.shared)
    for name in ("gcn", "sage", "gat", "gin"):
        model = made(name)
        # By hand: a fourth node that is told by 0 and 2, and tells nobody.
        arcs = torch.tensor([[0, 1, 1, 2, 0, 2], [1, 0, 2, 1, 3, 3]])
        with torch.no_grad():
            known = torch.from_numpy(np.concatenate([features, own]))
            expected = model.model(known, arcs)[[3]].numpy()
        np.testing.assert_allclose(FAMILY.logits(model, asked), expected, rtol=1e-5, atol=1e-6)


def test_a_record_outside_is_asked_by_itself(split):
    own = np.ones((2, 6), np.float32)
    nodes = [OUTSIDE, OUTSIDE]
    outside = Split.of("outside", features=own, label=[0, 1], node=nodes, shared=split.shared)
    model = made()
    with torch.no_grad():
        alone = model.model(torch.ones(1, 6), torch.zeros((2, 0), dtype=torch.long)).numpy()
    found = FAMILY.logits(model, outside)
    np.testing.assert_allclose(found, np.repeat(alone, 2, 0), rtol=1e-5, atol=1e-6)


def test_training_sees_the_edges_among_its_records_alone(split):
    part = split.take(range(0, 60, 2), "half")
    asked = Asked.cut_out(cut_out(part))
    graph = graph_beside(split)[0]
    nodes = part.matrix("node")
    inside = np.isin(graph.edges, nodes).all(0).sum()
    assert asked.arcs.shape == (2, 2 * inside)
    assert 0 < inside < graph.edges.shape[1]
    assert len(asked.features) == 30


def test_columns_are_scaled_by_what_the_network_knows(split):
    model = made("mlp", "columns", layers=1)
    state = {k: v.numpy() for k, v in model.model.state_dict().items()}
    scaled = (split.matrix("features") - state["mean"]) / state["scale"]
    expected = scaled @ state["body.0.weight"].T + state["body.0.bias"]
    np.testing.assert_allclose(FAMILY.logits(model, split), expected, rtol=1e-4, atol=1e-5)


def test_perturbing_changes_features_and_leaves_the_node(split):
    other = FAMILY.perturb(split, 0.2, stream(0, "perturb"))
    assert other.matrix("node").tolist() == split.matrix("node").tolist()
    assert 0 < np.mean(other.matrix("features") != split.matrix("features")) < 0.5
    assert other.shared is split.shared


def test_canaries_can_be_trained_on_and_asked_about(split):
    canaries = FAMILY.canaries(5, stream(0, "canaries"), features=6, classes=4)
    assert canaries.matrix("node").tolist() == [OUTSIDE] * 5
    both = split.joined(canaries, "both")
    FAMILY.check(both)
    assert len(cut_out(both).shared["node_features"]) == 65
    assert np.isfinite(FAMILY.losses(made(), both)).all()
    assert len(set(canaries.owners)) == 5


def test_a_record_is_told_with_its_node(split):
    said = FAMILY.render(split, 3)
    assert "node 3" in said
    assert "neighbours" in said
    assert "label" in said


def test_a_graph_without_edges_can_be_asked_about():
    split = graph_split("bare", np.ones((3, 6), np.float32), np.arange(3), np.zeros((2, 0), int))
    for model in (made("gcn"), made("sage"), made("gat"), made("gin")):
        assert np.isfinite(FAMILY.logits(model, split)).all()
    assert Graph.of(np.zeros((2, 0), int), 3).isolated.all()


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        ({"architecture": "gnc"}, "no graph architecture 'gnc'"),
        ({"architecture": "gat", "width": 30}, "4 heads cannot share"),
        ({"architecture": "gcn", "dropout": 1.0}, "dropout is 1.0"),
        ({"architecture": "gcn", "layers": 0}, "layers is 0"),
        ({"architecture": "gcn", "scaling": "all"}, "scaling is 'all'"),
    ],
)
def test_layouts_that_cannot_be_are_refused(layout, says):
    with pytest.raises(EngramError, match=says):
        GraphLayout(**{"features": 6, "classes": 4, **layout})


def test_wrong_records_and_damaged_folders_are_named(split, tmp_path):
    with pytest.raises(EngramError, match="6 features, but the model takes 5"):
        FAMILY.logits(GraphModel(GraphLayout("mlp", 5, 4).build()), split)
    with pytest.raises(EngramError, match="holds no classifier of nodes"):
        FAMILY.load(tmp_path)
    FAMILY.save(made(), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"none")
    with pytest.raises(EngramError, match="does not hold the weights"):
        FAMILY.load(tmp_path)
    (tmp_path / "config.json").write_text('{"kind": "engram-classifier"}')
    with pytest.raises(EngramError, match="does not describe a classifier of nodes"):
        FAMILY.load(tmp_path)


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric.nn", None)
    with pytest.raises(EngramError, match="PyTorch Geometric, which is not installed") as caught:
        GraphLayout("gcn", 6, 4).build()
    assert "engram[graph]" in caught.value.hint
    GraphLayout("mlp", 6, 4).build()
