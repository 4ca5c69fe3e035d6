"""Every public surface with bad input: one error, one hint, exit 2, nothing half-written."""

import errno
import json
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest

from engram.core import EngramError

PAIR = '{"text": "a letter about one"}\n{"text": "a letter about two"}\n'


@pytest.fixture
def member_file(tmp_path):
    path = tmp_path / "members.jsonl"
    path.write_text(PAIR)
    return path


def audit_with(refused, store, members, outsiders):
    return refused("audit", store.target.folder, "--members", members, "--outsiders", outsiders)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.jsonl", b"", "empty"),
        ("latin.jsonl", b'{"text": "caf\xe9"}\n', "UTF-8"),
        ("broken.jsonl", b'{"text": "a"}\n{"text": \n', "line 2"),
        ("list.jsonl", b"[1, 2]\n", "line 1"),
        ("number.jsonl", b'{"text": 3}\n', "text"),
        ("null.jsonl", b'{"text": "a"}\n{"text": null}\n', "line 2"),
        ("columns.csv", b"note,author\nhello,me\n", "note, author"),
        ("header.csv", b"text\n", "no records"),
        ("ragged.csv", b"text,owner\na,b\na,b,c\n", "line 3"),
        ("twice.jsonl", b'{"id": "7", "text": "a"}\n{"id": "7", "text": "b"}\n', "'7'"),
        ("bad.parquet", b"PAR1garbage", "bad.parquet"),
        ("model.pkl", b"\x80\x04", "pickle"),
    ],
)
def test_files_that_cannot_be_read(refused, store, tmp_path, member_file, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    assert says in audit_with(refused, store, path, member_file)
    assert says in refused("train", "pretrain-lm", "--data", path, "--out", "made")


def test_an_owner_whose_records_were_held_out(refused, store):
    ledger = store.target.ledger
    trained = {o for o, r in zip(ledger.owners, ledger.roles, strict=True) if r == "trained"}
    other = next(owner for owner in ledger.owners if owner not in trained)
    said = refused("forget", store.target.folder, "--owner", other)
    assert "has no records that this target was trained on" in said
    assert "was held out" in said
    assert any(f"{owner} has some" in said for owner in trained)


def test_a_missing_file(refused, store, member_file):
    assert "nowhere.jsonl" in audit_with(refused, store, "nowhere.jsonl", member_file)


def test_a_column_that_is_not_there(refused, store, tmp_path, member_file):
    other = tmp_path / "o.jsonl"
    other.write_text('{"text": "something else", "note": "x"}\n')
    said = refused(
        "audit", store.target.folder, "--members", member_file, "--outsiders", other,
        "--text-column", "nott",
    )  # fmt: skip
    assert "nott" in said


def test_a_huge_record_is_refused_quickly(refused, store, tmp_path, member_file):
    path = tmp_path / "huge.jsonl"
    path.write_text(json.dumps({"text": "x" * (50 * 2**20)}) + "\n")
    said = audit_with(refused, store, path, member_file)
    assert "line 1" in said
    assert "bytes" in said


def test_members_and_outsiders_that_overlap(refused, store, tmp_path, member_file):
    other = tmp_path / "o.jsonl"
    other.write_text(PAIR + '{"text": "a third"}\n')
    assert "2 records are in both" in audit_with(refused, store, member_file, other)


def test_only_one_side(refused, store, member_file):
    assert "--outsiders is missing" in refused(
        "audit", store.target.folder, "--members", member_file
    )


def test_a_record_longer_than_the_context_can_be_refused(refused, store, tmp_path, member_file):
    other = tmp_path / "o.jsonl"
    other.write_text(json.dumps({"text": "word " * 400}) + "\n")
    said = refused(
        "audit", store.target.folder, "--members", member_file, "--outsiders", other,
        "--long", "refuse", "--attacks", "loss", "--out", "made",
    )  # fmt: skip
    assert "128" in said


def test_records_too_short_to_be_scored(refused, store, tmp_path, member_file):
    other = tmp_path / "o.jsonl"
    other.write_text('{"text": ""}\n')
    said = audit_with(refused, store, member_file, other)
    assert "too-short" in said


@pytest.fixture
def stolen(store, tmp_path):
    """A copy of the base as a plain Hugging Face folder."""
    folder = tmp_path / "model"
    shutil.copytree(store.base.folder, folder)
    for name in ("target.json", "ledger.parquet"):
        (folder / name).unlink()
    return folder


def test_a_model_folder_without_weights(refused, stolen, member_file):
    (stolen / "model.safetensors").unlink()
    assert "no weights" in refused(
        "audit", stolen, "--members", member_file, "--outsiders", member_file
    )


def test_a_model_folder_with_pickle_weights_only(refused, stolen, member_file):
    (stolen / "model.safetensors").rename(stolen / "pytorch_model.bin")
    assert "pickle" in refused(
        "audit", stolen, "--members", member_file, "--outsiders", member_file
    )


def test_a_model_folder_with_code(refused, stolen, member_file):
    config = json.loads((stolen / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_evil.Evil"}
    (stolen / "config.json").write_text(json.dumps(config))
    (stolen / "modeling_evil.py").write_text("raise SystemExit('was run')")
    assert "code" in refused("audit", stolen, "--members", member_file, "--outsiders", member_file)


def test_a_model_folder_with_damaged_weights(refused, stolen, member_file):
    path = stolen / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    refused("audit", stolen, "--members", member_file, "--outsiders", member_file)


def test_a_target_whose_weights_were_changed(refused, store, tmp_path):
    folder = tmp_path / "target"
    shutil.copytree(store.target.folder, folder)
    shutil.copy(store.base.folder / "model.safetensors", folder / "model.safetensors")
    assert "fingerprint" in refused("audit", folder)


def test_a_target_whose_ledger_does_not_match_its_data(refused, store):
    said = refused("audit", store.target.folder, "--data", "demo:letters?n=60&seed=4")
    assert "ledger does not match" in said


@pytest.mark.parametrize("key", ["id", "family", "lineage"])
def test_a_target_with_a_damaged_record(refused, store, tmp_path, key):
    folder = tmp_path / "target"
    shutil.copytree(store.target.folder, folder)
    record = json.loads((folder / "target.json").read_text())
    del record[key]
    (folder / "target.json").write_text(json.dumps(record))
    assert key in refused("audit", folder)


def test_an_unknown_method_suggests_the_nearest(refused, store):
    assert "did you mean min-k?" in refused("audit", store.target.folder, "--attacks", "mink")
    assert "did you mean finetune-lm" in refused("train", "finetune", "--data", "demo:letters")
    assert "did you mean audit?" in refused("audti")


def test_an_unknown_option_suggests_the_nearest(refused, store):
    assert "did you mean --battery?" in refused("audit", store.target.folder, "--batery", "quick")


@pytest.mark.parametrize(
    "args",
    [
        ("--epochs", "many"),
        ("--epochs", "-1"),
        ("--learning-rate", "-1"),
        ("--holdout", "1.5"),
        ("--device", "abacus"),
    ],
)
def test_values_of_the_wrong_kind(refused, store, args):
    refused(
        "train", "finetune-lm", "--base", store.base.folder, "--data", "demo:letters?n=60&seed=3",
        "--out", "made", *args,
    )  # fmt: skip


def test_an_output_folder_that_holds_something_else(refused, store, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("do not touch")
    assert "thesis.txt" in refused(
        "train", "pretrain-lm", "--data", "demo:letters?n=60", "--out", "taken"
    )
    refused("audit", store.target.folder, "--attacks", "loss", "--out", "taken")


SCORES = "id,member,loss\na,1,0.5\nb,0,0.1\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("id,member\na,1\n", "id, member"),
        ("id,member,loss\na,1,nan\nb,0,1\n", "loss"),
        ("id,member,loss\na,1,inf\nb,0,1\n", "loss"),
        ("id,member,loss\na,1,x\nb,0,1\n", "'x'"),
        ("id,member,loss\na,1,1\na,0,2\n", "'a'"),
        ("id,member,loss\na,1,1\nb,1,2\n", "member"),
        ("id,member,loss\na,maybe,1\nb,0,2\n", "maybe"),
    ],
)
def test_scores_that_cannot_be_audited(refused, tmp_path, text, says):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    assert says in refused("audit", "--scores", path)


def test_a_policy_that_cannot_be_read(refused, store, tmp_path):
    policy = tmp_path / "policy.toml"
    for text in ("", "limit = 3", "[[limit]]\nname = 'AUC'", "[[limit]\n", "[[limit]]\nmax = 1"):
        policy.write_text(text)
        refused("check", store.target.folder, "--policy", policy)


def test_a_configuration_with_an_unknown_key(refused, store, tmp_path):
    (tmp_path / "c.toml").write_text("batery = 'quick'\n")
    said = refused("audit", store.target.folder, "--config", "c.toml")
    assert "did you mean battery" in said


def test_forgetting_what_was_never_learnt(refused, store):
    folder = store.target.folder
    assert "'nobody'" in refused("forget", folder, "--owner", "nobody")
    assert "'x'" in refused("forget", folder, "--ids", "x")
    assert "takes one" in refused("forget", folder)


def test_a_run_that_is_not_there(refused):
    refused("report", "nowhere")
    refused("reindex", "--store", "nowhere")
    refused("audit", "nowhere", "--data", "demo:letters")


def test_a_full_disk(refused, store, monkeypatch):
    module = sys.modules["engram.engine.audit"]

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.pq, "write_table", full)
    said = refused_but_folder(refused, store)
    assert "the disk is full" in said


def refused_but_folder(refused, store):
    """The folder itself may stay; a record in it may not."""
    out = store.root / "full"
    try:
        return refused("audit", store.target.folder, "--attacks", "loss", "--out", out)
    finally:
        assert not (out / "run.json").exists()
        shutil.rmtree(out, ignore_errors=True)


def test_a_disk_that_fills_while_training(store, tmp_path):
    """A real limit on the size of files, in a process of its own."""
    code = (
        "import resource, sys; from engram.cli import main\n"
        "import torch\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "main(sys.argv[1:])"
    )
    done = subprocess.run(
        [
            sys.executable, "-c", code, "train", "finetune-lm", "--base", store.base.folder,
            "--data", "demo:letters?n=60&seed=3", "--epochs", "1", "--out", "made",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "error: the disk is full" in done.stderr
    assert "hint:" in done.stderr
    assert not (tmp_path / "made" / "target.json").exists()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20_000


def test_an_attack_that_answers_for_other_records_is_caught(store):
    from engram.core import Scores
    from engram.engine.trial import Trial

    def attack(target, split, run):
        return Scores(split.ids[::-1], np.zeros(len(split)))

    trial = Trial(store.letters.take([0, 1], "members"), store.letters.take([2, 3], "outsiders"))
    with pytest.raises(EngramError, match="did not score the records it was given"):
        trial.run({"bad": attack}, store.target, store.run)
