"""Protections against slow second implementations from their papers' words, and by hand."""

import math
from dataclasses import dataclass, field
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm as gaussian

from engram import catalog
from engram.core import EngramError, Lineage, Split, Target, stream
from engram.families.classifier import ClassifierModel
from engram.parts.clusters import approach, kmeans, pull
from engram.parts.kernel_error import (
    KernelEstimate,
    grid_error,
    likeliest_width,
    mixture_bound,
    posteriors,
    smooth_maximum,
)
from engram.parts.networks import Layout
from engram.parts.noise_generator import NoiseGenerator
from engram.parts.perturbing import noise, penultimate, stepped
from engram.parts.protection import Protection, inside, pictures_of, steepest


@dataclass(frozen=True, eq=False)
class Plain:
    """A run with streams, a scratch folder, targets by name, and a log that can be read."""

    scratch: object
    others: dict = field(default_factory=dict)
    told: list = field(default_factory=list)
    seed: int = 0
    device: str = "cpu"

    def __getattr__(self, name):  # whatever else a run offers is not asked for here
        if name.startswith("__"):
            raise AttributeError(name)
        raise AssertionError(name)

    def stream(self, *path):
        return stream(self.seed, *path)

    def target(self, where):
        return self.others[where]

    def log(self, **entry):
        self.told.append(entry)

    def progress(self, done, total, what):
        assert 0 <= done <= total

    def tokens(self, target, split): ...
    def losses(self, target, split): ...
    def logits(self, target, split): ...
    def computed(self, name, target, split, settings, work): ...
    def fit(self, recipe, split, *path): ...
    def shadows(self, target, split, count, share=0.5): ...
    def retrained(self, target, splits, name): ...
    def sampler(self, target, temperature=1.0): ...
    def records(self, where, target=None): ...


@pytest.fixture
def plain(tmp_path):
    return Plain(tmp_path)


def method(name, **fields):
    return catalog.find("transforms", name).load()(**fields)


def squares(n=24, side=4, classes=3, seed=0, spread=0.15):
    """Pictures of blurred classes, 4 by 4 pixels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = rng.uniform(0.25, 0.75, (classes, side * side))
    raw = np.clip(centres[labels] + spread * rng.normal(size=(n, side * side)), 0, 1)
    shared = {"image_shape": np.array([side, side])}
    return Split.of("squares", features=raw.astype(np.float32), label=labels, shared=shared)


# --- The kernel estimate of the Bayes error --------------------------------------------------


def slow_posteriors(points, labels, classes, width, whose=None, weights=None):
    """q_i(c), one pair after another, in the words of the formula."""
    n = len(points)
    whose = range(n) if whose is None else whose
    weights = [1.0] * n if weights is None else weights
    table = np.zeros((n, classes))
    for i, j in product(range(n), range(n)):
        if whose[i] != whose[j]:
            far = sum((a - b) ** 2 for a, b in zip(points[i], points[j], strict=True))
            table[i, labels[j]] += weights[j] * math.exp(-far / (2 * width**2))
    return table / table.sum(1, keepdims=True)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(3, 9), st.floats(0.3, 3.0))
def test_posteriors_agree_with_pairs(seed, n, width):
    rng = np.random.default_rng(seed)
    points, labels = rng.normal(size=(n, 3)), rng.integers(0, 3, n)
    fast = posteriors(torch.from_numpy(points), np.arange(n), torch.from_numpy(labels), 3, width)
    slow = slow_posteriors(points, labels, 3, width)
    np.testing.assert_allclose(fast.numpy(), slow, atol=1e-9)


def test_posteriors_by_hand():
    """A point of class 0; one of class 1 in the same place; one of 0 at h sqrt(2 ln 3): 1/3."""
    width = 0.7
    points = torch.tensor([[0.0], [0.0], [width * math.sqrt(2 * math.log(3))]]).double()
    found = posteriors(points, np.array([0]), torch.tensor([0, 1, 0]), 2, width)
    np.testing.assert_allclose(found.numpy(), [[0.25, 0.75]], atol=1e-12)


def test_a_record_has_no_say_about_itself():
    """Two records, one of each class: each is told the other's class. With itself it would be 0."""
    images = torch.tensor([[0.0], [1.0]])
    estimate = KernelEstimate(images, torch.tensor([0, 1]), 2, lambda x: x, 0.1)
    assert estimate.error(images, own=True) == pytest.approx(1.0)
    assert estimate.error(images) == pytest.approx(0.0)


