"""Budgets that hold to the last bit, and records that a deletion request still finds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engram import catalog, data
from engram.core import EngramError, Split, check_disjoint
from engram.parts.origins import ORIGINS, origins_of, with_origins
from engram.parts.protection import Budget, pictures_of
from engram.parts.turned import turned

QUICK = {
    "bayes-error": {"steps": 3},
    "unlearnable-clusters": {"steps": 3, "clusters": 2, "epochs": 1, "generator_width": 4},
    "error-minimising": {"rounds": 2, "noise_steps": 2, "network_steps": 2},
    "error-maximising": {"steps": 3, "epochs": 1},
    "linear-shortcut": {"patch": 2},
    "random-noise": {},
}
"""Every method that moves pixels within a budget, with settings that make it quick."""
VARIANTS = [
    ("bayes-error", {"space": "pca", "components": 3, "mixture": 0.5, "line_search": False}),
    ("bayes-error", {"space": "surrogate", "epochs": 1, "objective": "label"}),
    ("unlearnable-clusters", {"generator": True, "scope": "all", "pull": "euclidean"}),
    ("error-minimising", {"each": "class"}),
    ("error-maximising", {"goal": "untargeted", "architecture": "mlp"}),
    ("random-noise", {"each": "class"}),
]
CASES = [(name, {}) for name in QUICK] + VARIANTS


def pictures(n=12, shape=(4, 4), seed=0, low=0.0, high=1.0, **shared):
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    raw = rng.uniform(low, high, (n, size)).astype(np.float32)
    raw[rng.random(raw.shape) < 0.2] = low
    raw[rng.random(raw.shape) < 0.2] = high
    return Split.of(
        "pictures",
        features=raw,
        label=np.arange(n) % 3,
        owners=[f"o{i // 2}" for i in range(n)],
        shared={"image_shape": np.array(shape), **shared},
    )


def made(name, fields):
    method = catalog.find("transforms", name).load()
    small = {"width": 4} if "width" in method.__dataclass_fields__ else {}
    return method(**{**QUICK[name], **small, **fields})


def test_every_method_with_a_budget_is_tested_here():
    found = {
        name
        for name, entry in catalog.entries("transforms").items()
        if hasattr(entry.load(), "published")
    }
    assert found == set(QUICK)


@pytest.mark.parametrize(("name", "fields"), CASES)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_method_leaves_its_budget_or_the_range(name, fields, norm, run, tmp_path):
    """Judged by the numbers in the split, and again after they were written and read."""
    split = pictures(seed=3, low=-1.5, high=2.5, pixel_range=np.array([-1.5, 2.5]))
    epsilon = 0.07 if norm == "linf" else 0.4
    after = made(name, {**fields, "norm": norm, "epsilon": epsilon})(split, run)
    data.write(after, tmp_path / "after.parquet")
    for found in (after, data.read(tmp_path / "after.parquet")):
        moved = found.matrix("features")
        assert moved.dtype == np.float32
        change = moved.astype(np.float64) - split.matrix("features").astype(np.float64)
        size = np.abs(change).max(1) if norm == "linf" else np.linalg.norm(change, axis=1)
        assert (size <= epsilon * 4.0).all()
        assert size.max() > 0
        assert moved.min() >= -1.5
        assert moved.max() <= 2.5


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_protected_records_are_found_by_id_owner_and_original(name, fields, run):
    split = pictures()
    after = made(name, fields)(split, run)
    assert (after.ids, after.owners) == (split.ids, split.owners)
    np.testing.assert_array_equal(after.matrix("label"), split.matrix("label"))
    assert origins_of(after) == [frozenset({digest}) for digest in split.digests]
    with pytest.raises(EngramError, match="are in both"):
        check_disjoint(split, after)
    with pytest.raises(EngramError, match="are in both"):
        split.joined(after)


@settings(max_examples=60)
@example(seed=0, norm="linf", epsilon=1.9999999999999996, low=0.0, span=7.0)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["linf", "l2"]),
    st.floats(1e-9, 3.0),
    st.floats(-5, 5),
    st.floats(0.01, 300.0),
)
def test_a_budget_holds_whatever_is_asked(seed, norm, epsilon, low, span):
    rng = np.random.default_rng(seed)
    low, high = float(np.float32(low)), float(np.float32(low + span))
    original = np.clip(rng.uniform(low, high, (5, 7)).astype(np.float32), low, high)
    asked = original + rng.normal(size=(5, 7)) * rng.choice([1e-8, 1e-3, 1, 1e4], (5, 1))
    budget = Budget(norm, epsilon, low, high)
    kept = budget.kept(original, asked)
    assert kept.dtype == np.float32
    assert (budget.size(original, kept) <= epsilon).all()
    assert kept.min() >= low
    assert kept.max() <= high


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_is_allowed_is_left_as_it_is(norm):
    original = np.full((1, 4), 0.5, np.float32)
    asked = original + np.array([[0.125, -0.125, 0.0, 0.125]], np.float32)
    np.testing.assert_array_equal(Budget(norm, 0.25, 0.0, 1.0).kept(original, asked), asked)


def test_a_budget_by_hand():
    """The box cuts each pixel; the ball shortens the whole: (0.3, 0.4) has the length 0.5."""
    original = np.array([[0.25, 0.5]], np.float32)
    asked = np.array([[0.55, 0.9]])
    box = Budget("linf", 0.125, 0.0, 1.0).kept(original, asked)
    np.testing.assert_array_equal(box, np.array([[0.375, 0.625]], np.float32))
    ball = Budget("l2", 0.25, 0.0, 1.0).kept(original, asked)
    np.testing.assert_allclose(ball, [[0.4, 0.7]], atol=1e-6)
    edge = Budget("linf", 0.5, 0.0, 0.6).kept(original, np.array([[-1.0, 2.0]]))
    np.testing.assert_allclose(edge, [[0.0, 0.6]], atol=1e-7)


def test_pixels_go_from_0_to_1_and_back_with_channels_in_their_place():
    split = pictures(4, (2, 3, 3), low=0, high=255, pixel_range=np.array([0, 255]))
    found = pictures_of(split)
    assert 0 <= float(found.clean.min()) <= float(found.clean.max()) <= 1
    rows = found.rows_of_pixels(found.clean)
    assert rows.shape == (4, 3, 2, 3)
    pixel = split.matrix("features")[1].reshape(2, 3, 3)[1, 2, 0] / 255
    assert float(rows[1, 0, 1, 2]) == pytest.approx(pixel, abs=1e-6)
    np.testing.assert_array_equal(found.flat(rows).numpy(), found.clean.numpy())
    shown = found.shown(found.raw)
    assert shown.shape == (4, 2, 3, 3)
    assert shown[1, 1, 2, 0] == pytest.approx(pixel, abs=1e-6)


def test_pictures_out_of_range_are_refused_with_the_remedy():
    split = pictures(low=0, high=16)
    with pytest.raises(EngramError, match="go from 0 to 16, beyond 0 to 1") as caught:
        pictures_of(split)
    assert "--pixels" in caught.value.hint
    assert pictures_of(split, (0.0, 16.0)).high == 16.0
    with pytest.raises(EngramError, match="no records"):
        pictures_of(split.take([]))


@pytest.mark.parametrize(
    ("name", "fields", "fact"),
    [
        ("random-noise", {"epsilon": 0.0}, "epsilon is 0.0"),
        ("random-noise", {"pixels": (1.0, 0.0)}, "pixels is"),
        ("bayes-error", {"mixture": 0.0}, "mixture is 0.0"),
        ("bayes-error", {"step": 0.0}, "step is 0.0"),
        ("bayes-error", {"bandwidth": -1.0}, "bandwidth is -1.0"),
        (
            "unlearnable-clusters",
            {"clusters": 4, "offset": 8},
            "moves each of 4 clusters to itself",
        ),
        ("unlearnable-clusters", {"clusters": 1}, "clusters is 1"),
        ("error-minimising", {"rounds": 0}, "rounds is 0"),
        ("linear-shortcut", {"side": -1.0}, "side is -1.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, fields, fact):
    with pytest.raises(EngramError, match=fact):
        made(name, fields)


def test_origins_add_up_and_are_checked():
    split = pictures(3)
    once = with_origins(split, [("a",), ("b", "c"), ()])
    twice = with_origins(once, [("x",), ("b",), ("y",)])
    assert origins_of(twice) == [{"a", "x"}, {"b", "c"}, {"y"}]
    assert origins_of(split) == [frozenset()] * 3
    wrong = Split.of("wrong", text=["a"], **{ORIGINS: ["not a list"]})
    with pytest.raises(EngramError, match="not lists of digests"):
        origins_of(wrong)


def test_turned_pictures_by_hand():
    split = Split.of(
        "two", features=np.array([[1, 2, 3, 4]], np.float32) / 4, label=[0],
        shared={"image_shape": np.array([2, 2])},
    )  # fmt: skip
    found = turned(pictures_of(split))
    rows = found.matrix("features").reshape(-1, 2, 2) * 4
    for turn, row in zip(found.matrix("label"), rows, strict=True):
        np.testing.assert_array_equal(row, np.rot90([[1, 2], [3, 4]], turn))
    wide = replace(split, shared={"image_shape": np.array([1, 4])})
    assert sorted(turned(pictures_of(wide)).matrix("label")) == [0, 1]


def test_records_of_nothing_but_pixels_are_records_too():
    raw = np.random.default_rng(0).random((5, 4), np.float32)
    split = Split.of("bare", features=raw)
    assert len(set(split.ids)) == len(split) == 5
    assert Split.of("some", features=raw[1:3]).ids == split.ids[1:3]


def test_a_deletion_request_finds_what_became_of_a_picture(run, tmp_path):
    """By its original, by its id, by its owner; who never gave a picture is told so."""
    from engram.engine import EngineRun, known_records, to_forget, train

    split, other = pictures(), pictures(seed=9)
    path = tmp_path / "protected.parquet"
    data.write(made("random-noise", {})(split, run), path)
    recipe = catalog.find("recipes", "fit-estimator").load()("nearest-neighbours")
    here = EngineRun(root=tmp_path / "runs", scratch=tmp_path / "scratch")
    target = train(recipe, data.read(path), here, source=str(path), holdout=0.25)
    known = known_records(target)
    gone = known.trained.ids[0]
    original = split.select([gone])
    assert gone == original.digests[0]
    assert to_forget(target, known, records=original).ids == (gone,)
    assert to_forget(target, known, ids=(gone,)).ids == (gone,)
    assert gone in to_forget(target, known, owner=original.owners[0]).ids
    with pytest.raises(EngramError, match="were not trained on"):
        to_forget(target, known, records=other.take([0]))
    with pytest.raises(EngramError, match="has no record"):
        to_forget(target, known, ids=("unknown",))
