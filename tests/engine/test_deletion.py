"""A deletion request end to end: nothing forgotten is left, and the ledger and certificate hold."""

import html
import json
import multiprocessing
import re
import shutil

import pytest
from tests_engine import method

from engram.core import EngramError
from engram.core.ledger import pseudonym
from engram.engine import EngineRun, auto_forget, forget, known_records, load, to_forget
from engram.engine.auto_forget import CHANCE, HELD_OUT, KEPT
from engram.engine.deletion import Asked, alone_on, check_unbranched, verify
from engram.report import certificate as page
from engram.store import deletions
from engram.store.tables import FILE


@pytest.fixture(scope="module")
def answered(store, tmp_path_factory):
    """One request, answered with everything on; the store is a copy that knows of no other."""
    root = tmp_path_factory.mktemp("deletion") / "runs"
    shutil.copytree(store.root, root, ignore=shutil.ignore_patterns(deletions.FILE, FILE))
    target = load(root / store.target.folder.name)
    known = known_records(target)
    owner = known.trained.owners[0]
    records = to_forget(target, known, owner=owner)
    run = EngineRun(root=root)
    edit = method("edits", "gradient-difference", steps=3)
    out = root.parent / "forgotten"
    done = forget(
        target, known, records, edit, run, battery="quick", out=out,
        evidence=root.parent / "forgotten-evidence", by="case 17 <b>",
    )  # fmt: skip
    return root, target, known, records, owner, done


def test_nothing_of_the_owner_is_left_in_the_new_folder(answered):
    _, _, _, records, owner, done = answered
    words = [owner, *records.ids, *records.digests]
    for text in records.texts:
        words += [text, *re.findall(r"[^.]{20,}", text)]
    left = [path for path in sorted(done.target.folder.rglob("*")) if path.is_file()]
    assert {path.name for path in left} >= {"target.json", "ledger.parquet", "model.safetensors"}
    assert not any("optimiser" in path.name or "checkpoint" in path.name for path in left)
    for path in left:
        raw = path.read_bytes()
        found = [word for word in words if word.encode() in raw]
        assert not found, f"{path.name} holds {found[:2]}"


def test_the_ledger_of_the_target_keeps_pseudonyms(answered):
    _, _, known, records, owner, done = answered
    ledger = load(done.target.folder).ledger
    assert set(ledger.having("forgotten")) == {pseudonym(i, "id") for i in records.ids}
    assert owner not in ledger.owners
    again = known_records(load(done.target.folder))
    assert set(again.forgotten.ids) == set(records.ids)
    assert len(again.trained) == len(known.trained) - len(records)


def test_an_audit_needs_no_data_that_was_deleted(answered, tmp_path):
    _, _, known, records, _, done = answered
    gone = set(records.ids)
    rest = known.everything.where([i not in gone for i in known.everything.ids], name="rest")
    load(done.target.folder).ledger.check(rest)


def test_the_entry_says_what_was_done(answered):
    root, target, _, records, owner, done = answered
    (entry,) = deletions.entries(root)
    assert entry.hash == done.entry.hash
    facts = entry.facts
    assert (facts["by"], facts["method"]) == ("case 17 <b>", "gradient-difference")
    assert (facts["before"], facts["after"]) == (target.fingerprint, done.target.fingerprint)
    assert len(facts["records"]) == len(records)
    text = (root / deletions.FILE).read_text()
    assert not any(word in text for word in (owner, *records.ids))


def test_what_was_forgotten_before_is_told_with_its_entry(answered):
    root, _, _, records, owner, done = answered
    target = load(done.target.folder)
    left = known_records(target)
    asked = [{"owner": owner}, {"ids": tuple(records.ids[:1])}, {"records": records}]
    for each in asked:
        with pytest.raises(EngramError, match="already forgotten") as caught:
            to_forget(target, left, root=root, **each)
        assert f"entry 1 of the deletion ledger in {root}, {done.entry.facts['time']}" in str(
            caught.value
        )
        assert "engram verify" in caught.value.hint
    other = left.trained.owners[0]
    with pytest.raises(EngramError, match="already forgotten") as caught:
        to_forget(target, left, owner=(other, owner), root=root)
    assert "leave the forgotten ones out" in caught.value.hint
    with pytest.raises(EngramError, match="no entry of the deletion ledger"):
        to_forget(target, left, owner=owner, root=root / "elsewhere")
    with pytest.raises(EngramError, match="has no records"):
        to_forget(target, left, owner="nobody", root=root)


