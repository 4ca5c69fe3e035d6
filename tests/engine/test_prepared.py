"""Recipes that prepare for deletion beside unlearners: one request, one table."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests_engine import method

from engram.core import EngramError, Split
from engram.engine import EngineRun, known_records, to_forget, train
from engram.engine.forget import NEVER
from engram.engine.forget_compare import BEFOREHAND, compare_unlearners
from engram.engine.prepared import adopted, answering, ready_recipes, suited


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A table for one request on a small classifier."""
    root = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(0)
    features = rng.normal(size=(120, 4)).astype(np.float32)
    split = Split.of("points", features=features, label=(features[:, 0] > 0).astype(np.int64))
    path = root / "points.parquet"
    pq.write_table(split.to_table(), path)
    run = EngineRun(root=root / "runs")
    recipe = method("recipes", "train-classifier", width=8, layers=1, epochs=4)
    target = train(recipe, split, run, source=str(path), holdout=0.5)
    known = known_records(target)
    records = to_forget(target, known, ids=tuple(known.trained.ids[:6]))
    ways = suited(target, ["gradient-difference", "sisa"])
    return target, known, records, run, compare_unlearners(target, known, records, ways, run)


def test_a_recipe_stands_beside_unlearners(compared):
    *_, done = compared
    table = done.story.document["comparison"]
    assert table["columns"][1:] == ["gradient-difference", "sisa", NEVER]
    assert done.promises["sisa"] == "exact"
    assert done.promises["gradient-difference"] == "approximate"
    assert not done.failed


def test_cost_storage_and_accuracy_are_told_of_each(compared):
    *_, done = compared
    rows = {row["name"]: row["cells"] for row in done.story.document["comparison"]["rows"]}
    assert rows[BEFOREHAND][0]["value"] is None
    for name in ("seconds to make it", "storage", BEFOREHAND):
        assert all(cell["value"] > 0 for cell in rows[name][1:]), name
    assert rows["storage"][2]["value"] > rows["storage"][1]["value"]  # five shards of four slices
    for name in ("accuracy on kept records", "accuracy on held-out records"):
        assert all(0 <= cell["value"] <= 1 for cell in rows[name])


def test_a_prepared_target_forgets_by_its_own_edit(compared):
    target, known, _, run, _ = compared
    assert answering(target) == ""
    sharded = train(
        adopted(ready_recipes("classifier")["sisa"], target),
        known.everything,
        run,
        source=target.lineage.data,
        holdout=0.5,
    )
    assert answering(sharded) == "retrain-shards"


def test_settings_are_the_targets_own(compared):
    target, *_ = compared
    recipe = suited(target, ["sisa"]).recipes["sisa"]
    assert (recipe.width, recipe.layers, recipe.epochs) == (8, 1, 4)


def test_all_takes_recipes_too(compared):
    target, *_ = compared
    found = suited(target, ["all"])
    assert "sisa" in found.recipes
    assert "gradient-difference" in found.edits
    assert "retrain" not in found.edits


def test_a_recipe_for_other_models_is_refused(compared):
    target, *_ = compared
    with pytest.raises(EngramError, match="pretrain-lm is a recipe that does not stand in") as said:
        suited(target, ["pretrain-lm"])
    assert "sisa" in said.value.hint
