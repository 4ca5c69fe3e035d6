"""Fine-tuning through the engine and the command line: roles, adapters on disk, bad input."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests_engine import LETTERS, method

from engram.core import EngramError, Ledger, Validated
from engram.engine import known_records, load, train
from engram.engine.train import train_on

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
