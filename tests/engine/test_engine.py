"""The engine: ledger, resume, blindness, and finding again what was done before."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from tests_engine import LETTERS, method

from engram import data, engine
from engram import store as keep
from engram.core import EngramError, Scores, Split
from engram.core.ledger import pseudonym
from engram.engine import EngineRun, audit, edit, forget, known_records, load, to_forget, train
from engram.engine.executor import InProcess
from engram.engine.trial import Trial


def test_the_ledger_is_written_by_the_engine(store):
    ledger = store.target.ledger
    assert set(ledger.ids) == set(store.letters.ids)
    assert ledger.roles.count("trained") + ledger.roles.count("held-out") == len(ledger)
    owners = dict(zip(ledger.ids, ledger.owners, strict=True))
    sides = {r: {owners[i] for i in ledger.having(r)} for r in ("trained", "held-out")}
    assert not sides["trained"] & sides["held-out"], "an owner stands on both sides"


def test_a_target_opens_as_it_was_saved(store):
    back = load(store.target.folder)
    assert back.fingerprint == store.target.fingerprint
    assert back.lineage == store.target.lineage
    assert back.lineage.parent == store.base.fingerprint
    assert back.ledger.roles == store.target.ledger.roles


def test_a_language_model_target_is_a_plain_model_folder(store):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(store.target.folder)
    tokenizer = AutoTokenizer.from_pretrained(store.target.folder)
    ids = tokenizer(["a letter"], return_tensors="pt").input_ids
    assert model(ids).logits.shape[-1] == len(tokenizer)


def test_the_same_training_is_found_and_not_repeated(store):
    recipe = method("recipes", "finetune-lm", base=str(store.base.folder), epochs=2)

    def never(*args: object) -> None:
        raise AssertionError("it was trained again")

    run = replace(store.run, watch=never)
    again = train(recipe, store.letters, run, source=LETTERS, holdout=0.5)
    assert again.folder == store.target.folder


def test_another_seed_is_another_target(store, tmp_path):
    recipe = method("recipes", "finetune-lm", base=str(store.base.folder), epochs=1)
    run = replace(store.run, seed=1, root=tmp_path)
    other = train(recipe, store.letters, run, source=LETTERS, holdout=0.5)
    assert other.ledger.roles != store.target.ledger.roles
    assert other.fingerprint != store.target.fingerprint


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from tests_engine import LETTERS, method
from engram import data
from engram.engine import EngineRun, train
from engram.parts import training
training.PAUSE, training.SHARE = 0.0, float("inf")  # save after every step
recipe = method("recipes", "finetune-lm", base={base!r}, epochs=4)
run = EngineRun(root=Path({root!r}), watch=lambda *p: print(*p[:2], flush=True))
print(train(recipe, data.read(LETTERS), run, source=LETTERS, holdout=0.5).fingerprint)
"""


def start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_a_training_killed_in_the_middle_goes_on_and_ends_the_same(store, tmp_path):
    here = os.path.dirname(__file__)
    code = KILLED.format(here=here, base=str(store.base.folder), root=str(tmp_path / "runs"))
    killed = start(code)
    for line in killed.stdout:
        if line.startswith("5 "):
            break
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    folders = list((tmp_path / "runs").glob("finetune-lm-*"))
    assert len(folders) == 1
    assert not (folders[0] / "target.json").exists()
    with pytest.raises(EngramError, match="not finished"):
        load(folders[0])
    resumed = start(code)
    said, _ = resumed.communicate()
    whole = start(code.replace(str(tmp_path / "runs"), str(tmp_path / "whole")))
    expected, _ = whole.communicate()
    assert resumed.returncode == whole.returncode == 0
    assert said.split()[-1] == expected.split()[-1]
    first = int(said.split()[0])
    assert first > 1, "it began again instead of going on"


def test_an_audit_is_found_again(store):
    known = known_records(store.target)
    first = audit(store.target, known.trained, known.held_out, store.run, attacks=("loss",))
    stamp = (first.folder / "run.json").stat().st_mtime_ns
    again = audit(store.target, known.trained, known.held_out, store.run, attacks=("loss",))
    assert again.folder == first.folder
    assert (first.folder / "run.json").stat().st_mtime_ns == stamp
    other = audit(store.target, known.trained, known.held_out, store.run, attacks=("zlib",))
    assert other.folder != first.folder


