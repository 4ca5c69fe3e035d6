"""Targets in shards through the engine: sealed, opened, audited, forgotten from, compared."""

import json
import shutil

import numpy as np
import pytest
from tests_engine import method

from engram import data
from engram.core.ledger import pseudonym
from engram.engine import EngineRun, audit, forget, known_records, load, to_forget, train
from engram.engine.deletion import verify
from engram.engine.tasks import files_of, write_files
from engram.report import certificate as page

WINE = "sklearn:wine"
FEW = {"shards": 3, "slices": 2, "epochs": 2, "width": 8, "layers": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A classifier in shards, in a store of its own."""
    run = EngineRun(root=tmp_path_factory.mktemp("sharded") / "runs")
    target = train(method("recipes", "sisa", **FEW), data.read(WINE), run, source=WINE)
    return run, target


@pytest.fixture(scope="module")
def answered(made):
    """Five of its records forgotten, with everything on."""
    run, target = made
    known = known_records(target)
    records = to_forget(target, known, ids=tuple(known.trained.ids[:5]))
    edit = method("edits", "retrain-shards")
    out = run.root.parent / "forgotten"
    done = forget(target, known, records, edit, run, battery="quick", out=out, by="case 3")
    return target, known, records, done


def test_a_target_with_folders_is_sealed_and_opened(made):
    _, target = made
    there = {path.relative_to(target.folder).as_posix() for path in target.folder.rglob("*")}
    assert {
        "placement.parquet",
        "shards/0/model.safetensors",
        "shards/2/slice-0/config.json",
    } <= there
    assert not any(".work" in name or ".incoming" in name for name in there)
    assert load(target.folder).fingerprint == target.fingerprint
    assert set(target.model.placement.ids) == set(target.ledger.having("trained"))


def test_a_sealing_that_was_killed_is_done_again(made, tmp_path):
    from engram.core import Draft
    from engram.engine.targets import seal

    _, target = made
    shutil.copytree(target.folder / "shards", tmp_path / "t" / "shards")  # left behind
    (tmp_path / "t" / "shards" / "9").mkdir()
    draft = Draft(target.family, target.model)
    again = seal(draft, target.ledger, target.lineage, tmp_path / "t")
    assert load(again.folder).fingerprint == target.fingerprint
    assert not (tmp_path / "t" / "shards" / "9").exists()


def test_its_files_travel_with_their_folders(made, tmp_path):
    _, target = made
    files = files_of(target.folder)
    assert "shards/1/slice-0/model.safetensors" in files
    write_files(files, tmp_path / "there")
    assert load(tmp_path / "there").fingerprint == target.fingerprint
    write_files({"../../outside": b"x", "/etc/outside": b"x"}, tmp_path / "in")
    assert sorted(p.name for p in (tmp_path / "in").rglob("*") if p.is_file()) == ["outside"] * 2


def test_it_forgets_exactly(answered):
    """The answer to a request is the model that the recipe makes of the others."""
    target, _, records, done = answered
    assert target.fingerprint != done.target.fingerprint
    assert done.retrained.fingerprint == done.target.fingerprint
    assert load(done.target.folder).lineage.guarantee["kind"] == "exact"
    assert set(done.target.ledger.having("forgotten")) == {pseudonym(i, "id") for i in records.ids}


def test_nothing_of_the_records_is_left(answered):
    _, _, records, done = answered
    words = [w.encode() for w in (*records.ids, *records.digests)]
    values = [row.tobytes() for row in records.matrix("features")]
    left = [path for path in done.target.folder.rglob("*") if path.is_file()]
    assert {path.name for path in left} >= {"placement.parquet", "ledger.parquet"}
    assert not any("done" in path.name or "stage" in path.name for path in left)
    for path in left:
        raw = path.read_bytes()
        assert not any(word in raw for word in (*words, *values)), path.name


def test_the_certificate_promises_it_and_the_ledger_holds(answered, made):
    run, _ = made
    *_, done = answered
    found = json.loads((done.certificate.parent / page.JSON).read_text())
    assert "exact" in done.certificate.read_text()
    assert verify(run.root, found, done.target.folder).entries == 1


def test_the_story_shows_what_deletions_cost(answered):
    target, _, records, done = answered
    costs = done.story.document["costs"]
    assert costs["asked"] == len(records)
    assert 0 < costs["measured"] <= 1
    assert costs["requests"][-1] == len(target.model.placement) - 1
    assert all(0 < s <= 1 + 1e-9 for curve in costs["curves"] for s in curve["shares"])
    html = (done.story.folder / "report.html").read_text()
    assert "Cost of deletions by number of requests" in html
    assert "What deletions cost" in html


def test_a_further_request_goes_on_from_there(answered, made):
    run, _ = made
    *_, done = answered
    target = load(done.target.folder)
    known = known_records(target)
    more = to_forget(target, known, ids=tuple(known.trained.ids[-2:]))
    edit = method("edits", "retrain-shards")
    again = forget(target, known, more, edit, run, battery="quick", retrain=False)
    assert len(again.target.model.placement) == len(target.model.placement) - 2
    assert len(again.target.ledger.having("forgotten")) == 7


def test_an_audit_measures_the_cost_and_attacks_it(made):
    run, target = made
    known = known_records(target)
    found = audit(target, known.trained, known.held_out, run, battery="quick", source=WINE)
    names = {m["name"] for m in found.document["measures"]}
    assert any(name.startswith("share of retraining that 10 deletions cost") for name in names)
    assert found.document["attacks"]


def test_shadows_of_a_sharded_target_are_sharded(made):
    run, target = made
    known = known_records(target)
    shadows = run.shadows(target, known.trained.take(range(0, 130, 2)), 2)
    assert shadows.targets[0].family == "sharded-classifier"
    assert np.isfinite(run.losses(shadows.targets[0], known.held_out)).all()


def test_the_cheapest_exact_unlearner_is_the_one_that_it_was_made_for(made, store):
    from engram.engine.auto_forget import exact_for

    assert exact_for(made[1]) == "retrain-shards"
    assert exact_for(store.target) == "retrain"
    assert exact_for(store.target.sealed()) == "retrain"
