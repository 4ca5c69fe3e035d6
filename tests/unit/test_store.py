"""Records are written whole or not at all, and the index can always be made again."""

import errno
import json

import pytest

from engram import store
from engram.core import EngramError
from engram.store import index


def record(number: str, **more: object) -> dict[str, object]:
    return {
        "id": number,
        "kind": "audit",
        "created": "2026-01-01T00:00:00Z",
        "target": {"name": "t", "fingerprint": "f"},
        "verdict": {"sentence": "fine"},
        "index": [{"method": "loss", "name": "AUC", "value": 0.5, "low": 0.4, "high": 0.6, "n": 9}],
        **more,
    }


def test_same_inputs_same_id():
    assert store.run_id("m", a=1, b=2) == store.run_id("m", b=2, a=1)
    assert store.run_id("m", a=1) != store.run_id("m", a=2)
    with pytest.raises(TypeError):
        store.run_id("m", a=object())


def test_a_record_is_written_in_one_step(tmp_path):
    store.save_record(tmp_path / "r", record("r"))
    assert store.load_record(tmp_path / "r")["id"] == "r"
    assert [p.name for p in (tmp_path / "r").iterdir()] == ["run.json"]


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path):
    store.save_record(tmp_path, record("old"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.save_record(tmp_path, record("new", bad=float("nan")))
    assert store.load_record(tmp_path)["id"] == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_an_unfinished_run_is_an_error(tmp_path):
    with pytest.raises(EngramError, match="not a finished run"):
        store.load_record(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "\xff", "[" * 100_000])
def test_a_damaged_record_is_an_error(tmp_path, text):
    (tmp_path / "run.json").write_text(text, encoding="latin-1")
    with pytest.raises(EngramError):
        store.load_record(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_clear_error(tmp_path, number):
    with (
        pytest.raises(EngramError, match="the disk is full") as caught,
        store.disk_errors(tmp_path),
    ):
        raise OSError(number, "no")
    assert "--out" in caught.value.hint


def test_a_full_disk_is_seen_through_other_libraries(tmp_path):
    with pytest.raises(EngramError, match="the disk is full"), store.disk_errors(tmp_path):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    with pytest.raises(RuntimeError, match="else"), store.disk_errors(tmp_path):
        raise RuntimeError("something else")


def test_the_index_is_made_again_from_the_folders(tmp_path):
    for number in ("a", "b"):
        store.save_record(tmp_path / number, record(number))
        store.add(tmp_path, tmp_path / number)
    before = store.rows(tmp_path)
    (tmp_path / index.FILE).unlink()
    assert store.rows(tmp_path) == before
    assert store.reindex(tmp_path) == 2


def test_a_damaged_folder_does_not_stop_the_others(tmp_path):
    store.save_record(tmp_path / "good", record("good"))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "run.json").write_text(json.dumps(record("hidden")))
    assert store.reindex(tmp_path) == 1


def test_a_folder_elsewhere_is_indexed_and_found_again(tmp_path):
    """With --out a target lies where one works, not in the store."""
    root = tmp_path / "project" / "runs"
    beside, far = tmp_path / "project" / "tuned", tmp_path / "far" / "tuned"
    for folder, name in ((beside, "a"), (far, "b"), (beside, "a")):
        store.save_record(folder, record(name))
        store.add(root, folder)
    known = store.rows(root)
    assert {row.folder for row in known} == {str(beside), str(far)}
    (root / index.FILE).unlink()
    assert store.rows(root) == known
    (tmp_path / "project").rename(tmp_path / "moved")  # what lies beside it moves along
    root = tmp_path / "moved" / "runs"
    assert store.reindex(root) == 2
    assert str(tmp_path / "moved" / "tuned") in {row.folder for row in store.rows(root)}


def test_what_is_written_of_folders_elsewhere_is_not_trusted(tmp_path):
    root = tmp_path / "runs"
    store.save_record(root / "own", record("own"))
    store.save_record(tmp_path / "there", record("there"))
    lines = ('"own"', '"../there"', '"/dev/null"', '"a\\u0000b"', "[1]", "{", "[" * 9000, '"/"')
    (root / "elsewhere.jsonl").write_text("\n".join(lines))
    assert store.reindex(root) == 2


def test_a_store_that_cannot_be_written_takes_nothing_from_a_target_elsewhere(tmp_path):
    store.save_record(tmp_path / "there", record("there"))
    (tmp_path / "file").write_text("")
    store.add(tmp_path / "file" / "runs", tmp_path / "there")
    assert not (tmp_path / "file" / "runs").exists()


def test_links_out_of_a_store_or_around_in_it_are_not_followed(tmp_path):
    root = tmp_path / "runs"
    store.save_record(root / "own", record("own"))
    store.save_record(tmp_path / "there", record("there"))
    (root / "out").symlink_to(tmp_path / "there")
    (root / "round").symlink_to(root)
    (root / "gone").symlink_to(tmp_path / "nowhere")
    assert store.reindex(root) == 1
    assert [row.id for row in store.rows(root)] == ["own"]


def test_a_damaged_index_says_how_to_mend_it(tmp_path):
    (tmp_path / index.FILE).write_text("this is not a database, whatever its name says" * 50)
    with pytest.raises(EngramError, match="cannot be opened") as caught:
        store.rows(tmp_path)
    assert "reindex" in caught.value.hint
    store.save_record(tmp_path / "a", record("a"))
    assert store.reindex(tmp_path) == 1


def test_a_reader_does_not_wait_for_a_suspended_writer_for_ever(tmp_path, monkeypatch):
    from engram.store import tables

    store.save_record(tmp_path / "a", record("a"))
    store.reindex(tmp_path)
    monkeypatch.setattr(tables, "WAIT", 0.05)
    with (
        tables.alone(tmp_path),
        pytest.raises(EngramError, match="held by another process"),
        tables.opened_to_read(tmp_path / index.FILE),
    ):
        pass
    assert [row.id for row in store.rows(tmp_path)] == ["a"]
