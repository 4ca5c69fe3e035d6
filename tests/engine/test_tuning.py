"""Fine-tuning through the engine and the command line: roles, adapters on disk, bad input."""

import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tests_engine import LETTERS, method

from engram.core import EngramError, Ledger, Validated
from engram.engine import known_records, load, train
from engram.engine.shadows import own_recipe
from engram.engine.train import train_on
from engram.families.causal_lm import FAMILY
from engram.parts import training

SHORT = {"epochs": 1, "batch_size": 10}


@pytest.fixture(scope="module")
def validated(store):
    tune = method("recipes", "finetune-lm", base=str(store.base.folder), **SHORT)
    return train(tune, store.letters, store.run, source=LETTERS, holdout=0.5, validation=0.4)


def test_validation_records_are_neither_members_nor_outsiders(store, validated):
    ledger = Ledger.load(validated.folder)
    aside = set(ledger.having("validation"))
    held_out = set(ledger.having("held-out"))
    assert len(aside) == pytest.approx(0.4 * (len(aside) + len(held_out)), abs=3)
    assert not aside & held_out
    known = known_records(load(validated.folder))
    assert set(known.held_out.ids) == held_out
    assert not aside & set(known.trained.ids)
    # The trained side is the one that a run without validation has.
    plain = method("recipes", "finetune-lm", base=str(store.base.folder), **SHORT)
    other = train(plain, store.letters, store.run, source=LETTERS, holdout=0.5)
    assert other.ledger.having("trained") == ledger.having("trained")
    assert other.folder != validated.folder


def test_a_recipe_is_given_the_validation_records(store, tmp_path, monkeypatch):
    seen = []

    def nosy(self, split, run):
        assert isinstance(run, Validated)
        seen.append((split, run.validation))
        raise EngramError("enough")

    recipe = method("recipes", "finetune-lm", base=str(store.base.folder), **SHORT)
    monkeypatch.setattr(type(recipe), "__call__", nosy)
    run, data = replace(store.run, root=tmp_path), store.letters
    trained = np.arange(len(data)) % 2 == 0
    aside = ~trained & (np.arange(len(data)) % 4 == 1)
    for validation in (aside, None):
        with pytest.raises(EngramError, match="enough"):
            train_on(recipe, data, trained, run, source=LETTERS, validation=validation)
    given, looked_at = seen[0]
    assert looked_at.ids == data.where(aside).ids
    assert not set(given.ids) & set(looked_at.ids)
    assert seen[1][1] is None