def test_the_same_request_again_adds_nothing(answered):
    root, target, known, records, _, done = answered
    again = forget(
        target, known, records, method("edits", "gradient-difference", steps=3),
        EngineRun(root=root), battery="quick", out=done.target.folder,
        evidence=done.story.folder, by="case 17 <b>",
    )  # fmt: skip
    assert again.entry.hash == done.entry.hash
    assert len(deletions.entries(root)) == 1


def test_the_evidence_asks_more_than_membership(answered):
    done = answered[-1]
    rows = {row["name"]: row["cells"] for row in done.story.document["comparison"]["rows"]}
    wanted = {
        "extraction strength of forgotten records", "forget quality (p-value)",
        "model utility on kept records", "privacy gap to the model that never saw them",
        "loss on kept records most like the forgotten ones", "seconds to make it",
        "gradient steps to make it", "ROUGE-L recall of forgotten records",
    }  # fmt: skip
    assert wanted <= set(rows)
    never = rows["forget quality (p-value)"][-1]
    assert never["value"] == 1
    assert rows["gradient steps to make it"][1]["value"] == 3
    assert rows["seconds to make it"][1]["value"] > 0


def test_the_certificate_is_for_people_and_holds_no_names(answered):
    _, _, _, records, owner, done = answered
    text = done.certificate.read_text()
    found = json.loads((done.certificate.parent / page.JSON).read_text())
    assert "case 17 &lt;b&gt;" in text
    assert "case 17 <b>" not in text
    assert html.escape(page.PROMISES["approximate"]).replace("&#x27;", "&#39;") in text
    for word in (owner, *records.ids, *records.texts):
        assert word not in text
        assert word not in json.dumps(found)
    assert found["entry"]["hash"] == done.entry.hash
    assert len(found["checks"]) >= 6
    assert len(text.encode()) < 200_000
    assert "http-equiv" in text
    assert "<script" not in text


def _leaves(value, path=()):
    if isinstance(value, dict):
        return [leaf for key, each in value.items() for leaf in _leaves(each, (*path, key))]
    if isinstance(value, list):
        return [leaf for place, each in enumerate(value) for leaf in _leaves(each, (*path, place))]
    return [(path, value)]


def test_whatever_is_changed_in_a_certificate_is_noticed(answered):
    root, _, _, _, _, done = answered
    found = json.loads((done.certificate.parent / page.JSON).read_text())
    leaves = _leaves(found)
    assert len(leaves) > 100
    for path, value in leaves:
        changed = json.loads(json.dumps(found))
        inner = changed
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value + 1 if type(value) in (int, float) else f"{value}x"
        with pytest.raises(EngramError) as caught:
            verify(root, changed)
        assert caught.value.hint, path


def test_an_entry_without_the_hash_of_its_certificate_says_what_is_not_checked(answered, tmp_path):
    _, _, _, _, _, done = answered
    found = json.loads((done.certificate.parent / page.JSON).read_text())
    facts = {k: v for k, v in done.entry.facts.items() if k not in ("certificate", "time")}
    entry = deletions.append(tmp_path, facts)
    found["entry"] = {"number": 1, "hash": entry.hash, "previous": entry.previous,
                      "time": entry.facts["time"]}  # fmt: skip
    (says,) = verify(tmp_path, found).says
    assert "not checked" in says
    found["verdict"]["level"] = "removed"
    with pytest.raises(EngramError, match="'verdict' is not what entry 1"):
        verify(tmp_path, found)


