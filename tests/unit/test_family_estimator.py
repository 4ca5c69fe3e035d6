"""scikit-learn estimators as arrays: the same probabilities, no pickle, nothing trusted."""

import json
import math

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engram import families
from engram.core import EngramError, Split, stream
from engram.families.estimator import FAMILY, EstimatorModel
from engram.parts.estimators import KINDS, fitted, kind_of

NAMES = sorted(KINDS)
SETTINGS = {"random-forest": {"n_estimators": 7}, "nearest-neighbours": {"n_neighbors": 3}}


def points(n=60, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    features = (rng.normal(size=(n, 4)) + labels[:, None]).astype(np.float32)
    return features, labels


def made(name, classes=3):
    features, labels = points(classes=classes)
    settings = SETTINGS.get(name, {})
    arrays, _ = fitted(name, settings, features, labels, 5)
    return EstimatorModel(name, arrays, 4, settings)


@pytest.fixture
def split():
    features, labels = points(30, seed=1)
    return Split.of("points", features=features, label=labels)


def test_it_is_a_family():
    assert families.find("estimator") is FAMILY
    assert isinstance(FAMILY, families.Family)


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_opened_again_it_is_the_same(name, split, tmp_path):
    model = made(name)
    FAMILY.save(model, tmp_path)
    again = FAMILY.load(tmp_path)
    assert FAMILY.fingerprint(again) == FAMILY.fingerprint(model)
    np.testing.assert_array_equal(FAMILY.logits(again, split), FAMILY.logits(model, split))
    assert FAMILY.describe(again) == FAMILY.describe(model)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_log_losses_and_finite(name, split):
    model = made(name)
    logits = FAMILY.logits(model, split)
    np.testing.assert_allclose(np.exp(logits).sum(1), 1, atol=1e-9)
    expected = [-row[label] for row, label in zip(logits, split.matrix("label"), strict=True)]
    np.testing.assert_array_equal(FAMILY.losses(model, split), expected)
    assert np.isfinite(expected).all()
    assert max(expected) <= -math.log(np.finfo(float).eps)
    accuracy, loss = FAMILY.quality(model, split, stream(0))
    assert accuracy.value == np.mean(logits.argmax(1) == split.matrix("label"))
    assert loss.value == pytest.approx(np.mean(expected))


def test_who_stores_the_records_says_so():
    assert FAMILY.describe(made("nearest-neighbours"))["stores training records"]
    assert not FAMILY.describe(made("logistic-regression"))["stores training records"]


def test_labels_need_not_be_contiguous():
    features, labels = points()
    arrays, _ = fitted("decision-tree", {}, features, labels * 10, 0)
    model = EstimatorModel("decision-tree", arrays, 4, {})
    same = Split.of("s", features=features, label=labels * 10)
    assert FAMILY.losses(model, same).max() < 1e-9
    with pytest.raises(EngramError, match="label 7, but the model knows only 0, 10, 20"):
        FAMILY.losses(model, Split.of("s", features=features[:1], label=[7]))


def test_unknown_names_and_parameters_get_the_nearest():
    with pytest.raises(EngramError, match="no estimator called 'random-forests'") as caught:
        kind_of("random-forests")
    assert "random-forest" in caught.value.hint
    with pytest.raises(EngramError, match="no parameter 'max_dept'") as caught:
        fitted("decision-tree", {"max_dept": 3}, *points(), 0)
    assert "max_depth" in caught.value.hint
    with pytest.raises(EngramError, match="cannot be fitted"):
        fitted("logistic-regression", {"C": -1.0}, *points(), 0)
    with pytest.raises(EngramError, match="cannot be fitted"):
        fitted("logistic-regression", {}, *points(classes=1), 0)


def change(**changes):
    def spoil(arrays):
        for name, (place, value) in changes.items():
            arrays[name] = arrays[name].copy()
            arrays[name][place] = value

    return spoil


@pytest.mark.parametrize(
    ("name", "spoil", "fact"),
    [
        ("decision-tree", change(left=(0, 10**6)), "points nowhere"),
        ("decision-tree", change(right=(0, 0)), "points nowhere"),
        ("decision-tree", change(feature=(0, 4)), "on no feature"),
        ("decision-tree", change(root=(0, -1)), "on no feature"),
        ("decision-tree", change(threshold=(0, np.nan)), "not finite"),
        ("decision-tree", change(classes=(0, 2)), "ascending"),
        ("random-forest", lambda a: a.pop("root"), "where .* belong"),
        ("random-forest", lambda a: a.update(value=a["value"][:, :2]), "value of shape"),
        ("random-forest", lambda a: a.update(left=a["left"][:-1]), "unequal columns"),
        ("nearest-neighbours", change(count=(0, 10**9)), "1000000000 neighbours"),
        ("nearest-neighbours", change(label=(0, 9)), "labels that do not fit"),
        ("logistic-regression", lambda a: a.update(bias=a["bias"][:1]), "bias of shape"),
        ("gaussian-naive-bayes", change(variance=((0, 0), np.inf)), "not finite"),
    ],
)
def test_arrays_from_outside_are_checked(name, spoil, fact, tmp_path):
    FAMILY.save(made(name), tmp_path)
    arrays = load_file(tmp_path / "model.safetensors")
    spoil(arrays)
    save_file(arrays, tmp_path / "model.safetensors")
    with pytest.raises(EngramError, match=fact) as caught:
        FAMILY.load(tmp_path)
    assert caught.value.hint


def test_a_folder_that_is_not_ours_is_refused(tmp_path):
    with pytest.raises(EngramError, match="holds no estimator"):
        FAMILY.load(tmp_path)
    (tmp_path / "model.joblib").write_bytes(b"")
    with pytest.raises(EngramError, match="holds no estimator") as caught:
        FAMILY.load(tmp_path)
    assert "pickle" in caught.value.hint
    (tmp_path / "config.json").write_text(json.dumps({"kind": "gpt2"}))
    with pytest.raises(EngramError, match="does not describe an estimator"):
        FAMILY.load(tmp_path)
    FAMILY.save(made("decision-tree"), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(EngramError, match="cannot be read"):
        FAMILY.load(tmp_path)
