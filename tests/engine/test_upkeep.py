"""What a store takes, and what of it can go: never a result, never what somebody is at."""

import fcntl
import json

import pytest

from engram.core import EngramError
from engram.store.upkeep import CACHED, GIVEN_UP, dispensable, prune, shares, size_of


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