def test_a_mixture_with_what_they_were_agrees_with_pairs():
    """A record and its moved version are one record: neither speaks of the other."""
    rng = np.random.default_rng(1)
    clean, moved = rng.random((5, 2)), rng.random((5, 2))
    labels, share, width = np.array([0, 1, 2, 1, 0]), 0.3, 0.5
    estimate = KernelEstimate(
        torch.from_numpy(clean).float(), torch.from_numpy(labels), 3, lambda x: x, width, share
    )
    weights = [share / 5] * 5 + [(1 - share) / 5] * 5
    slow = slow_posteriors(
        np.vstack([moved, clean]), np.tile(labels, 2), 3, width, [*range(5)] * 2, weights
    )
    of_own = slow[np.arange(10), np.tile(labels, 2)]
    found = estimate.error(torch.from_numpy(moved).float(), own=True)
    assert found == pytest.approx(float(np.dot(weights, 1 - of_own)), abs=1e-6)
    found = estimate.error(torch.from_numpy(moved).float())
    assert found == pytest.approx(float(np.dot(weights, 1 - slow.max(1))), abs=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_the_slope_is_that_of_finite_differences(share):
    rng = np.random.default_rng(2)
    clean, moved = (torch.from_numpy(rng.random((6, 3))) for _ in range(2))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    axes = torch.from_numpy(rng.normal(size=(3, 2)))
    estimate = KernelEstimate(clean, labels, 3, lambda x: x @ axes, 0.8, share)
    estimate.__dict__["_weights"] = estimate._weights.double()
    slope = estimate.slope(moved, lambda q, y: 1 - q[torch.arange(len(q)), y])
    step = 1e-5
    for i, j in [(0, 0), (3, 2), (5, 1)]:
        up, down = moved.clone(), moved.clone()
        up[i, j] += step
        down[i, j] -= step
        rise = estimate.error(up, own=True) - estimate.error(down, own=True)
        assert float(slope[i, j]) == pytest.approx(rise / (2 * step), rel=1e-4, abs=1e-9)


def test_the_smooth_maximum_tends_to_the_maximum_from_below():
    shares = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    by_hand = sum(q * math.exp(q) for q in (0.5, 0.3, 0.2)) / sum(map(math.exp, (0.5, 0.3, 0.2)))
    assert float(smooth_maximum(shares, 1.0)[0]) == pytest.approx(by_hand, abs=1e-6)
    np.testing.assert_allclose(smooth_maximum(shares, 1e-3).numpy(), [0.5, 1.0], atol=1e-6)


def test_the_width_makes_labels_likeliest_among_those_tried():
    split = squares(40, spread=0.05)
    points, labels = pictures_of(split).clean, torch.from_numpy(pictures_of(split).labels)
    width = likeliest_width(points, labels, 3, stream(0))

    def fit(h):
        slow = slow_posteriors(points.double().numpy(), labels.tolist(), 3, h)
        return np.log(np.maximum(slow[np.arange(40), labels], 1e-6)).mean()

    assert fit(width) >= max(fit(width / 2), fit(width * 2)) - 1e-6
    with pytest.raises(EngramError, match="most records are equal"):
        likeliest_width(torch.zeros(5, 2), torch.tensor([0, 1, 0, 1, 0]), 2, stream(0))


@pytest.mark.parametrize("objective", ["bayes", "label"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_estimate_never_falls_with_line_search(objective, norm, plain):
    for seed in range(3):
        plain.told.clear()
        split = squares(seed=seed)
        method("bayes-error", objective=objective, norm=norm, epsilon=0.3, steps=15)(split, plain)
        told = [entry["objective"] for entry in plain.told if "objective" in entry]
        assert len(told) > 2
        assert all(after > before for before, after in pairwise(told))


def test_protected_records_lie_where_classes_meet(plain):
    """The estimate that was climbed is that of the published pictures, found by slow pairs."""
    split = squares(spread=0.1)
    found = method("bayes-error", epsilon=0.3, bandwidth=0.3, steps=20)(split, plain)
    labels = split.matrix("label")
    before, after = (
        1 - slow_posteriors(s.matrix("features"), labels, 3, 0.3).max(1).mean()
        for s in (split, found)
    )
    assert plain.told[0]["objective"] == pytest.approx(before, abs=1e-5)
    assert plain.told[-1]["objective"] == pytest.approx(after, abs=1e-5)
    assert after > before + 0.2


def test_a_grid_knows_the_error_of_two_gaussians():
    """Two classes N(-m, 1) and N(m, 1), equally likely: the Bayes error is Phi(-m)."""
    x = np.linspace(-9, 9, 4001)
    joint = np.stack([0.5 * gaussian.pdf(x, loc=m) for m in (-1.0, 1.0)])
    assert grid_error(joint, x[1] - x[0]) == pytest.approx(gaussian.cdf(-1.0), abs=1e-5)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.floats(0.0, 1.0))
def test_a_mixture_is_no_easier_than_its_parts(seed, share):
    """beta(mix) >= (1 - rho) beta(clean) + rho beta(protected), on a plane of three classes."""
    rng = np.random.default_rng(seed)
    axis = np.linspace(-6, 6, 121)
    cell = (axis[1] - axis[0]) ** 2
    x, y = np.meshgrid(axis, axis)

    def density():
        centres = rng.uniform(-2, 2, (3, 2))
        bumps = [np.exp(-((x - a) ** 2 + (y - b) ** 2) / 2) / (2 * np.pi) for a, b in centres]
        return np.stack(bumps).reshape(3, -1) / 3

    clean, protected = density(), density()
    mixed = grid_error((1 - share) * clean + share * protected, cell)
    least = mixture_bound(share, grid_error(clean, cell), grid_error(protected, cell))
    assert mixed >= least - 1e-3


def test_the_mixture_bound_by_hand():
    assert mixture_bound(0.25, 0.1, 0.5) == pytest.approx(0.2)


# --- Noise made against a surrogate ------------------------------------------------------------


def test_projection_and_direction_by_hand():
    change = torch.tensor([[3.0, -4.0], [0.3, 0.4]])
    np.testing.assert_allclose(inside(change, "linf", 1.0).numpy(), [[1, -1], [0.3, 0.4]])
    np.testing.assert_allclose(inside(change, "l2", 1.0).numpy(), [[0.6, -0.8], [0.3, 0.4]])
    np.testing.assert_allclose(steepest(change, "linf").numpy(), [[1, -1], [1, 1]])
    np.testing.assert_allclose(steepest(change, "l2").numpy(), [[0.6, -0.8], [0.6, 0.8]])


def test_a_step_by_hand():
    """A linear loss w x: records share a change by class, and go against the sign of w."""
    clean = torch.full((4, 3), 0.5)
    change, whose = torch.zeros(2, 3), torch.tensor([0, 1, 0, 1])
    w = torch.tensor([[1.0, -2.0, 0.0], [-1.0, -1.0, 3.0]])
    asked = []

    def losses(images, rows):
        asked.extend(rows.tolist())
        return (images * w[whose[torch.from_numpy(rows)]]).sum(1)

    budget = Protection(epsilon=0.1)
    once = stepped(losses, clean, change, whose, budget, 0.06)
    np.testing.assert_allclose(once.numpy(), -0.06 * w.sign().numpy(), atol=1e-7)
    twice = stepped(losses, clean, once, whose, budget, 0.06)
    np.testing.assert_allclose(twice.numpy(), -0.1 * w.sign().numpy(), atol=1e-7)
    up = stepped(losses, clean, change, whose, budget, -0.06)
    np.testing.assert_allclose(up.numpy(), 0.06 * w.sign().numpy(), atol=1e-7)
    assert asked[:4] == [0, 1, 2, 3]


def linear_target(weights):
    """A classifier of 2 by 2 pixels whose logits are `pixels @ weights`."""
    network = Layout("mlp", (4,), weights.shape[1]).build()
    network.body = torch.nn.Linear(4, weights.shape[1], bias=False)
    network.body.weight.data = torch.from_numpy(weights.T.astype(np.float32).copy())
    model = ClassifierModel(network.eval())
    return Target("linear", "classifier", model, "linear", lineage=Lineage())


@pytest.mark.parametrize("goal", ["targeted", "untargeted"])
def test_adversarial_pictures_agree_with_the_formula(goal, tmp_path):
    """One step with a linear network, whose gradient is sum_c p_c w_c - w_goal."""
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(4, 3))
    raw, labels = rng.uniform(0.3, 0.7, (5, 4)).astype(np.float32), np.array([0, 1, 2, 0, 1])
    split = Split.of("five", features=raw, label=labels)
    run = Plain(tmp_path, {"mine": linear_target(weights)})
    found = method(
        "error-maximising", surrogate="mine", goal=goal, steps=1, step=1.0, epsilon=0.05
    )(split, run)
    for x, y, moved in zip(raw, labels, found.matrix("features"), strict=True):
        scores = x.astype(np.float64) @ weights
        chance = np.exp(scores) / np.exp(scores).sum()
        answer = (y + 1) % 3 if goal == "targeted" else y
        slope = weights @ chance - weights[:, answer]
        way = -1 if goal == "targeted" else 1
        np.testing.assert_allclose(moved, x + way * 0.05 * np.sign(slope), atol=1e-6)


def test_adversarial_pictures_fool_the_network_that_they_were_made_for(tmp_path):
    weights = np.random.default_rng(4).normal(size=(4, 3))
    rng = np.random.default_rng(5)
    raw = rng.uniform(0.2, 0.8, (40, 4)).astype(np.float32)
    labels = (raw @ weights).argmax(1)
    run = Plain(tmp_path, {"mine": linear_target(weights)})
    made = method("error-maximising", surrogate="mine", goal="untargeted", epsilon=0.3)
    found = made(Split.of("all", features=raw, label=labels), run)
    said = (found.matrix("features") @ weights).argmax(1)
    assert np.mean(said == labels) < 0.2
    few = method("error-maximising", surrogate="mine")
    with pytest.raises(EngramError, match="label 3, but the model knows 3 classes"):
        few(Split.of("a", features=raw, label=labels + 1), run)
    with pytest.raises(EngramError, match="have 9 features, but the model takes 4"):
        few(Split.of("a", features=np.ones((2, 9), np.float32), label=[0, 1]), run)
    run = Plain(tmp_path, {"other": Target("e", "estimator", None, "e", lineage=Lineage())})
    made = method("error-maximising", surrogate="other")
    with pytest.raises(EngramError, match="surrogate 'other' is a estimator, not a classifier"):
        made(Split.of("a", features=raw, label=labels), run)


@pytest.mark.parametrize("each", ["record", "class"])
def test_minimising_noise_makes_pictures_easy(each, plain):
    """Pure noise has nothing to learn; with error-minimising noise a network errs on few."""
    rng = np.random.default_rng(6)
    raw = rng.uniform(0.35, 0.65, (48, 16)).astype(np.float32)  # the range cuts nothing off
    labels = rng.integers(0, 3, 48)
    split = Split.of("noise", features=raw, label=labels)
    made = method(
        "error-minimising", each=each, epsilon=0.3, rounds=12, noise_steps=10, width=8,
        architecture="mlp",
    )  # fmt: skip
    found = made(split, plain)
    errors = [entry["error"] for entry in plain.told if "error" in entry]
    assert errors[-1] <= 0.05
    change = found.matrix("features") - raw
    same = [np.ptp(change[labels == c], axis=0).max() for c in range(3)]
    if each == "class":
        assert max(same) < 1e-6
    else:
        assert min(same) > 0.1


def test_minimising_noise_leaves_a_given_network_as_it_is(tmp_path):
    fresh = Layout("mlp", (4,), 3, 8, 1).build()
    kept = Target("m", "classifier", ClassifierModel(fresh.eval()), "m", lineage=Lineage())
    before = {k: v.clone() for k, v in fresh.state_dict().items()}
    rng = np.random.default_rng(1)
    split = Split.of("s", features=rng.random((9, 4), np.float32), label=np.arange(9) % 3)
    method("error-minimising", surrogate="m", rounds=2)(split, Plain(tmp_path, {"m": kept}))
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, before[name])


