"""Attacks with input that cannot work, through the command line: a named error, never a number."""

import numpy as np
import pytest
from tests_engine import LETTERS, method

from engram import data
from engram.core import Split
from engram.engine import EngineRun, train

TINY = {"layers": 1, "width": 16, "heads": 2, "context": 128, "epochs": 1}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """The folder of a classifier, and the file that it was trained from."""
    folder = tmp_path_factory.mktemp("classifier")
    rng = np.random.default_rng(0)
    features = rng.normal(size=(24, 4)).astype(np.float32)
    points = Split.of("points", features=features, label=np.arange(24) % 2)
    data.write(points, folder / "points.parquet")
    recipe = method("recipes", "train-classifier", width=4, epochs=1)
    run = EngineRun(root=folder / "runs")
    where = str(folder / "points.parquet")
    return train(recipe, points, run, source=where, holdout=0.5).folder, where


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """Masked models: a base, a target tuned from it, and a base with another vocabulary."""
    run = EngineRun(root=tmp_path_factory.mktemp("masked"))
    letters = data.read(LETTERS)

    def made(name, **fields):
        recipe = method("recipes", name, **fields)
        return train(recipe, letters, run, source=LETTERS, holdout=0.5).folder

    base = made("pretrain-mlm", vocabulary=300, **TINY)
    other = made("pretrain-mlm", vocabulary=290, **TINY)
    return base, made("finetune-mlm", base=str(base), epochs=1), other


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """The folder of a causal model with another vocabulary than the store's target."""
    run = EngineRun(root=tmp_path_factory.mktemp("stranger"))
    recipe = method("recipes", "pretrain-lm", vocabulary=290, **TINY)
    return train(recipe, data.read(LETTERS), run, source=LETTERS, holdout=0.5).folder


@pytest.mark.parametrize(
    ("attack", "lacks"),
    [("min-k", "logprobs"), ("recall", "tokens"), ("spv-mia", "tokens"), ("samia", "text"),
     ("likelihood-ratio", "energies")],
)  # fmt: skip
def test_a_classifier_for_attacks_on_texts(refused, classifier, attack, lacks):
    said = refused("audit", classifier[0], "--attacks", attack)
    assert f"attack {attack} cannot be run: it needs {lacks}" in said
    assert "classifier" in said


@pytest.mark.parametrize("attack", ["label-only", "likelihood-ratio"])
def test_a_language_model_for_attacks_on_others(refused, store, attack):
    said = refused("audit", store.target.folder, "--attacks", attack)
    assert f"attack {attack} cannot be run: it needs" in said
    assert "causal-lm" in said


def test_a_masked_model_for_attacks_on_causal_ones(refused, masked):
    said = refused("audit", masked[1], "--attacks", "spv-mia")
    assert "cannot be run: it needs tokens, which masked-lm targets do not give" in said


@pytest.mark.parametrize("attack", ["lira", "rmia"])
@pytest.mark.parametrize("count", [0, 1, 3, -2])
def test_too_few_shadows(refused, classifier, attack, count):
    said = refused(
        "audit", classifier[0], "--attacks", attack, "--set", f"{attack}.shadows={count}"
    )
    assert f"shadows is {count}" in said


def test_shadows_of_a_model_that_carries_no_recipe(refused, store, tmp_path):
    folder = tmp_path / "stranger"
    folder.mkdir()
    for path in store.base.folder.iterdir():
        if path.is_file() and path.name not in ("target.json", "ledger.parquet"):
            (folder / path.name).write_bytes(path.read_bytes())
    sides = []
    for name, rows in (("a", range(6)), ("b", range(6, 12))):
        sides.append(tmp_path / f"{name}.jsonl")
        data.write(store.letters.take(list(rows)).only(["text"]), sides[-1])
    options = ("--members", sides[0], "--outsiders", sides[1], "--attacks", "lira")
    assert "does not carry the recipe" in refused("audit", folder, *options)


@pytest.mark.parametrize("attack", ["reference", "spv-mia"])
def test_a_reference_with_another_tokenizer(refused, store, stranger, attack):
    said = refused(
        "audit", store.target.folder, "--attacks", attack, "--set", f"{attack}.reference={stranger}"
    )
    assert "cuts the texts into other tokens than target" in said


@pytest.mark.parametrize("attack", ["reference", "likelihood-ratio"])
def test_a_masked_reference_with_another_tokenizer(refused, masked, attack):
    said = refused(
        "audit", masked[1], "--attacks", attack, "--set", f"{attack}.reference={masked[2]}"
    )
    assert "has another tokenizer than target" in said


def test_a_reference_of_another_kind(refused, store, masked):
    said = refused("audit", store.target.folder, "--attacks", "reference", "--reference", masked[0])
    assert "is a masked-lm, but target" in said


@pytest.mark.parametrize(
    ("attack", "field"),
    [("spv-mia", "prompts"), ("recall", "prefix"), ("quantile-regression", "population"),
     ("rmia", "population")],
)  # fmt: skip
def test_outside_records_that_overlap_the_members(refused, store, attack, field):
    said = refused(
        "audit", store.target.folder, "--attacks", attack, "--set", f"{attack}.{field}={LETTERS}"
    )
    assert "are among those that are audited" in said
    assert "overlaps the members" in said


def test_prompts_that_overlap_by_a_single_record(refused, store, tmp_path):
    path = tmp_path / "prompts.jsonl"
    others = data.read("demo:letters?n=20&seed=77").only(["text"])
    data.write(others.joined(store.letters.take([5]).only(["text"]), "prompts"), path)
    said = refused("audit", store.target.folder, "--prompts", path)
    assert "1 of the 21 records of the prompt source" in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,member,target_nll,reference_nll\na,1,2,3\nb,0,2\n", "line 3"),
        ("id,member,target_nll,reference_nll\na,1,2,3\nb,0,2,\n", "reference_nll"),
        ("id,member,reference_nll\na,1,2\nb,0,2\n", "no 'target_nll'"),
    ],
)
def test_scores_of_target_and_reference_of_unequal_lengths(refused, tmp_path, text, says):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    assert says in refused("audit", "--scores", path)
