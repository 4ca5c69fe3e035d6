"""Attacks and edits on classifiers of nodes: their own, and all that are for classifiers."""

from dataclasses import replace

import numpy as np
import pytest

from engram.catalog import entries
from engram.core import EngramError
from engram.data import read
from engram.engine import EngineRun, edit, known_records, train
from engram.engine.battery import choose_battery, make
from engram.families.graph_nodes import FAMILY
from engram.methods.attacks.gradient_norm import GradientNorm
from engram.methods.attacks.node_membership import NodeMembership, alone, columns_of
from engram.methods.edits.gradient_difference import GradientDifference
from engram.methods.measures.deletion_comparison import DeletionComparison, distance, logprobs
from engram.methods.recipes.graph_eraser import GraphEraser
from engram.methods.recipes.train_graph_nodes import TrainGraphNodes
from engram.parts.graph import OUTSIDE, Graph, with_edges

SOURCE = "demo:graph?n=80&communities=4&classes=3&features=6"
EDITS = [name for name, entry in entries("edits").items()
         if "graph-nodes" in entry.load().families]  # fmt: skip


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    return EngineRun(seed=2, root=root, scratch=root / "scratch")


@pytest.fixture(scope="module")
def victim(engine):
    recipe = TrainGraphNodes(width=8, epochs=25, learning_rate=0.1, dropout=0.0)
    return train(recipe, read(SOURCE), engine, source=SOURCE, holdout=0.5)


@pytest.fixture(scope="module")
def known(victim):
    return known_records(victim)


def test_a_node_is_asked_about_twice(victim, known, engine):
    asked = known.everything
    assert alone(asked).matrix("node").tolist() == [OUTSIDE] * 80
    assert alone(asked).ids == asked.ids
    widths = {"both": 8, "0-hop": 4}
    for query, width in widths.items():
        attack = NodeMembership(query=query, shadows=2)
        assert attack.answers(victim, asked, engine).shape == (80, width)
        scores = attack(victim.sealed(), asked, engine)
        assert scores.ids == asked.ids
        assert len(np.unique(scores.values)) > 10
        again = attack(victim.sealed(), asked, engine).values
        np.testing.assert_array_equal(scores.values, again)


def test_two_questions_have_two_answers(victim, known, engine):
    """Answers are stored, and those about nodes with edges are not taken for those without."""
    both = NodeMembership().answers(victim, known.everything, engine)
    assert not np.allclose(both[:, :4], both[:, 4:])
    bare = with_edges(known.everything, Graph(np.zeros((2, 0), np.int64), 80))
    np.testing.assert_allclose(
        engine.logits(victim, bare), engine.logits(victim, alone(known.everything)),
        rtol=1e-5, atol=1e-6,
    )  # fmt: skip
    assert not np.allclose(engine.logits(victim, bare), engine.logits(victim, known.everything))


def test_what_is_looked_at_by_hand():
    logits = np.log([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]])
    np.testing.assert_allclose(
        np.exp(columns_of(logits, np.array([0, 0]))), [[0.2, 0.5, 0.3, 0.2], [0.7, 0.7, 0.2, 0.1]]
    )


def test_no_nodes_and_other_families_are_told(victim, known, engine, classifier, arrays):
    assert len(NodeMembership()(victim, known.everything.take([]), engine).values) == 0
    with pytest.raises(EngramError, match="knows no nodes"):
        NodeMembership()(classifier, arrays, engine)
    with pytest.raises(EngramError, match="even"):
        NodeMembership(shadows=3)


def test_every_attack_on_classifiers_works_on_nodes(victim, known, engine):
    """Whatever needs losses or logits; those for language models are left out by name."""
    public = "demo:graph?n=90&communities=4&classes=3&features=6&seed=5"
    settings = {"quantile-regression": {"population": public}, "lira": {"shadows": 4},
                "rmia": {"shadows": 2}, "label-only": {"queries": 2},
                "node-membership": {"shadows": 2}}  # fmt: skip
    chosen = [name for name, entry in entries("attacks").items()
              if entry.load().needs <= FAMILY.answers
              and "graph-nodes" in getattr(entry.load(), "families", {"graph-nodes"})]  # fmt: skip
    assert {"loss", "lira", "rmia", "label-only", "gradient-norm", "quantile-regression",
            "node-membership"} <= set(chosen)  # fmt: skip
    for name in sorted(set(chosen) - {"reference"}):  # which needs a base, and there is none
        scores = make("attacks", name, settings.get(name, {}))(
            victim.sealed(), known.trained, engine
        )
        assert np.isfinite(scores.values).all(), name
        assert len(np.unique(scores.values)) > 1, name
    battery = choose_battery(victim, engine)
    assert set(battery.attacks) == {"loss", "node-membership"}
    assert any(text.startswith("min-k:") for text in battery.left_out)