def test_shortcuts_are_patches_that_a_line_tells_apart(plain):
    from sklearn.linear_model import LogisticRegression

    split = squares(90, side=8, seed=7)
    raw = np.full((90, 64), 0.5, np.float32)
    split = Split.of("grey", features=raw, label=split.matrix("label"), shared=split.shared)
    found = method("linear-shortcut", epsilon=0.1, patch=4)(split, plain)
    change = (found.matrix("features") - raw).reshape(-1, 8, 8)
    for rows, columns in product((0, 4), (0, 4)):
        part = change[:, rows : rows + 4, columns : columns + 4]
        assert np.ptp(part, axis=(1, 2)).max() < 1e-7
    np.testing.assert_allclose(np.abs(change).max((1, 2)), 0.1, atol=1e-6)
    flat = change.reshape(90, -1) * 10
    labels = split.matrix("label")
    assert LogisticRegression().fit(flat[:60], labels[:60]).score(flat[60:], labels[60:]) > 0.95


@pytest.mark.parametrize("kind", ["linf", "l2"])
def test_random_noise_fills_its_budget_evenly(kind):
    drawn = noise(4000, 3, kind, 0.5, stream(0)).numpy()
    if kind == "linf":
        assert np.abs(drawn).max() <= 0.5
        assert np.abs(drawn.mean(0)).max() < 0.03
        assert drawn.var(0) == pytest.approx(np.full(3, 1 / 12), rel=0.06)
    else:
        length = np.linalg.norm(drawn, axis=1)
        assert length.max() <= 0.5 + 1e-6
        # Half of a ball's volume lies within (1/2)^(1/3) of its radius.
        assert np.mean(length < 0.5 * 0.5 ** (1 / 3)) == pytest.approx(0.5, abs=0.03)