def test_validation_by_the_command_line(engram, refused, store, tmp_path):
    common = ["train", "finetune-lm", "--data", LETTERS, "--base", store.base.folder]
    common += ["--epochs", 1, "--batch-size", 10, "--holdout", 0.5]
    said = engram(*common, "--validation", 0.25, "--out", tmp_path / "t", "--json")
    assert said.code == 0, said.err
    counts = said.json["records"]
    assert 0 < counts["validation"] < counts["held-out"] < counts["trained"]
    lines = (tmp_path / "t" / "trace.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["step"] == 0
    assert "validation is 1.5" in refused(*common, "--validation", 1.5)
    no_holdout = [*common[:-1], 0]
    assert "0 records are held out" in refused(*no_holdout, "--validation", 0.5)


ADAPTERS = ("adapter", "lora", "prefix", "prompt")


@pytest.fixture(scope="module", params=ADAPTERS)
def adapted(request, store):
    """A target of each kind of adapter, trained through the engine."""
    fields = {"virtual_tokens": 4, "rank": 2, "reduction": 4, "learning_rate": 1e-2, **SHORT}
    tune = method(
        "recipes", "finetune-lm", base=str(store.base.folder), method=request.param, **fields
    )
    return train(tune, store.letters, store.run, source=LETTERS, holdout=0.5)


def test_an_adapter_is_audited_as_any_target(store, adapted):
    """Signals, text, gradients and shadows: what the engine stores is what the model says."""
    target = load(adapted.folder)
    assert target.fingerprint == adapted.fingerprint
    assert not (adapted.folder / "model.safetensors").exists()
    known = known_records(target)
    some = known.trained.with_texts([text[:60] for text in known.trained.texts]).take(range(6))
    signals = store.run.tokens(target, some)
    np.testing.assert_allclose(signals.losses(), FAMILY.losses(target.model, some), rtol=1e-4)
    greedy = store.run.sampler(target, 0.0)
    assert len(greedy.write(["The patient"], 5, np.random.default_rng(0))) == 1
    norms = method("attacks", "gradient-norm")(target.sealed(), some, store.run)
    assert (np.asarray(norms.values) < 0).all()
    recipe = own_recipe(target, "")
    assert recipe.method == target.model.adapter.kind


def test_shadows_of_an_adapter_are_adapters(store):
    fields = {"method": "lora", "rank": 2, "learning_rate": 1e-2, **SHORT}
    tune = method("recipes", "finetune-lm", base=str(store.base.folder), **fields)
    target = train(tune, store.letters, store.run, source=LETTERS, holdout=0.5)
    found = store.run.shadows(target, store.letters, 2)
    assert [shadow.model.adapter.kind for shadow in found.targets] == ["lora", "lora"]


def test_an_adapter_by_the_command_line_and_its_audit(engram, store, tmp_path):
    said = engram(
        "train", "finetune-lm", "--data", LETTERS, "--base", store.base.folder, "--method", "lora",
        "--target-modules", "c_attn", "c_fc", "--rank", 2, "--epochs", 1, "--holdout", 0.5,
        "--out", tmp_path / "t", "--json",
    )  # fmt: skip
    assert said.code == 0, said.err
    config = json.loads((tmp_path / "t" / "adapter_config.json").read_text())
    assert sorted(config["target_modules"]) == ["c_attn", "c_fc"]
    said = engram("audit", tmp_path / "t", "--attacks", "loss,reference", "--out", tmp_path / "a")
    assert said.code == 0, said.err


def test_what_cannot_be_tuned_is_refused(refused, engram, store, tmp_path):
    common = ["train", "finetune-lm", "--data", LETTERS, "--base", store.base.folder]
    said = refused(*common, "--method", "lora", "--target-modules", "q_proj")
    assert "no module 'q_proj' to adapt; it has c_attn, c_fc, c_proj" in said
    assert "batch_size is 500, but split 'trained' has 158 records (or pieces" in refused(
        *common, "--batch-size", 500
    )
    said = refused(*common, "--response-template", "Answer: ")
    assert "45 of 45 records have no 'Answer: ' before their response (the first: record" in said
    assert "no column 'prompt'" in refused(*common, "--response-only")
    assert "invalid choice" in refused(*common, "--method", "lorra")


def test_the_adapter_of_another_base_by_the_command_line(refused, store, adapted, tmp_path):
    folder = store.root / "copy"
    if not folder.exists():
        shutil.copytree(adapted.folder, folder)
        shutil.copytree(store.target.folder, folder / "base")
    assert "holds an adapter of another base" in refused("audit", folder)


def test_a_diverged_training_by_the_command_line(engram, store, tmp_path, monkeypatch):
    """Weights are spoilt after four steps: step and records are named, good weights are kept."""
    monkeypatch.setattr(training, "PAUSE", 0.0)
    monkeypatch.setattr(training, "SHARE", math.inf)
    plain = training.learning_rate
    monkeypatch.setattr(training, "learning_rate", lambda p, n: 1e37 if n == 4 else plain(p, n))
    common = ["train", "finetune-lm", "--data", LETTERS, "--epochs", 1, "--clip", 0]
    said = engram(*common, "--base", store.base.folder, "--out", tmp_path / "t")
    assert said.code == 2
    error, hint = said.err.splitlines()[-2:]
    assert error.startswith("error: training diverged: at step 6 of 20 the loss is nan")
    assert re.search(r"its batch holds \d records \(\w+", error)
    kept = re.search(r"the weights after 4 steps are a model in (\S+), from which", hint)[1]
    monkeypatch.setattr(training, "learning_rate", plain)
    said = engram(*common, "--base", kept, "--learning-rate", "1e-5", "--out", tmp_path / "u")
    assert said.code == 0, said.err