def test_an_attack_sees_neither_the_ledger_nor_the_order(store):
    seen = {}

    def attack(target, split, run):
        seen["target"], seen["split"] = target, split
        return Scores(split.ids, np.arange(len(split), dtype=float))

    known = known_records(store.target)
    labelled = Trial(known.trained, known.held_out).run({"x": attack}, store.target, store.run)
    with pytest.raises(EngramError, match="no ledger"):
        _ = seen["target"].ledger
    assert seen["split"].name == "records"
    order = [
        known.trained.ids.index(i) if i in known.trained.ids else -1 for i in seen["split"].ids
    ]
    assert order != sorted(order)
    # and yet each score comes back to its own record
    place = {record: row for row, record in enumerate(seen["split"].ids)}
    expected = [place[i] for i in labelled.records.ids]
    np.testing.assert_array_equal(labelled.scores["x"], expected)
    assert labelled.is_member.sum() == len(known.trained)


def test_the_model_is_asked_once_for_a_whole_battery(store, monkeypatch, tmp_path):
    from engram import signals

    asked = []
    real = signals.token_signals

    def counted(lm, split, folder, **more):
        asked.append((more["target"], split.name))
        return real(lm, split, folder, **more)

    monkeypatch.setattr(signals, "token_signals", counted)
    known = known_records(store.target)
    run = EngineRun(root=tmp_path)
    attacks = ("loss", "zlib", "min-k", "min-k-plus-plus", "reference")
    audit(store.target, known.trained, known.held_out, run, attacks=attacks)
    assert sorted(asked) == sorted(
        [(store.target.fingerprint, "records"), (store.base.fingerprint, "records")]
    )


@dataclass(frozen=True)
class Noting(InProcess):
    """Takes note of what it is asked to share out."""

    seen: list = field(default_factory=list)

    def tokens(self, target, split, run):
        self.seen.append((target.fingerprint, len(split), run.folder_of(target)))


@pytest.mark.parametrize(
    ("name", "fields", "models"),
    [
        ("neighbourhood", {"filler": "random", "neighbours": 3}, 1),
        (
            "spv-mia",
            {"paraphraser": "random-tokens", "paraphrases": 3, "prompt_count": 4, "length": 12},
            2,
        ),
    ],
)
def test_paraphrases_of_all_records_are_one_pass_a_model(store, tmp_path, name, fields, models):
    """And the executor is told where each model lies, so that it can share the pass out."""
    run = EngineRun(root=tmp_path, executor=Noting())
    run.remember(store.target)
    letters = store.letters.take(range(6))
    method("attacks", name, **fields)(store.target.sealed(), letters, run)
    passes = [(model, where) for model, count, where in run.executor.seen if count == 18]
    assert len(passes) == len(dict(passes)) == models
    assert all(where for _, where in passes)


def test_a_killed_audit_is_made_again_and_a_lost_report_too(store, tmp_path):
    known = known_records(store.target)
    out = tmp_path / "run"
    out.mkdir()
    (out / "scores.parquet").write_bytes(b"half of a file")
    found = audit(
        store.target, known.trained, known.held_out, store.run, attacks=("loss",), out=out
    )
    assert (out / "run.json").is_file()
    (out / "report.html").unlink()
    audit(store.target, known.trained, known.held_out, store.run, attacks=("loss",), out=out)
    assert (out / "report.html").is_file()
    assert found.document["id"]


def test_settings_reach_an_attack_and_enter_the_id(store):
    known = known_records(store.target)
    sides = (known.trained, known.held_out)
    one = audit(store.target, *sides, store.run, attacks=("min-k",))
    settings = {"min-k": {"fraction": "0.5"}}
    two = audit(store.target, *sides, store.run, attacks=("min-k",), settings=settings)
    assert one.folder != two.folder
    assert two.document["setup"]["settings"]["min-k"] == {"fraction": 0.5}
    with pytest.raises(EngramError, match="no field 'fractoin'"):
        audit(store.target, *sides, store.run, attacks=("min-k",),
              settings={"min-k": {"fractoin": 1}})  # fmt: skip


