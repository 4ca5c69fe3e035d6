"""Bounds on epsilon through the command line: of private training, and of learning by heart."""

from dataclasses import replace

import numpy as np
import pytest

from engram import data
from engram.core import Split

PLAIN = ("train-classifier", "--epochs", 25, "--learning-rate", "1e-2", "--weight-decay", 0)
PRIVATE = ("dp-train-classifier", "--epsilon", 1, "--accountant", "rdp", "--epochs", 20,
           "--batch-size", 32, "--learning-rate", "5e-3")  # fmt: skip


@pytest.fixture
def points(tmp_path):
    """Points of noise whose labels mean nothing, so that they can only be learnt by heart."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(160, 20)).astype(np.float32)
    split = Split.of("points", features=features, label=rng.integers(0, 2, 160))
    data.write(replace(split, canaries=(True,) * 160), tmp_path / "points.parquet")
    return tmp_path / "points.parquet"


@pytest.fixture
def made(engram, points, tmp_path, monkeypatch):
    """A function: a recipe's words -> the folder of a target, half held out by coins."""
    monkeypatch.setenv("ENGRAM_RUNS", str(tmp_path / "runs"))

    def train(*recipe):
        said = engram("train", *recipe, "--data", points, "--holdout", 0.5, "--coins", "--json")
        assert said.code == 0, said.err
        return said.json["target"]

    return train


def bound(engram, measure, target, *options):
    said = engram("measure", measure, target, *options, "--json")
    assert said.code == 0, said.err
    (found,) = said.json["findings"]
    assert "at 95 % confidence and delta 1e-05" in found["note"]
    return found


def test_what_is_learnt_by_heart_has_a_bound(engram, made):
    target = made(*PLAIN)
    coins = bound(engram, "epsilon-lower-bound", target)
    assert "independent fair coin" in coins["note"]
    assert coins["value"] > 1.0
    said = engram("measure", "epsilon-lower-bound", target, "--design", "pairs", "--json")
    assert coins["value"] > said.json["findings"][0]["value"] > 0
    many = bound(engram, "epsilon-many-runs", target, "--runs", 16)
    assert many["value"] > 0
    assert "of 6 trainings with it" in many["note"]


def test_private_training_at_epsilon_one_has_a_bound_below_one(engram, made):
    pytest.importorskip("opacus", reason="opacus is not installed (pip install 'engram[dp]')")
    target = made(*PRIVATE)
    assert bound(engram, "epsilon-lower-bound", target)["value"] < 1.0
    many = bound(engram, "epsilon-many-runs", target, "--runs", 8)
    assert many["value"] < 1.0


def test_many_runs_need_a_recipe_and_an_even_number(refused, store, tmp_path):
    assert "runs is 7" in refused("measure", "epsilon-many-runs", store.target.folder, "--runs", 7)
    sides = []
    for name, rows in (("a", range(4)), ("b", range(4, 8))):
        sides.append(tmp_path / f"{name}.jsonl")
        data.write(store.letters.take(list(rows)).only(["text"]), sides[-1])
    folder = tmp_path / "stranger"
    folder.mkdir()
    for path in store.base.folder.iterdir():
        if path.name not in ("target.json", "ledger.parquet") and path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    said = refused(
        "measure", "epsilon-many-runs", folder, "--members", sides[0], "--outsiders", sides[1]
    )
    assert "does not carry the recipe" in said