def test_a_certificate_does_not_speak_for_another_target(answered):
    root, target, _, _, _, done = answered
    found = json.loads((done.certificate.parent / page.JSON).read_text())
    with pytest.raises(EngramError, match="tells of another target") as caught:
        verify(root, found, target.folder)
    assert "later request" in caught.value.hint


def test_verify_says_what_holds(answered):
    root, _, _, _, _, done = answered
    found = json.loads((done.certificate.parent / page.JSON).read_text())
    seen = verify(root, found, done.target.folder)
    assert seen.entries == 1
    assert len(seen.says) == 3
    with pytest.raises(EngramError, match="'after' is not what entry 1"):
        verify(root, {**found, "after": "x"})
    with pytest.raises(EngramError, match="entry 7 is not in the ledger"):
        verify(root, {**found, "entry": {**found["entry"], "number": 7}})
    with pytest.raises(EngramError, match="names no entry"):
        verify(root, {})


def test_verify_knows_a_target_that_no_request_made(answered):
    root, target, *_ = answered
    with pytest.raises(EngramError, match="no entry of the ledger"):
        verify(root, folder=target.folder)


def test_going_on_from_a_model_that_was_left_behind_is_refused(answered):
    root, target, known, records, _, done = answered
    others = [i for i in known.trained.ids if i not in set(records.ids)]
    asked = Asked.of(known.trained.select(others[:1], name="forget"))
    with pytest.raises(EngramError, match="already made target") as caught:
        check_unbranched(asked, target, root)
    assert str(done.target.folder) in caught.value.hint
    check_unbranched(Asked.of(records), target, root)
    check_unbranched(asked, done.target, root)


def test_a_second_request_at_once_is_told_so(answered):
    root, target, known, records, _, _ = answered
    with (
        alone_on(target, root),
        pytest.raises(EngramError, match="another deletion request is at work"),
    ):
        forget(target, known, records, method("edits", "gradient-difference"), EngineRun(root=root))


@pytest.mark.parametrize("by", ["x" * 300, "two\nlines", "bell\a"])
def test_who_asked_is_one_line(answered, by):
    with pytest.raises(EngramError, match="who asked"):
        Asked.of(answered[3], by)


def write(root, count):
    return [deletions.append(root, {"key": str(i), "records": [f"r{i}"]}) for i in range(count)]


def test_every_changed_byte_is_found_and_its_entry_named(tmp_path):
    write(tmp_path, 3)
    path = tmp_path / deletions.FILE
    whole = path.read_bytes()
    starts = [0, *(i + 1 for i, byte in enumerate(whole) if byte == 10)]
    for place in range(0, len(whole), 7):
        number = sum(start <= place for start in starts[:-1])
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(EngramError, match=f"entry {number} of"):
            deletions.entries(tmp_path)
    path.write_bytes(whole)
    assert len(deletions.entries(tmp_path)) == 3


def test_entries_taken_out_or_swapped_are_found(tmp_path):
    write(tmp_path, 3)
    path = tmp_path / deletions.FILE
    lines = path.read_bytes().splitlines(keepends=True)
    for wrong in (lines[1:], [lines[1], lines[0], lines[2]], [lines[0], lines[2]], lines + lines):
        path.write_bytes(b"".join(wrong))
        with pytest.raises(EngramError, match="entry"):
            deletions.entries(tmp_path)


def test_a_ledger_that_does_not_verify_is_not_added_to(tmp_path):
    write(tmp_path, 1)
    path = tmp_path / deletions.FILE
    path.write_bytes(path.read_bytes().replace(b"r0", b"r9"))
    before = path.read_bytes()
    with pytest.raises(EngramError, match="entry 1"):
        deletions.append(tmp_path, {"key": "new"})
    assert path.read_bytes() == before


def add(root, name):
    for i in range(20):
        deletions.append(root, {"key": f"{name}-{i}"})


