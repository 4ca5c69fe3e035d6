"""Who learns from protected pictures, how it is made robust, and what is measured of pictures."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import EngramError, Lineage, Split, Target
from engram.families.estimator import FAMILY, EstimatorModel
from engram.methods.measures.bayes_error_bounds import BayesErrorBounds
from engram.methods.measures.visibility import Visibility, psnr, ssim
from engram.methods.recipes.robust_classifier import RobustClassifier, worst
from engram.methods.recipes.train_classifier import TrainClassifier
from engram.parts.alterations import ALTERATIONS, altered, covered, shifted
from engram.parts.estimators import fitted
from engram.parts.support_vectors import support_vector_scores
from engram.stats.cover_hart import cover_hart, neighbour_errors


def rng_of(seed=0):
    return torch.Generator().manual_seed(seed)


def blobs(n=60, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return (rng.normal(size=(n, 4)) + 1.2 * labels[:, None]).astype(np.float32), labels


# --- Support vector machines -------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_support_vector_machine_answers_as_scikit_learns_does(classes):
    from sklearn.svm import SVC

    features, labels = blobs(80, classes)
    arrays, _ = fitted("rbf-svm", {"C": 2.0}, features, labels, 0)
    theirs = SVC(C=2.0, break_ties=classes > 2).fit(features.astype(np.float64), labels)
    asked = np.random.default_rng(1).normal(1, 2, (50, 4)).astype(np.float32).astype(np.float64)
    ours = support_vector_scores(arrays, asked)
    np.testing.assert_array_equal(ours.argmax(1), theirs.predict(asked))
    if classes > 2:
        np.testing.assert_allclose(ours, theirs.decision_function(asked), atol=1e-9)
    else:
        np.testing.assert_array_equal(ours.argmax(1), theirs.decision_function(asked) > 0)


def test_a_support_vector_machine_by_hand():
    """Vectors at 0 (class 0) and 1 (class 1), coefficients 1 and -1, gamma 1: equal at 1/2."""
    arrays = {
        "vector": np.array([[0.0], [1.0]]), "coefficient": np.array([[1.0, -1.0]]),
        "intercept": np.array([0.0]), "number": np.array([1, 1]), "gamma": np.array([1.0]),
    }  # fmt: skip
    decision = 1 - math.exp(-1)  # at 0
    clear = decision / (3 * (decision + 1))
    found = support_vector_scores(arrays, np.array([[0.0], [0.5], [1.0]]))
    np.testing.assert_allclose(found[0], [1 + clear, -clear], atol=1e-12)
    np.testing.assert_allclose(found[1], [0, 1], atol=1e-12)
    np.testing.assert_allclose(found[2], [-clear, 1 + clear], atol=1e-12)


def test_a_support_vector_machine_stores_records_and_says_so():
    features, labels = blobs()
    arrays, _ = fitted("rbf-svm", {}, features, labels, 0)
    assert FAMILY.describe(EstimatorModel("rbf-svm", arrays, 4, {}))["stores training records"]


# --- Robust training ---------------------------------------------------------------------------


def test_the_worst_picture_by_hand():
    """A linear loss: every pixel goes as far as it may in the direction of its weight."""
    images = torch.tensor([[0.5, 0.5, 0.05, 0.5]])
    weights = torch.tensor([1.0, -2.0, -3.0, 0.0])
    found = worst(lambda moved: moved @ weights, images, torch.zeros(1, 4), 0.1, 4)
    np.testing.assert_allclose(found.numpy(), [[0.6, 0.4, 0.0, 0.5]], atol=1e-6)


def test_alterations_by_hand():
    rows = torch.arange(4.0).reshape(1, 1, 2, 2) / 4
    shown = torch.nn.functional.pad(rows, (1,) * 4, mode="replicate")[0, 0]
    cuts = [shown[i : i + 2, j : j + 2] for i in range(3) for j in range(3)]
    seen = set()
    for seed in range(60):
        (moved,) = shifted(rows, rng_of(seed))
        place = [k for k, cut in enumerate(cuts) if torch.equal(cut, moved[0])]
        assert place
        seen.update(place)
    assert len(seen) == 9
    large = torch.rand(50, 3, 8, 8)
    kept = covered(large, rng_of())
    assert ((kept == large) | (kept == 0.5)).all()
    grey = (kept == 0.5).all(1).sum((1, 2))
    assert int(grey.min()) >= 4
    assert int(grey.max()) <= 9
    flipped, _ = altered("flip", large, torch.eye(50), rng_of())
    turned = [torch.equal(f, r.flip(2)) for f, r in zip(flipped, large, strict=True)]
    same = [torch.equal(f, r) for f, r in zip(flipped, large, strict=True)]
    assert all(a != b for a, b in zip(turned, same, strict=True))
    assert 10 < sum(turned) < 40


@pytest.mark.parametrize("name", ALTERATIONS)
def test_alterations_keep_shapes_and_answers_that_add_up(name):
    rows, goal = torch.rand(6, 1, 4, 4), torch.eye(6)[:, :3] + torch.eye(6)[:, 3:]
    changed, answers = altered(name, rows, goal, rng_of(3))
    assert changed.shape == rows.shape
    np.testing.assert_allclose(answers.sum(1).numpy(), 1, atol=1e-6)
    if name == "mixup":
        assert not torch.equal(answers, goal)
        # What is shown and what is answered are mixed alike.
        again, both = altered(name, goal.reshape(6, 1, 3, 1), goal, rng_of(3))
        np.testing.assert_allclose(again.reshape(6, 3).numpy(), both.numpy(), atol=1e-6)
    else:
        assert torch.equal(answers, goal)


def pictures(n=40, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    raw = np.clip(0.5 + 0.2 * (2 * labels[:, None] - 1) * np.ones((n, 16)) * 0.5
                  + 0.05 * rng.normal(size=(n, 16)), 0, 1)  # fmt: skip
    shared = {"image_shape": np.array([4, 4])}
    return Split.of("pictures", features=raw.astype(np.float32), label=labels, shared=shared)


def test_without_defences_it_is_plain_training_with_one_spread_of_pixels(run, tmp_path):
    """Where every pixel spreads alike, it is plain training to the last step."""
    settings = {"width": 8, "epochs": 3, "layers": 1}
    rng = np.random.default_rng(3)
    raw = np.stack([rng.permutation(40) / 40 for _ in range(16)], 1).astype(np.float32)
    split = Split.of("even", features=raw, label=rng.integers(0, 2, 40))
    plain = TrainClassifier(**settings)(split, run).model
    robust = RobustClassifier(**settings, augment=())(split, type(run)(tmp_path / "other")).model
    for name, value in plain.model.state_dict().items():
        other = robust.model.state_dict()[name]
        np.testing.assert_allclose(other.numpy(), value.numpy(), atol=1e-4)


def test_alterations_of_pixels_that_are_even_do_no_harm(run):
    """An edge that is nearly always black must not become enormous once it flickers."""
    split = pictures(120)
    raw = split.matrix("features").copy()
    raw[:, :8] = np.where(np.random.default_rng(0).random((120, 8)) < 0.01, 0.01, 0.0)
    split = Split.of("edge", features=raw, label=split.matrix("label"), shared=dict(split.shared))
    recipe = RobustClassifier(width=8, layers=1, epochs=15, augment=("noise",), learning_rate=1e-2)
    network = recipe(split, run).model.model
    right = network(torch.from_numpy(raw)).argmax(1).numpy() == split.matrix("label")
    assert right.mean() > 0.95


def test_adversarial_training_bears_what_it_was_trained_against(run, tmp_path):
    """Twelve pixels tell the class clearly but by little, four by more, though not always."""
    rng = np.random.default_rng(2)
    labels = np.arange(200) % 2
    sign = (2 * labels - 1)[:, None]
    weak = 0.5 + sign * 0.05 + 0.01 * rng.normal(size=(200, 12))
    strong = 0.5 + sign * 0.25 + 0.2 * rng.normal(size=(200, 4))
    raw = np.clip(np.hstack([weak, strong]), 0, 1).astype(np.float32)
    split = Split.of("two", features=raw, label=labels)
    settings = {"width": 8, "layers": 1, "epochs": 10, "learning_rate": 1e-2, "augment": ()}
    right = {}
    for radius in (0.0, 0.1):
        recipe = RobustClassifier(**settings, adversarial=radius, adversarial_steps=3)
        network = recipe(split, type(run)(tmp_path / str(radius))).model.model
        goal = torch.from_numpy(labels)

        def losses(moved, network=network, goal=goal):
            return torch.nn.functional.cross_entropy(network(moved), goal, reduction="none")

        images = torch.from_numpy(raw)
        moved = worst(losses, images, torch.zeros_like(images), 0.1, 10)
        right[radius] = float((network(moved).argmax(1) == goal).float().mean())
    assert right[0.1] > 0.85
    assert right[0.1] > right[0.0] + 0.1


def test_unknown_alterations_are_refused():
    with pytest.raises(EngramError, match="no alteration 'rotate'"):
        RobustClassifier(augment=("rotate",))


# --- Bounds on the Bayes error ------------------------------------------------------------------


def test_cover_and_harts_bounds_by_hand():
    assert cover_hart(0.5, 2) == pytest.approx((0.5, 0.5))
    assert cover_hart(0.32, 2) == pytest.approx((0.2, 0.32))  # (1 - sqrt(0.36)) / 2
    assert cover_hart(0.0, 10) == (0.0, 0.0)
    assert cover_hart(0.9, 10) == pytest.approx((0.9, 0.9))
    assert cover_hart(1.0, 10) == pytest.approx((0.9, 1.0))


@given(st.floats(0, 1), st.integers(2, 50))
def test_cover_and_harts_formula(beta, classes):
    """The lower bound undoes e = beta (2 - C/(C-1) beta), the most that e can be for a beta."""
    beta *= (classes - 1) / classes
    worst_error = beta * (2 - classes / (classes - 1) * beta)
    assert cover_hart(worst_error, classes)[0] == pytest.approx(beta, abs=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_neighbour_errors_agree_with_pairs(seed, n):
    rng = np.random.default_rng(seed)
    points, labels = rng.integers(0, 3, (n, 2)).astype(np.float32), rng.integers(0, 3, n)
    for i, found in enumerate(neighbour_errors(points, labels)):
        far = [(float(((points[i] - points[j]) ** 2).sum()), j) for j in range(n) if j != i]
        nearest = [j for d, j in far if d == min(far)[0]]
        assert found == pytest.approx(np.mean([labels[j] != labels[i] for j in nearest]))


def test_the_measure_of_bounds(run):
    points = np.array([[0, 0], [0, 1], [5, 5], [5, 6], [9, 9], [9, 8]], np.float32)
    split = Split.of("six", features=points, label=[0, 0, 1, 1, 0, 1])
    target = Target("t", "classifier", None, "t", lineage=Lineage())
    upper, lower = BayesErrorBounds()(target, {"members": split}, run)
    assert (upper.value, upper.split, upper.n) == (pytest.approx(2 / 6), "members", 6)
    assert lower.value == pytest.approx(0.5 * (1 - math.sqrt(1 - 2 * 2 / 6)))
    assert lower.low <= lower.value <= lower.high
    (none,) = BayesErrorBounds()(target, {"members": split.take([0, 1])}, run)
    assert none.value is None


# --- Visibility -----------------------------------------------------------------------------------


def test_the_signal_to_noise_ratio_by_hand():
    rows = np.zeros((2, 2, 2, 1))
    moved = rows.copy()
    moved[0] += 0.1
    assert psnr(rows, moved)[0] == pytest.approx(20.0)
    assert psnr(rows, moved)[1] == math.inf


def test_structural_similarity_agrees_with_its_formula():
    pytest.importorskip("skimage", reason="scikit-image (extra vision) is not installed")
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 1, 3, 3, 1))
    a, b = 0.01**2, 0.03**2
    covariance = np.cov(x.ravel(), y.ravel())  # with n - 1, as the library has it
    by_formula = (2 * x.mean() * y.mean() + a) * (2 * covariance[0, 1] + b)
    by_formula /= x.mean() ** 2 + y.mean() ** 2 + a
    by_formula /= covariance[0, 0] + covariance[1, 1] + b
    assert ssim(x, y)[0] == pytest.approx(by_formula)
    assert ssim(x, x)[0] == pytest.approx(1.0)
    with pytest.raises(EngramError, match="2 pixels wide"):
        ssim(x[:, :2], y[:, :2])


def test_visibility_finds_originals_by_their_ids(run, target):
    pytest.importorskip("skimage", reason="scikit-image (extra vision) is not installed")
    before = pictures(6)
    moved = before.matrix("features") + np.float32(0.01)
    after = Split.of(
        "after", features=moved, label=before.matrix("label"), ids=before.ids,
        shared=dict(before.shared),
    ).take([4, 2, 0])  # fmt: skip
    run.others["before"] = before
    ratio, likeness, largest = Visibility("before")(target, {"members": after}, run)
    assert ratio.value == pytest.approx(40.0, abs=1e-3)
    assert 0.5 < likeness.value < 1
    assert largest.value == pytest.approx(0.01, abs=1e-6)
    (none,) = Visibility("before")(target, {"members": pictures(4, seed=9)}, run)
    assert none.value is None
    (unnamed,) = Visibility()(target, {"members": after}, run)
    assert "--originals" in unnamed.note
