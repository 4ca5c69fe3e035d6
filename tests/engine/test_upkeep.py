"""What a store takes, and what of it can go: never a result, never what somebody is at."""

import fcntl
import json
import shutil

import pytest

from engram import __version__
from engram.core import EngramError
from engram.store import reindex
from engram.store.upkeep import (
    CACHED,
    GIVEN_UP,
    dispensable,
    prune,
    shares,
    size_of,
    unreadable,
)


@pytest.fixture
def kept(tmp_path):
    root = tmp_path / "runs"
    for name, record in (("audit-1", "run.json"), ("tuned-1", "target.json")):
        (root / name).mkdir(parents=True)
        (root / name / record).write_text("{}")
        (root / name / "model.safetensors").write_bytes(b"w" * 100)
    (root / "signals").mkdir()
    (root / "signals" / "losses-1.npy").write_bytes(b"s" * 50)
    given_up = root / "tuned-2" / ".work-tuned-2"
    given_up.mkdir(parents=True)
    (given_up / "checkpoint.safetensors").write_bytes(b"c" * 70)
    (given_up / "lock").write_text("")
    (root / "deletions.jsonl").write_text("entry\n")
    return root


def test_shares_add_up(kept):
    found = {share.what: share for share in shares(kept)}
    assert found["targets"].count == 1
    assert found["targets"].size == 102
    assert found["cached answers"].size == 50
    assert sum(share.size for share in found.values()) == size_of(kept)


def test_only_what_was_given_up_can_go(kept):
    found = dispensable(kept)
    assert [(t.path.name, t.why, t.size) for t in found] == [("tuned-2", GIVEN_UP, 70)]