def test_random_noise_is_one_draw_a_class_where_asked(plain):
    split = Split.of("grey", features=np.full((6, 4), 0.5, np.float32), label=[0, 1, 2, 0, 1, 2])
    found = method("random-noise", each="class", epsilon=0.2)(split, plain).matrix("features")
    np.testing.assert_array_equal(found[:3], found[3:])
    assert not np.array_equal(found[0], found[1])
    alone = method("random-noise", epsilon=0.2)(split, plain).matrix("features")
    assert not np.array_equal(alone[0], alone[3])


# --- Clusters -----------------------------------------------------------------------------------


def test_the_pull_by_hand():
    """softmax(0, 0) = (1/2, 1/2) against softmax(ln 3, 0) = (3/4, 1/4): KL in nats."""
    seen = torch.tensor([[math.log(3.0), 0.0]])
    by_hand = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert float(pull(seen, torch.zeros(2))) == pytest.approx(by_hand, abs=1e-6)
    assert float(pull(torch.zeros(3, 2) + 5, torch.zeros(2))) == pytest.approx(0.0, abs=1e-6)


def test_the_pull_is_torchs_divergence_of_the_paper():
    rng = np.random.default_rng(8)
    seen, centre = torch.from_numpy(rng.normal(size=(7, 5))), torch.from_numpy(rng.normal(size=5))
    paper = torch.nn.functional.kl_div(
        seen.log_softmax(1), centre.softmax(0).expand(7, -1), reduction="batchmean"
    )
    assert float(pull(seen, centre)) == pytest.approx(float(paper), abs=1e-9)