def test_writers_at_once_lose_nothing(tmp_path):
    start = multiprocessing.get_context("fork")
    work = [start.Process(target=add, args=(tmp_path, name)) for name in "ab"]
    for process in work:
        process.start()
    for process in work:
        process.join()
    assert [process.exitcode for process in work] == [0, 0]
    keys = {entry.facts["key"] for entry in deletions.entries(tmp_path)}
    assert len(keys) == 40


def test_the_command_line(answered, engram, refused):
    root, _, _, _, _, done = answered
    cert = done.certificate.parent / page.JSON
    said = engram("verify", cert, done.target.folder, "--store", root)
    assert said.code == 0
    assert "is whole: 1 entry" in said.out
    assert "word for word" in said.out
    assert engram("verify", "--store", root, "--json").json["entries"] == 1
    assert "2 files" in refused("verify", cert, cert, "--store", root)
    assert "cannot be read" in refused("verify", "nowhere.json", "--store", root)


def test_the_forgotten_records_are_measured(answered, engram):
    root, _, _, records, _, done = answered
    said = engram("measure", "extraction-strength", done.target.folder, "--store", root, "--json")
    found = {f["split"]: f["n"] for f in said.json["findings"]}
    assert found["forgotten"] == len(records)


LENIENT = "".join(f'[[limit]]\nname = "{name}"\nmin = 0.0\n' for name in (CHANCE, KEPT, HELD_OUT))


def test_auto_takes_the_first_that_passes(answered, engram, tmp_path):
    kept, _, known, _, _, done = answered
    root = shutil.copytree(kept, tmp_path / "copy")
    (tmp_path / "policy.toml").write_text(LENIENT)
    said = engram(
        "forget", done.target.folder, "--owner", known.trained.owners[-1], "--method", "auto",
        "--policy", "policy.toml", "--no-retrain", "--battery", "quick", "--store", root, "--json",
    )  # fmt: skip
    assert said.code == 0, said.err
    tried = said.json["tried"]
    assert [attempt["method"] for attempt in tried] == ["gradient-difference"]
    assert {f["name"] for f in tried[0]["findings"]} == {
        CHANCE, KEPT, HELD_OUT, "behavioural forgetting", "suppression index",
    }  # fmt: skip


def test_auto_falls_back_to_retraining(answered, monkeypatch):
    root, target, known, records, _, _ = answered
    monkeypatch.setattr(auto_forget, "ORDER", ("gradient-difference",))
    method, tried = auto_forget.choose_unlearner(
        target, known, records, EngineRun(root=root), lambda found: ["never good enough"]
    )
    assert type(method).__name__ == "Retrain"
    assert [(a.method, a.failed) for a in tried] == [
        ("gradient-difference", ("never good enough",)), ("retrain", ()),
    ]  # fmt: skip


def test_a_policy_without_auto_is_refused(answered, refused):
    root, target, *_ = answered
    said = refused("forget", target.folder, "--policy", "p.toml", "--store", root)
    assert "--method is not auto" in said


def test_a_model_without_gradients_forgets_by_retraining(engram, refused, tmp_path):
    table = ["kind,size,weight"]
    table += [f"{'ab'[i % 2]},{i % 7 + i % 2},{i * 37 % 11}" for i in range(60)]
    (tmp_path / "table.csv").write_text("\n".join(table) + "\n")
    store = ("--store", tmp_path / "runs")
    made = engram("train", "fit-estimator", "--data", "table.csv", "--label-column", "kind",
                  "--out", "trees", *store)  # fmt: skip
    assert made.code == 0, made.err
    gone = load(tmp_path / "trees").ledger.having("trained")[0]
    asked = ("forget", "trees", "--ids", gone, "--battery", "quick", "--no-retrain", *store)
    said = refused(*asked, "--method", "gradient-difference")
    assert "'trees' is of the family estimator" in said
    assert "retrain" in said
    done = engram(*asked)
    assert done.code == 0, done.err
    (entry,) = deletions.entries(tmp_path / "runs")
    assert entry.facts["method"] == "retrain"