def test_what_a_process_is_at_stays(kept):
    with (kept / "tuned-2" / ".work-tuned-2" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert dispensable(kept) == []
    assert len(dispensable(kept)) == 1


def test_a_finished_folder_loses_its_leftovers_alone(kept):
    left = kept / "tuned-1" / ".incoming"
    left.mkdir()
    (left / "x").write_bytes(b"x")
    assert left in [t.path for t in dispensable(kept)]
    prune(kept, dispensable(kept))
    assert (kept / "tuned-1" / "target.json").is_file()
    assert not left.exists()


def test_folders_of_others_that_are_called_alike_are_left_alone(kept):
    for name in ("mail/.incoming", "project/.work-mine"):
        (kept / name).mkdir(parents=True)
        (kept / name / "letter").write_text("dear")
        (kept / name).with_name("letter").write_text("dear")
    assert [t.path.name for t in dispensable(kept)] == ["tuned-2"]


def test_answers_that_are_being_asked_for_stay(kept):
    asked = kept / "signals" / "tokens-1"
    asked.mkdir()
    with (asked / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert asked not in [t.path for t in dispensable(kept, cached=True)]
    assert asked in [t.path for t in dispensable(kept, cached=True)]


def test_what_cannot_be_deleted_is_not_told_to_be(kept, engram, monkeypatch):
    def refuses(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("engram.store.upkeep.shutil.rmtree", refuses)
    said = engram("prune", "--store", kept, "--delete")
    assert said.code == 2
    assert "deleted" not in said.out
    assert "Permission denied" in said.err


def test_results_survive_everything(kept):
    found = dispensable(kept, cached=True)
    assert {t.why for t in found} == {GIVEN_UP, CACHED}
    assert prune(kept, found) == 120
    assert sorted(p.name for p in kept.iterdir()) == [
        "audit-1", "deletions.jsonl", "signals", "tuned-1",
    ]  # fmt: skip
    assert dispensable(kept, cached=True) == []


def test_links_are_not_followed(kept, tmp_path):
    outside = tmp_path / "mine"
    outside.mkdir()
    (outside / "letter").write_text("dear")
    (kept / "linked").symlink_to(outside)
    (kept / "signals" / "linked.npy").symlink_to(outside / "letter")
    prune(kept, dispensable(kept, cached=True))
    assert (outside / "letter").read_text() == "dear"
    assert (kept / "linked").is_symlink()


def test_what_is_no_store_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(EngramError, match="does not look like a store"):
        dispensable(tmp_path)
    with pytest.raises(EngramError, match="no store at"):
        dispensable(tmp_path / "nowhere")


def test_the_command_is_a_dry_run_until_told_otherwise(kept, engram):
    said = engram("prune", "--store", kept)
    assert said.code == 0
    assert "can go" in said.out
    assert (kept / "tuned-2").exists()
    said = engram("prune", "--store", kept, "--delete", "--json")
    assert json.loads(said.out)["deleted"] is True
    assert not (kept / "tuned-2").exists()


def test_doctor_tells_what_there_is(kept, engram):
    said = engram("doctor", "--store", kept, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["packages"][""]["torch"]
    assert {"peft", "graph", "vision"} <= set(found["packages"])
    assert "dev" not in found["packages"]
    assert found["store"]["size"] == size_of(kept)
    text = engram("doctor", "--store", kept).out
    assert "device: " in text
    assert "targets: 1, 102 bytes" in text


def test_what_cannot_be_read_is_told_with_its_reason(kept, engram):
    (kept / "audit-2").mkdir()
    (kept / "audit-2" / "run.json").write_text('{"half')
    (kept / "tuned-3").mkdir()
    (kept / "tuned-3" / "target.json").write_text('{"engram": "99.0", "id": "tuned-3"}')
    told = {path.name: why for path, why in unreadable(kept)}
    assert told["audit-2"].startswith("run.json is not valid JSON")
    assert told["tuned-3"] == f"target.json is of Engram 99.0, this is {__version__}"
    assert set(told) == {"audit-1", "audit-2", "tuned-1", "tuned-3"}
    assert "99.0" in engram("doctor", "--store", kept).out
    said = engram("reindex", "--store", kept)
    assert said.out.startswith("0 finished runs")
    assert "left out: " in said.out


def test_a_finished_run_that_was_copied_in_is_told_too(kept, store):
    reindex(kept)
    shutil.copytree(store.target.folder, kept / "from-elsewhere")
    told = {path.name: why for path, why in unreadable(kept)}
    assert "not in the index" in told["from-elsewhere"]
    reindex(kept)
    assert "from-elsewhere" not in {path.name for path, _ in unreadable(kept)}
    (kept / "index.sqlite").write_bytes(b"not a database")
    assert "engram reindex" in unreadable(kept)[0][1]


def test_names_cannot_steer_a_terminal(kept, engram):
    name = "tuned\x1b[2J\nred\u202egnp.exe"
    (kept / name / ".work-1").mkdir(parents=True)
    (kept / name / ".work-1" / "lock").write_text("")
    (kept / f"x{name}").mkdir()
    (kept / f"x{name}" / "run.json").write_text("{}")
    for said in (engram("prune", "--store", kept), engram("doctor", "--store", kept),
                 engram("reindex", "--store", kept), engram("audit", kept / name)):  # fmt: skip
        assert not {"\x1b", "\u202e"} & set(said.out + said.err)
        assert "\\x1b[2J" in said.out + said.err
    assert f"{kept}/tuned\\x1b[2J\\nred\\u202egnp.exe: work" in engram("prune", "--store", kept).out
    found = json.loads(engram("prune", "--store", kept, "--json").out)
    assert str(kept / name) in [thing["path"] for thing in found["things"]]


def test_a_file_is_no_store(tmp_path, engram):
    (tmp_path / "file").write_text("")
    for command in (["doctor"], ["prune"], ["verify"], ["ls", "runs"]):
        said = engram(*command, "--store", tmp_path / "file")
        assert said.code == 2
        assert "is a file, not a store" in said.err


@pytest.mark.parametrize("command", [["verify"], ["ls", "targets"], ["prune"]])
def test_a_store_that_is_not_there_is_not_called_whole_or_empty(refused, command):
    assert "nowhere" in refused(*command, "--store", "nowhere")
