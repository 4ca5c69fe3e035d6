"""Per-record gradients against one autograd pass a record, and against numbers worked by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from engram.core import EngramError, torch_seeded
from engram.parts.networks import Layout
from engram.parts.per_record import (
    clipped_sum,
    clipped_sum_one_by_one,
    gradient_norms,
    in_chunks,
    layer_names,
    norms_one_by_one,
    per_record_gradient_norms,
    per_record_gradients,
    trainable,
)


def cross_entropy(call, features, label):
    return nn.functional.cross_entropy(call(features), label)


@pytest.fixture(params=["mlp", "cnn"])
def network(request):
    shape = (6,) if request.param == "mlp" else (1, 4, 4)
    with torch_seeded(0, request.param):
        return Layout(request.param, shape, 3, 5, 2).build()


@pytest.fixture
def batch(network):
    rng = np.random.default_rng(1)
    width = math.prod(network.layout.shape)
    features = torch.from_numpy(rng.normal(size=(7, width)).astype(np.float32))
    return features, torch.from_numpy(rng.integers(0, 3, 7))


def by_autograd(network, batch):
    """One record after another, by a plain backward pass."""
    found = []
    for features, label in zip(*batch, strict=True):
        network.zero_grad()
        nn.functional.cross_entropy(network(features[None]), label[None]).backward()
        found.append({name: p.grad.clone() for name, p in network.named_parameters()})
    return found


def losses(network, batch):
    for features, label in zip(*batch, strict=True):
        yield nn.functional.cross_entropy(network(features[None]), label[None])


def test_gradients_equal_one_backward_pass_a_record(network, batch):
    found, values = per_record_gradients(network, cross_entropy, batch)
    expected = by_autograd(network, batch)
    for name in trainable(network):
        stacked = torch.stack([record[name] for record in expected])
        torch.testing.assert_close(found[name], stacked, rtol=1e-4, atol=1e-6)
    plain = torch.stack([each.detach() for each in losses(network, batch)])
    torch.testing.assert_close(values, plain)


@pytest.mark.parametrize("order", [1.0, 2.0, math.inf])
def test_norms_equal_those_of_the_whole_gradient(network, batch, order, monkeypatch):
    monkeypatch.setattr("engram.parts.per_record.MEMORY", 1)  # a record at a time
    assert len(list(in_chunks(network, batch))) == 7
    expected = [
        np.linalg.norm(np.concatenate([g.flatten() for g in record.values()]), order)
        for record in by_autograd(network, batch)
    ]
    found = per_record_gradient_norms(network, cross_entropy, batch, order=order)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    slow = norms_one_by_one(losses(network, batch), list(network.parameters()), order)
    np.testing.assert_allclose(slow, expected, rtol=1e-4)


def test_some_layers_alone(network, batch):
    names = layer_names(network, 2)
    assert names == trainable(network)[-2:]
    found = per_record_gradient_norms(network, cross_entropy, batch, names)
    expected = [
        math.sqrt(sum(float((record[name] ** 2).sum()) for name in names))
        for record in by_autograd(network, batch)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_norm_of_a_logistic_record_by_hand():
    """One weight, no bias, logits (0, w x) with w = 0: the gradient is -(1 - 1/2) x."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)

    def loss(call, x, y):
        logits = torch.cat([torch.zeros(1, 1), call(x)], 1)
        return nn.functional.cross_entropy(logits, y)

    batch = torch.tensor([[2.0], [-3.0]]), torch.tensor([1, 1])
    np.testing.assert_allclose(per_record_gradient_norms(model, loss, batch), [1.0, 1.5])


def test_clipping_by_hand():
    """Norms 5, 1 and 0; at a limit of 1 the first is divided by 5, the others stay."""
    gradients = {
        "a": torch.tensor([[3.0, 0.0], [0.6, 0.0], [0.0, 0.0]]),
        "b": torch.tensor([[4.0], [0.8], [0.0]]),
    }
    np.testing.assert_allclose(gradient_norms(gradients), [5, 1, 0])
    total = clipped_sum(gradients, 1.0)
    np.testing.assert_allclose(total["a"], [0.6 + 0.6, 0])
    np.testing.assert_allclose(total["b"], [0.8 + 0.8])


def test_no_record_moves_the_sum_by_more_than_the_limit(network, batch):
    gradients, _ = per_record_gradients(network, cross_entropy, batch)
    whole = clipped_sum(gradients, 0.1)
    for row in range(7):
        others = {name: torch.cat([g[:row], g[row + 1 :]]) for name, g in gradients.items()}
        without = clipped_sum(others, 0.1)
        moved = math.sqrt(sum(float(((whole[n] - without[n]) ** 2).sum()) for n in whole))
        assert moved <= 0.1 * (1 + 1e-4)
    slow = clipped_sum_one_by_one(losses(network, batch), list(network.parameters()), 0.1)
    for one, other in zip(slow, whole.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_records_are_not_mixed_by_a_language_model(make_lm):
    """Padding, masks and tied weights of a published architecture, a record at a time."""
    lm = make_lm(5)
    examples = []
    for text in ("a short one", "a text that is a good deal longer than that"):
        examples.append(torch.tensor([lm.tokenizer(text)["input_ids"]]))
    parameters = [p for p in lm.model.parameters() if p.requires_grad]
    made = (lm.model(ids, labels=ids).loss for ids in examples)
    found = norms_one_by_one(made, parameters)
    for ids, norm in zip(examples, found, strict=True):
        lm.model.zero_grad()
        lm.model(ids, labels=ids).loss.backward()
        assert float(norm) == pytest.approx(
            math.sqrt(sum(float((p.grad**2).sum()) for p in parameters)), rel=1e-9
        )


def test_no_records_give_no_norms_and_a_sum_of_zeros(network):
    assert norms_one_by_one([], list(network.parameters())).shape == (0,)
    empty = torch.zeros(0, math.prod(network.layout.shape)), torch.zeros(0, dtype=torch.int64)
    assert per_record_gradient_norms(network, cross_entropy, empty).shape == (0,)
    total = clipped_sum_one_by_one([], list(network.parameters()), 1.0)
    assert all(not t.any() for t in total)


@pytest.mark.parametrize("limit", [0.0, -1.0, math.inf, math.nan])
def test_refuses_a_limit_that_clips_nothing(limit):
    with pytest.raises(EngramError, match="clipping norm is"):
        clipped_sum({"a": torch.zeros(2, 1)}, limit)


def test_refuses_other_norms(network, batch):
    with pytest.raises(EngramError, match="order of the norm is 3"):
        per_record_gradient_norms(network, cross_entropy, batch, order=3.0)