def test_the_approach_by_hand():
    """Squared distances 25 and 0 to the centre, halved by 2 * 5^2, and their mean."""
    seen = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert float(approach(seen, torch.zeros(2), 5.0)) == pytest.approx(0.25)


def test_clusters_are_those_of_k_means():
    rng = np.random.default_rng(9)
    corners = np.array([[0, 0], [10, 0], [0, 10]])
    points = torch.from_numpy(np.repeat(corners, 5, 0) + rng.normal(size=(15, 2))).float()
    found = kmeans(points, 3, stream(0))
    groups = found.whose.reshape(3, 5)
    assert all(len(set(row.tolist())) == 1 for row in groups)
    assert len(set(found.whose.tolist())) == 3
    np.testing.assert_allclose(
        found.centres[groups[:, 0]].numpy(), points.reshape(3, 5, 2).mean(1).numpy(), atol=1e-5
    )
    assert torch.equal(found.nearest(points), found.whose)


@pytest.mark.parametrize("generator", [True, False])
def test_clusters_move_to_the_next_one_without_any_label(generator, tmp_path):
    """Seen through an untrained network with a wide budget, nearly all pictures get there."""
    rng = np.random.default_rng(10)
    centres = rng.uniform(0.2, 0.8, (3, 16))
    raw = centres[np.arange(30) % 3] + 0.02 * rng.normal(size=(30, 16))
    shared = {"image_shape": np.array([4, 4])}
    split = Split.of("bare", features=np.clip(raw, 0, 1).astype(np.float32), shared=shared)
    weights = rng.normal(size=(16, 6)) * 2
    network = Layout("mlp", (16,), 6).build()
    network.body = torch.nn.Sequential(torch.nn.Linear(16, 6, bias=False), torch.nn.Linear(6, 2))
    network.body[0].weight.data = torch.from_numpy(weights.T.astype(np.float32).copy())
    target = Target("t", "classifier", ClassifierModel(network.eval()), "t", lineage=Lineage())
    run = Plain(tmp_path, {"t": target})
    made = method(
        "unlearnable-clusters", surrogate="t", clusters=3, epsilon=0.5, steps=40,
        generator=generator, generator_width=8, noise_rate=0.03 if generator else 0.2,
        pull="kl" if generator else "euclidean",
    )  # fmt: skip
    found = made(split, run)
    assert run.told[-1]["reached"] >= 0.7
    # The same noise within a cluster, found again from outside: pixels that the range leaves alone.
    change = found.matrix("features") - split.matrix("features")
    groups = np.arange(30) % 3
    moved = found.matrix("features")
    for group in range(3):
        free = ((moved[groups == group] > 0) & (moved[groups == group] < 1)).all(0)
        assert free.any()
        assert np.ptp(change[groups == group][:, free], axis=0).max() < 1e-6