def test_noisy_copies_of_a_node_stay_beside_it(victim, known, engine):
    attack = make("attacks", "label-only", {"queries": 3})
    copies = attack.copies(victim, known.held_out, engine)
    assert copies.matrix("node").tolist() == np.repeat(known.held_out.matrix("node"), 12).tolist()
    assert copies.shared is known.held_out.shared


def test_the_norm_of_a_nodes_gradient_by_itself(victim, known, engine):
    import torch

    found = GradientNorm().norms(victim, known.held_out.take([3, 1]), engine)
    examples = FAMILY.examples(victim.model, known.held_out)
    for norm, row in zip(found, (3, 1), strict=True):
        victim.model.model.zero_grad()
        examples.nll(np.arange(len(known.held_out)))[row].backward()
        squares = [float((p.grad**2).sum()) for p in victim.model.model.parameters()]
        assert norm == pytest.approx(np.sqrt(sum(squares)), rel=1e-4)
    victim.model.model.zero_grad()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_for_nodes_works(name, victim, known, engine):
    forget, keep = known.trained.take([0, 5]), known.trained.take(range(6, 40))
    method = entries("edits")[name].load()()
    quick = {"steps": 3, "reinforce_steps": 2, "stop_at": 50.0}
    method = replace(method, **{k: v for k, v in quick.items() if hasattr(method, k)})
    after = edit(method, victim, keep, forget, engine)
    assert after.family == "graph-nodes"
    assert after.fingerprint != victim.fingerprint
    assert np.isfinite(FAMILY.losses(after.model, known.everything)).all()


def test_a_node_can_be_unlearnt(victim, known, engine):
    forget, keep = known.trained.take([2]), known.trained.where(np.arange(40) != 2)
    after = edit(GradientDifference(steps=40, learning_rate=5e-3), victim, keep, forget, engine)
    before, now = (FAMILY.losses(m.model, forget)[0] for m in (victim, after))
    assert now > before + 0.1


def test_a_retrained_graph_never_saw_the_nodes(victim, known, engine):
    forget, keep = known.trained.take([2]), known.trained.where(np.arange(40) != 2)
    after = edit(make("edits", "retrain"), victim, keep, forget, engine)
    again = engine.fit(victim, keep)
    assert after.fingerprint == again.fingerprint


def test_what_a_deletion_gives_away(victim, known, engine):
    """A model that knew the deleted by heart, and one that never saw them."""
    gone = np.arange(40) < 12
    forget, keep = known.trained.where(gone, "forgotten"), known.trained.where(~gone)
    after = edit(make("edits", "retrain"), victim, keep, forget, engine)
    measure = DeletionComparison(before=str(victim.folder))
    sides = {"forgotten": forget, "outsiders": known.held_out}
    by_distance, by_drop, before = measure(after, sides, engine)
    everyone = forget.joined(known.held_out, "asked")
    then, now = (logprobs(engine.logits(m, everyone)) for m in (victim, after))
    drop = (then - now)[np.arange(52), everyone.matrix("label")]
    wins = [float(d > o) + 0.5 * float(d == o) for d in drop[:12] for o in drop[12:]]
    assert by_drop.value == pytest.approx(np.mean(wins))
    assert by_drop.value > 0.5
    for found in (by_distance, by_drop, before):
        assert found.low <= found.value <= found.high
    same = measure(victim, sides, engine)
    assert same[0].value == same[1].value == 0.5
    missing = DeletionComparison()(after, sides, engine)
    assert all("--before" in f.note for f in missing)
    few = measure(after, {"forgotten": forget.take([0]), "outsiders": known.held_out}, engine)
    assert all("two deleted" in f.note for f in few)


def test_distances_by_hand():
    then, now = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.5, 0.5], [0.6, 0.4]])
    np.testing.assert_allclose(distance(then, now), [0, np.sqrt(0.18)], atol=1e-12)


def test_models_in_shards_are_attacked_as_one(known, engine):
    target = train(GraphEraser(shards=2, width=8, epochs=5), read(SOURCE), engine, source=SOURCE,
                   holdout=0.5)  # fmt: skip
    for name in ("loss", "label-only"):
        scores = make("attacks", name)(target.sealed(), known.trained.take(range(9)), engine)
        assert np.isfinite(scores.values).all()
