"""Fine-tuning that is watched and stopped, from the command to the report."""

import json
from dataclasses import replace

import numpy as np
import pytest

from engram import data
from engram.cli import main
from engram.core import Split
from engram.engine import EngineRun, train
from engram.engine.targets import observed_of
from engram.methods.recipes.finetune_lm import FinetuneLm
from engram.methods.recipes.pretrain_lm import PretrainLm
from engram.parts.observation import observations

TUNE = {"learning_rate": 5e-3, "schedule": "constant", "warmup": 0.0, "observe_prefix": 8,
        "observe_suffix": 8}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("watched")


@pytest.fixture(scope="module")
def letters():
    split = data.read("demo:letters?n=40&seed=5")
    return split.with_texts([" ".join(text.split()[:14]) for text in split.texts])


@pytest.fixture(scope="module")
def tiny_base(store, letters):
    recipe = PretrainLm(layers=1, width=16, heads=2, context=64, vocabulary=300, epochs=1)
    return train(recipe, letters, EngineRun(root=store), source="letters", holdout=0.5)


def tuned(base, letters, store, **fields):
    recipe = FinetuneLm(base=str(base.folder), **{**TUNE, **fields})
    run = EngineRun(root=store)
    return train(recipe, letters, run, source="letters", holdout=0.5, validation=0.5)


def test_the_weights_kept_are_those_of_a_shorter_training(tiny_base, letters, store):
    watched = tuned(tiny_base, letters, store, epochs=4, stop="perplexity", patience=1)
    seen = observed_of(watched)
    kept = next(place for place, each in enumerate(seen) if each["kept"])
    named = [{f["name"]: f["value"] for f in each["findings"]} for each in seen]
    perplexities = [each["validation_perplexity"] for each in named]
    assert kept == int(np.argmin(perplexities)) > 0
    shorter = tuned(tiny_base, letters, store, epochs=kept)
    assert shorter.fingerprint == watched.fingerprint
    assert len(known_records_of(watched, letters)) == 10


def known_records_of(target, letters):
    return target.ledger.split(letters, "validation")


def test_looking_changes_nothing(tiny_base, letters, store):
    watched = tuned(tiny_base, letters, store, epochs=2, observe=True)
    assert watched.fingerprint == tuned(tiny_base, letters, store, epochs=2).fingerprint
    assert [each["epoch"] for each in observed_of(watched)] == [0.0, 1.0, 2.0]
    assert observed_of(watched)[-1]["kept"]


def test_a_training_that_died_goes_on_with_its_observations(tiny_base, letters, store, tmp_path):
    class DiedError(Exception):
        """Stands for a killed process."""

    def dies(entry):
        if entry.get("epoch") == 2.0 and "verbatim" in entry:
            raise DiedError

    recipe = FinetuneLm(base=str(tiny_base.folder), epochs=3, stop="ngram", tau=1.0, **TUNE)
    half = np.arange(40) < 20
    aside, trained = letters.where(~half), letters.where(half)
    run = EngineRun(root=store, validation=aside, scratch=tmp_path / "one")
    with pytest.raises(DiedError):
        recipe(trained, replace(run, listen=dies))
    again = recipe(trained, run)
    whole = recipe(trained, replace(run, scratch=tmp_path / "two"))
    assert observations(again.trace) == observations(whole.trace)
    for name, tensor in whole.model.model.state_dict().items():
        assert (again.model.model.state_dict()[name] == tensor).all(), name


def called(*arguments):
    """The exit status of the command."""
    with pytest.raises(SystemExit) as stop:
        main([str(each) for each in arguments])
    return stop.value.code


def test_the_command_says_what_it_sees_and_the_report_draws_it(
    tiny_base, letters, store, tmp_path, capsys
):
    data.write(letters, tmp_path / "letters.jsonl")
    out = tmp_path / "target"
    asked = ["train", "finetune-lm", "--data", str(tmp_path / "letters.jsonl"), "--base",
             str(tiny_base.folder), "--epochs", "2", "--stop", "ngram", "--validation", "0.5",
             "--holdout", "0.5", "--store", str(store), "--out", str(out)]  # fmt: skip
    assert called(*asked) == 0
    said = capsys.readouterr().err
    assert [line[:9] for line in said.splitlines() if "verbatim" in line] == [
        "epoch 0: ", "epoch 1: ", "epoch 2: "]  # fmt: skip
    lines = [json.loads(line) for line in (out / "trace.jsonl").read_text().splitlines()]
    assert sum("verbatim" in line for line in lines) == 3
    audit = ["audit", out, "--attacks", "loss", "--store", store, "--out", tmp_path / "audit"]
    assert called(*audit) == 0
    page = (tmp_path / "audit" / "report.html").read_text()
    assert "learnt by heart while it trained" in page


def test_a_rule_without_validation_says_what_to_do(tiny_base, store, tmp_path, capsys):
    file = tmp_path / "letters.jsonl"
    data.write(Split.of("letters", text=["one two three four five six seven eight"] * 12), file)
    asked = ["train", "finetune-lm", "--data", str(file), "--base", str(tiny_base.folder),
             "--stop", "ngram", "--holdout", "0", "--store", str(store)]  # fmt: skip
    assert called(*asked) == 2
    assert "--validation 0.2" in capsys.readouterr().err