def test_scores_that_point_the_wrong_way_are_not_called_safe(store, tmp_path):
    from engram.engine import audit_scores

    rng = np.random.default_rng(0)
    is_member = np.arange(200) < 100
    losses = rng.normal(3.0 - is_member, 0.3)
    ids = [f"r{i}" for i in range(200)]
    texts = [f"a plain letter about {rng.integers(10**9)}" for _ in ids]
    run = EngineRun(root=tmp_path)
    found = audit_scores("file", ids, is_member, {"name": losses}, run, texts=texts)
    assert found.document["verdict"]["level"] == "leak"
    assert "the other way" in found.document["verdict"]["sentence"]


def test_two_processes_do_not_train_into_one_folder(store, tmp_path):
    import fcntl

    recipe = method("recipes", "finetune-lm", base=str(store.base.folder), epochs=1)
    run = EngineRun(root=tmp_path)

    def locked(done, total, what):
        work = next(tmp_path.glob("*/.work-*"))
        with (work / "lock").open("w") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    train(recipe, store.letters, replace(run, watch=locked), source=LETTERS, holdout=0.5)


def test_no_leak_is_named_where_there_is_none(store):
    from engram.engine.leak import find_leak

    models = {"fine-tuned": store.target, "never saw them": store.target}
    assert find_leak(models, store.letters.take(range(3))) == {}


def test_deleting_the_index_loses_nothing(store):
    before = keep.rows(store.root)
    (store.root / "index.sqlite").unlink()
    assert set(keep.rows(store.root)) >= set(before)


def test_forgetting_marks_the_ledger_and_leaves_the_target_alone(store, tmp_path):
    known = known_records(store.target)
    owner = known.trained.owners[0]
    records = to_forget(store.target, known, owner=owner)
    before = store.target.fingerprint
    run = replace(store.run, root=tmp_path)
    done = forget(
        store.target, known, records, method("edits", "gradient-difference"), run, battery="quick"
    )
    assert load(store.target.folder).fingerprint == before
    assert set(done.target.ledger.having("forgotten")) == {pseudonym(i, "id") for i in records.ids}
    assert done.target.fingerprint != before
    never = done.retrained.ledger
    assert not set(never.having("trained")) & set(records.ids)
    assert done.retrained.lineage.method == "finetune-lm"
    story = done.story.document
    assert story["kind"] == "story"
    assert [a["title"] for a in story["audits"]] == story["comparison"]["columns"]
    assert (done.story.folder / "report.html").stat().st_size < 2**20
    # an edited target can be audited by its ledger, and forgets more on top
    known = known_records(done.target)
    assert set(known.forgotten.ids) == set(records.ids)
    keep_on = known.trained.take([0])
    rest = known.trained.take(range(1, len(known.trained)))
    twice = edit(method("edits", "gradient-difference"), done.target, rest, keep_on, run)
    assert len(twice.ledger.having("forgotten")) == len(records) + 1
    assert twice.lineage.recipe().method == "finetune-lm"


def test_an_edit_that_forgets_what_it_keeps_is_refused(store):
    known = known_records(store.target)
    with pytest.raises(EngramError, match="are in both"):
        edit(
            method("edits", "gradient-difference"),
            store.target,
            known.trained,
            known.trained.take([0], "forget"),
            store.run,
        )


def test_a_moved_base_is_noticed(store, tmp_path):
    """The reference attack compares with the model that was fine-tuned, or with none."""
    base = tmp_path / "base"
    shutil.copytree(store.base.folder, base)
    recipe = method("recipes", "finetune-lm", base=str(base), epochs=1)
    run = EngineRun(root=tmp_path / "runs")
    target = train(recipe, store.letters, run, source=LETTERS, holdout=0.5)
    shutil.rmtree(base)
    shutil.copytree(store.target.folder, base)
    known = known_records(target)
    fresh = EngineRun(root=tmp_path / "runs")
    found = audit(target, known.trained, known.held_out, fresh)
    assert any("no longer the one" in why for why in found.document["not_measured"])
    assert "reference" not in {a["name"] for a in found.document["attacks"]}


