"""`gradient-norm` against one-at-a-time autograd, by hand for a linear classifier."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch.nn import functional

from engram.core import EngramError, Split, Target, torch_seeded
from engram.families.classifier import ClassifierModel
from engram.methods.attacks.gradient_norm import GradientNorm, last_layer
from engram.parts.networks import Layout

ORDERS = {"1": 1.0, "2": 2.0, "inf": float("inf")}


def network(layers=1, architecture="mlp", shape=(4,)):
    with torch_seeded(0, "network"):
        built = Layout(architecture, shape, 3, 8, layers).build()
    built.mean.copy_(torch.arange(built.mean.numel()) / 10)
    built.scale.fill_(2.0)
    return Target("net", "classifier", ClassifierModel(built.eval()), "net")


def one_by_one(model, losses, names, order):
    """Plain autograd: a backward pass for each record, all pieces in one long vector."""
    norms = []
    parameters = dict(model.named_parameters())
    for loss in losses:
        model.zero_grad()
        loss.backward()
        whole = torch.cat([parameters[name].grad.flatten() for name in names]).double()
        norms.append(float(torch.linalg.vector_norm(whole, ORDERS[order])))
    model.zero_grad()
    return np.array(norms)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("layers", ["all", "last"])
def test_agrees_with_autograd_on_a_classifier(arrays, run, order, layers):
    target = network()
    model = target.model.model
    names = [n for n, _ in model.named_parameters()]
    names = names if layers == "all" else names[-2:]
    features = torch.from_numpy(arrays.matrix().copy())
    labels = torch.from_numpy(arrays.matrix("label").copy())
    losses = (
        functional.cross_entropy(model(features[i : i + 1]), labels[i : i + 1])
        for i in range(len(arrays))
    )
    expected = one_by_one(model, losses, names, order)
    found = GradientNorm(order=order, layers=layers)(target, arrays, run)
    np.testing.assert_allclose(found.values, -expected, rtol=1e-5)


def test_agrees_with_autograd_on_images(run):
    rng = np.random.default_rng(1)
    images = rng.normal(size=(5, 2 * 8 * 8)).astype(np.float32)
    split = Split.of("images", features=images, label=rng.integers(0, 3, 5))
    target = network(2, "cnn", (2, 8, 8))
    model = target.model.model
    labels = torch.from_numpy(split.matrix("label").copy())
    losses = (
        functional.cross_entropy(model(torch.from_numpy(images[i : i + 1])), labels[i : i + 1])
        for i in range(5)
    )
    expected = one_by_one(model, losses, [n for n, _ in model.named_parameters()], "2")
    np.testing.assert_allclose(GradientNorm()(target, split, run).values, -expected, rtol=1e-4)


def test_a_worked_case(run):
    # Without hidden layers the gradient by the weights is (p - onehot) x^T, by the bias p - onehot.
    target = network()
    model = target.model.model
    model.body = torch.nn.Linear(4, 3)
    model.mean.zero_()
    model.scale.fill_(1.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    split = Split.of("one", features=np.array([[3.0, 0, 4, 0]], np.float32), label=np.array([1]))
    # p = 1/3 each: |p - onehot| = sqrt(6)/3, and |(x, 1)| = sqrt(26).
    found = GradientNorm()(target, split, run).values
    assert found[0] == pytest.approx(-np.sqrt(6) / 3 * np.sqrt(26), rel=1e-6)
    assert GradientNorm(order="1")(target, split, run).values[0] == pytest.approx(-4 / 3 * 8)
    assert GradientNorm(order="inf")(target, split, run).values[0] == pytest.approx(-2 / 3 * 4)


@pytest.mark.parametrize("layers", ["all", "last"])
def test_agrees_with_autograd_on_a_language_model(target, split, run, layers):
    lm = target.model
    short = split.take([0, 3, 6, 9])
    names = [n for n, _ in lm.model.named_parameters()]
    names = names if layers == "all" else ["transformer.ln_f.weight", "transformer.ln_f.bias"]

    def losses():
        for text in short.texts:
            ids = torch.tensor([lm.tokenizer(text)["input_ids"]])
            yield functional.cross_entropy(lm.model(ids).logits[0, :-1], ids[0, 1:])

    expected = one_by_one(lm.model, losses(), names, "2")
    found = GradientNorm(layers=layers)(target, short, run)
    # The family's own loss is taken in single precision.
    np.testing.assert_allclose(found.values, -expected, rtol=1e-4)


def test_a_long_text_is_the_mean_over_all_its_pieces(target, run):
    lm = target.model
    text = "one two three four five six seven eight nine ten eleven twelve " * 40
    ids = lm.tokenizer(text)["input_ids"]
    assert len(ids) > 2 * lm.context - 1
    total = 0.0
    for first in range(0, len(ids) - 1, lm.context - 1):
        piece = torch.tensor([ids[first : first + lm.context]])
        total = total + functional.cross_entropy(
            lm.model(piece).logits[0, :-1], piece[0, 1:], reduction="sum"
        )
    names = [n for n, _ in lm.model.named_parameters()]
    expected = one_by_one(lm.model, [total / (len(ids) - 1)], names, "2")
    found = GradientNorm()(target, Split.of("long", text=[text]), run)
    np.testing.assert_allclose(found.values, -expected, rtol=1e-4)


def test_members_of_a_model_that_knows_them_score_higher(by_heart, run):
    knows, members, outsiders = by_heart
    high = GradientNorm()(knows, members, run).values
    low = GradientNorm()(knows, outsiders, run).values
    assert np.mean(high[:, None] > low[None, :]) > 0.9


def test_leaves_the_weights_and_their_gradients_alone(target, split, run):
    GradientNorm()(target, split.take([0, 6]), run)
    assert all(p.grad is None for p in target.model.model.parameters())


def test_a_tied_output_head_is_not_the_last_layer(target):
    model = target.model.model
    names = tuple(name for name, _ in model.named_parameters())
    assert model.lm_head.weight is model.transformer.wte.weight
    assert last_layer(model, names) == ("transformer.ln_f.weight", "transformer.ln_f.bias")
    assert last_layer(torch.nn.Linear(2, 3), ("weight", "bias")) == ("weight", "bias")


def test_masked_language_models(split, run):
    masked_lm = pytest.importorskip("engram.families.masked_lm")
    lm = masked_lm.tiny_masked(split.texts, seed=0, vocabulary=300, layers=1, width=16, heads=2,
                               context=64)  # fmt: skip
    target = Target("masked", "masked-lm", lm, "masked")
    everything = GradientNorm(draws=2)(target, split, run).values
    assert len(np.unique(everything)) == len(split)
    for row in (0, 6):
        record = split.take([row])
        alone = GradientNorm(draws=2)(target, record, run).values
        np.testing.assert_allclose(alone, everything[[row]], rtol=1e-6)
    examples = masked_lm.FAMILY.examples(lm, split.take([6]), seed=0)
    drawn = [examples.at(draw) for draw in (0, 1)]
    loss = sum(e.nll(np.arange(1))[0] / int(e.counts[0]) for e in drawn) / 2
    loss.backward()
    gradients = [p.grad.flatten() for p in lm.model.parameters() if p.grad is not None]
    expected = float(torch.linalg.vector_norm(torch.cat(gradients)))
    assert -everything[6] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("fields", [{"order": "3"}, {"layers": "first"}, {"draws": 0}])
def test_refuses_fields(fields):
    # The type checker of the tests is quicker than the method's own check.
    with pytest.raises((EngramError, TypeCheckError), match=next(iter(fields))):
        GradientNorm(**fields)


def test_refuses_targets_without_gradients(arrays, split, run, target):
    with pytest.raises(EngramError, match="is a estimator, whose gradients"):
        GradientNorm()(Target("trees", "estimator", None, "trees"), arrays, run)
    with pytest.raises(EngramError, match="needs weights"):
        GradientNorm()(replace(network(), access="logits"), arrays, run)
    frozen = network()
    for parameter in frozen.model.model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(EngramError, match="are frozen"):
        GradientNorm()(frozen, arrays, run)
    with pytest.raises(EngramError, match="no token that the model is asked for"):
        GradientNorm()(target, split.take([0]).with_texts([""]), run)
    with pytest.raises(EngramError, match="features"):
        GradientNorm()(network(), split, run)