def test_the_generator_is_as_large_as_the_picture_and_within_1():
    torch.manual_seed(0)
    for shape in ((1, 8, 8), (3, 7, 5), (1, 4, 4)):
        made = NoiseGenerator(shape[0], 4)(torch.rand(1, *shape))
        assert made.shape == (1, *shape)
        assert float(made.detach().abs().max()) <= 1


def test_what_goes_into_the_last_layer_is_what_is_seen():
    network = Layout("cnn", (1, 4, 4), 3, 4, 2).build().eval()
    images = torch.rand(5, 16)
    seen = penultimate(network, images)
    np.testing.assert_allclose(
        network.body[-1](seen).detach().numpy(), network(images).detach().numpy(), atol=1e-6
    )


def vit(folder, **changes):
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        image_size=16, patch_size=8, num_channels=3, **changes,
    )  # fmt: skip
    ViTModel(config).eval().save_pretrained(folder)
    return folder


def test_any_published_vision_encoder_can_be_looked_through(tmp_path, plain):
    import json

    from transformers import ViTModel

    from engram.parts.vision_encoders import has_encoder, opened_encoder

    folder = vit(tmp_path / "vit")
    reader = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(reader))
    assert has_encoder(str(folder))
    assert not has_encoder(str(tmp_path))
    split = squares(8)
    pictures = pictures_of(split)
    seen = opened_encoder(str(folder), pictures)(pictures.clean)
    grey = pictures.clean.reshape(-1, 1, 4, 4).expand(-1, 3, -1, -1)
    large = torch.nn.functional.interpolate(grey, size=(16, 16), mode="bilinear")
    mean, spread = (torch.tensor(reader[k]).reshape(1, 3, 1, 1) for k in reader)
    with torch.no_grad():
        expected = ViTModel.from_pretrained(folder)(pixel_values=(large - mean) / spread)
    np.testing.assert_allclose(seen.detach().numpy(), expected.pooler_output.numpy(), atol=1e-5)
    made = method("unlearnable-clusters", surrogate=str(folder), clusters=2, steps=2, epsilon=0.3)
    assert made(split, plain).ids == split.ids


def test_folders_that_are_no_safe_encoders_are_refused(tmp_path):
    from transformers import GPT2Config, GPT2Model

    from engram.parts.vision_encoders import opened_encoder

    pictures = pictures_of(squares(4))
    small = GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=10, n_positions=8)
    GPT2Model(small).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(EngramError, match="does not look at pictures"):
        opened_encoder(str(tmp_path / "gpt2"), pictures)
    folder = vit(tmp_path / "vit")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EngramError, match="only pickled weights"):
        opened_encoder(str(folder), pictures)