def test_a_target_that_is_found_says_where_its_data_are_now(tmp_path):
    """Where records were read, and how, is no part of a target's id: the last word holds."""
    lines = ["kind,size,weight"]
    lines += [f"{'ab'[i % 2]},{i % 7 + i % 2},{i * 37 % 11}" for i in range(40)]
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    old.write_text("\n".join(lines) + "\n")
    run, how = EngineRun(root=tmp_path / "runs"), {"label_column": "kind"}
    records = data.read(old, **how)
    made = method("recipes", "fit-estimator")

    def trained(source, options=None):
        return train(made, records, run, source=str(source), options=options, holdout=0.5)

    blind = trained("made in a program")
    with pytest.raises(EngramError):
        known_records(blind)
    seeing = trained(old, how)
    assert seeing.fingerprint == blind.fingerprint
    assert seeing.folder == blind.folder
    assert (
        len(known_records(seeing).trained) == len(known_records(load(blind.folder)).trained) == 20
    )
    old.rename(new)
    trained(new, how)
    assert load(blind.folder).lineage.data == str(new)
    for source, options in ((old, how), (new, None), (new, {"label": "kind"})):
        assert trained(source, options).lineage.data_options == how  # these do not lead to them
    assert load(blind.folder).lineage.data == str(new)


def test_a_base_that_was_moved_is_found_where_it_is_now(store, tmp_path):
    run, old, new = EngineRun(root=tmp_path / "runs"), tmp_path / "old", tmp_path / "new"
    shutil.copytree(store.base.folder, old)
    few = store.letters.take(range(8), name="few")
    for base in (old, new):
        shutil.move(old, base) if base != old else None
        tune = method("recipes", "finetune-lm", base=str(base), epochs=1)
        target = train(tune, few, run, source="", holdout=0.5)
    assert load(target.folder).lineage.base == str(new)
    assert load(target.folder).lineage.config["base"] == str(new)


def test_public_names_are_there():
    import engram

    for name in engram.__all__:
        assert getattr(engram, name) is not None
    assert engram.audit is engine.audit


FAMILIES = [
    ("train-classifier", {"epochs": 3}, "sklearn:wine"),
    ("fit-estimator", {}, "sklearn:breast_cancer"),
]


@pytest.mark.parametrize(("recipe", "fields", "source"), FAMILIES)
def test_the_core_is_not_about_text(recipe, fields, source, tmp_path):
    run = EngineRun(root=tmp_path)
    target = train(
        method("recipes", recipe, **fields), data.read(source), run, source=source, holdout=0.5
    )
    known = known_records(load(target.folder))
    found = audit(load(target.folder), known.trained, known.held_out, run)
    names = {a["name"] for a in found.document["attacks"]}
    assert "loss" in names
    assert "min-k" not in names
    assert found.document["split_audit"]["verdict"] != "unknown"
    measured = {f["method"] for f in found.document["measures"]}
    assert {"accuracy", "generalisation-gap"} <= measured
    with pytest.raises(EngramError, match="min-k cannot be run"):
        audit(target, known.trained, known.held_out, run, attacks=("min-k",))


def test_a_target_without_outsiders_says_what_to_do(store):
    known = known_records(store.target)
    nobody = Split.of("held-out", text=np.array([], dtype=str))
    with pytest.raises(EngramError, match="there are no outsiders") as caught:
        audit(store.target, known.trained, nobody, store.run)
    assert "--holdout" in caught.value.hint


def test_time_is_not_part_of_an_id(store):
    known = known_records(store.target)
    first = audit(store.target, known.trained, known.held_out, store.run, attacks=("loss",))
    time.sleep(0.01)
    run = EngineRun(root=store.root)
    assert audit(store.target, known.trained, known.held_out, run, attacks=("loss",)).folder == (
        first.folder
    )
