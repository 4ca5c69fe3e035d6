"""The attack network on sorted probabilities: a second implementation, and cases by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from engram.core import EngramError, Shadows, Split, stream
from engram.methods.attacks.posterior_attack import PosteriorAttack, answers
from engram.methods.attacks.posterior_attack.network import AttackNetwork, loss_and_gradient


def test_answers_by_hand():
    """Probabilities 1/6, 1/2, 1/3 in order, and whether the label is the likeliest one."""
    logits = np.log([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])
    found = answers(logits, np.array([1, 2]), logarithms=False)
    np.testing.assert_allclose(found, [[1 / 2, 1 / 3, 1 / 6, 1], [1 / 2, 1 / 3, 1 / 6, 0]])
    logs = answers(logits, np.array([1, 2]), logarithms=True)
    np.testing.assert_allclose(np.exp(logs[:, :3]), found[:, :3])


def test_answers_do_not_feel_a_shift_of_logits_or_the_names_of_classes():
    rng = np.random.default_rng(0)
    logits, labels, order = rng.normal(size=(6, 4)), rng.integers(0, 4, 6), rng.permutation(4)
    renamed = np.argsort(order)[labels]
    np.testing.assert_allclose(
        answers(logits[:, order] + 5, renamed, True), answers(logits, labels, True), atol=1e-12
    )


def test_loss_and_gradient_against_torch():
    rng = np.random.default_rng(1)
    x, saw = rng.normal(size=(7, 3)), rng.integers(0, 2, 7).astype(float)
    flat = rng.normal(size=3 * 5 + 6)
    weights = torch.tensor(flat, requires_grad=True)
    inner, outer = weights[:15].reshape(3, 5), weights[15:]
    odds = torch.tanh(torch.tensor(x) @ inner) @ outer[:-1] + outer[-1]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(odds, torch.tensor(saw))
    loss = loss + 0.01 * (weights**2).sum()
    loss.backward()
    value, gradient = loss_and_gradient(flat, x, saw, 5, 0.01)
    assert value == pytest.approx(float(loss.detach()))
    np.testing.assert_allclose(gradient, weights.grad.numpy(), atol=1e-12)


def test_learns_what_tells_members():
    """Two thirds of the members answer 1, one third of the others: log-odds of plus/minus log 2."""
    seen = np.repeat([[1.0], [0.0], [1.0], [0.0]], [200, 100, 100, 200], axis=0)
    saw = np.repeat([True, True, False, False], [200, 100, 100, 200])
    network = AttackNetwork.trained(
        seen, saw, np.random.default_rng(0), width=4, steps=300, penalty=1e-7
    )
    found = network(np.array([[1.0], [0.0]]))
    np.testing.assert_allclose(found, [math.log(2), -math.log(2)], atol=1e-2)


def test_a_column_that_is_the_same_everywhere_does_no_harm():
    seen = np.column_stack([np.ones(40), np.linspace(-1, 1, 40)])
    network = AttackNetwork.trained(
        seen, seen[:, 1] > 0, np.random.default_rng(0), width=4, steps=50
    )
    assert np.isfinite(network(seen)).all()
    assert (network(seen)[-5:] > 0).all()


def test_tells_members_of_a_target_by_what_shadows_taught(classifier, run):
    """Models that are surer of the records that they saw, and random apart from that."""
    rng, n = np.random.default_rng(2), 200
    split = Split.of("r", features=rng.normal(size=(n, 2)), label=rng.integers(0, 3, n))
    half, own = rng.permutation(n) < n // 2, rng.random(n) < 0.5
    saw = {"target": own, "shadow 0": half, "shadow 1": ~half}

    class Surer(type(run)):
        def shadows(self, target, split, count, share=0.5):
            models = [replace(target, name=f"shadow {k}") for k in range(count)]
            return Shadows(models, np.array([half, ~half]))

        def logits(self, target, split):
            logits = stream(0, target.name).normal(size=(n, 3))
            logits[np.arange(n), split.matrix("label")] += 1 + 3 * saw[target.name]
            return logits

    victim = replace(classifier, name="target")
    for scale in ("log", "probability"):
        values = PosteriorAttack(scale=scale)(victim, split, Surer(run.scratch)).values
        assert np.mean(values[own][:, None] > values[~own][None, :]) > 0.8


def test_refuses_settings_that_make_no_sense():
    for fields, said in (
        ({"shadows": 3}, "shadows is 3"),
        ({"shadows": 0}, "shadows is 0"),
        ({"width": 0}, "width is 0"),
        ({"steps": 0}, "steps is 0"),
    ):
        with pytest.raises(EngramError, match=said):
            PosteriorAttack(**fields)


def test_no_records_give_no_scores(classifier, arrays, run):
    assert PosteriorAttack()(classifier, arrays.take([]), run).values.shape == (0,)
