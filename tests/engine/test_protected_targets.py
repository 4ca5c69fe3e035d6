"""Targets that were pre-trained on protected records: what a request promises, and compared."""

import json

import pytest
from tests_engine import method

from engram import data
from engram.engine import EngineRun, forget, known_records, to_forget, train
from engram.engine.deletion import verify
from engram.engine.forget_compare import compare_unlearners
from engram.engine.prepared import answering, suited
from engram.report import certificate as page

WINE = "sklearn:wine"
FEW = {"epochs": 3, "width": 8, "layers": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return EngineRun(root=tmp_path_factory.mktemp("protected") / "runs")


def test_the_certificate_says_that_something_may_be_left(run):
    recipe = method("recipes", "eupg", **FEW, tune_epochs=1, k=5)
    target = train(recipe, data.read(WINE), run, source=WINE)
    assert answering(target) == "eupg-redo"
    known = known_records(target)
    records = to_forget(target, known, ids=tuple(known.trained.ids[:3]))
    redo = method("edits", "eupg-redo")
    done = forget(target, known, records, redo, run, battery="quick", retrain=False)
    said = json.loads((done.certificate.parent / page.JSON).read_text())
    assert said["promise"]["kind"] == "protection"
    assert "not that nothing is left" in said["promise"]["sentence"]
    assert verify(run.root, said, done.target.folder).entries == 1


@pytest.mark.parametrize(
    ("plain", "fields", "ready"),
    [
        ("train-classifier", FEW, "eupg"),
        ("fit-estimator", {"estimator": "gaussian-naive-bayes"}, "eupg-boosting"),
    ],
)
def test_it_stands_beside_the_plain_ones(run, plain, fields, ready):
    target = train(method("recipes", plain, **fields), data.read(WINE), run, source=WINE)
    known = known_records(target)
    records = to_forget(target, known, ids=tuple(known.trained.ids[:4]))
    done = compare_unlearners(target, known, records, suited(target, [ready]), run)
    promises = {line[0]: line[1] for line in done.lines()[1:]}
    assert promises[ready] == "k = 10"
