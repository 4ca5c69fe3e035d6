"""What a user types and what comes back."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from engram import data


def test_help_version_and_lists(engram):
    assert "engram demo" in engram("--help").out
    assert engram("--version").out.startswith("engram 0.")
    listed = engram("ls").out
    for name in ("min-k", "finetune-lm", "gradient-difference", "extraction", "deduplicate"):
        assert name in listed
    assert "causal-lm" in engram("ls", "families").out
    assert "medical-abstracts" in engram("ls", "data").out


@pytest.mark.parametrize("command", ["train", "audit", "forget", "check", "edit", "measure"])
def test_every_command_has_help(engram, command):
    said = engram(command, "--help")
    assert said.code == 0
    assert command in said.out


def test_help_of_a_command_is_found_by_either_name(engram):
    assert engram("help", "ls").out == engram("ls", "--help").out


def test_a_value_of_the_wrong_kind_is_told_without_the_help_text(refused):
    assert "error: --seed: invalid literal for int() with base" in refused("doctor", "--seed", "x")


def test_options_of_ls_stand_with_and_without_an_equals_sign(engram, store):
    first, second = (engram("ls", "runs", *args) for args in (
        (f"--store={store.root}",), ("--store", store.root)))  # fmt: skip
    assert first.code == 0
    assert first.out == second.out


def test_help_of_a_method_shows_its_fields(engram):
    said = engram("train", "finetune-lm", "--help")
    assert said.code == 0
    assert "--epochs" in said.out
    assert "--holdout" in said.out


def test_explain_shows_idea_formula_fields_and_paper(engram):
    page = engram("explain", "min-k").out
    assert "score(x) =" in page
    assert "fraction: float = 0.2" in page
    assert "arxiv.org" in page
    assert engram("explain", "min-k", "--json").json["kind"] == "attacks"


def test_an_audit_says_its_verdict_and_where_the_report_is(engram, store):
    said = engram("audit", store.target.folder, "--battery", "quick")
    assert said.code == 0, said.err
    assert "AUC by owner" in said.out
    assert "min-k-plus-plus  0." in said.out
    assert "report.html" in said.out
    document = engram("audit", store.target.folder, "--battery", "quick", "--json").json
    assert {"engram", "target", "findings", "records", "warnings"} <= set(document)
    keys = {"method", "name", "value", "low", "high", "n", "unit", "split"}
    assert all(keys <= set(finding) for finding in document["findings"])


def test_json_is_one_document_and_nothing_else(engram, store):
    for args in (
        ("ls", "--json"),
        ("measure", "perplexity", store.target.folder, "--json"),
        ("reindex", "--json"),
        ("ls", "runs", "--json"),
    ):
        assert isinstance(engram(*args).json, dict)
    said = engram("audit", "nowhere", "--json")
    assert said.code == 2
    assert "error" in said.json


def test_somebody_elses_model_with_members_and_outsiders(engram, store, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(store.target.folder, folder)
    for name in ("target.json", "ledger.parquet", "trace.jsonl"):
        (folder / name).unlink()
    for part, seed in (("members", 1), ("outsiders", 2)):
        lines = [json.dumps({"text": f"{part} letter number {i} of {seed}"}) for i in range(6)]
        (tmp_path / f"{part}.jsonl").write_text("\n".join(lines))
    said = engram("audit", folder, "--members", "members.jsonl", "--outsiders", "outsiders.jsonl")
    assert said.code == 0, said.err
    assert "engram audit" not in said.out


@pytest.fixture
def published(engram, store, tmp_path):
    """A model folder without a target's file, its base in a folder called `base`, and records."""
    shutil.copytree(store.target.folder, "model", ignore=shutil.ignore_patterns("target.json"))
    shutil.copytree(store.base.folder, "base")
    for part in ("members", "outsiders"):
        lines = [json.dumps({"text": f"{part} letter number {i} of many"}) for i in range(6)]
        (tmp_path / f"{part}.jsonl").write_text("\n".join(lines))
    return ("audit", "model", "--members", "members.jsonl", "--outsiders", "outsiders.jsonl")


def test_a_reference_is_a_folder_even_where_it_is_called_base(engram, published):
    said = engram(*published, "--reference", "base")
    assert said.code == 0, said.err
    assert "\nreference " in said.out


def test_what_is_left_out_is_told(engram, published):
    said = engram(*published)
    assert "not measured: reference: the target does not say" in said.out


def test_a_reference_that_is_named_and_cannot_be_used_is_refused(refused, published):
    shutil.rmtree("base")
    assert "attack reference cannot be run" in refused(*published, "--reference", "base")


def test_a_measure_tells_what_its_number_means(engram):
    engram("train", "train-classifier", "--data", "sklearn:iris", "--epochs", 1, "--out", "flowers")
    said = engram("measure", "backdoor-scan", "flowers", "--steps", 1)
    assert "(n=4): of 4 that could be tried" in said.out.splitlines()[0]
    kept = engram("measure", "accuracy", "flowers", "--out", "kept")
    assert kept.out.splitlines()[-1] == f"report: {Path('kept') / 'report.html'}"
    again = engram("measure", "accuracy", "flowers", "--out", "kept", "--json").json
    found = json.loads(Path("kept/report.json").read_text())["findings"]
    assert [one["value"] for one in found] == [one["value"] for one in again["findings"]]
    assert "accuracy" in Path("kept/report.html").read_text()
    other = engram("measure", "perplexity", "flowers", "--out", "else")
    assert other.code == 2
    assert not Path("else").exists()


def test_bare_scores(engram, tmp_path):
    rng = np.random.default_rng(0)
    rows = ["id,member,target_nll,reference_nll"]
    for i in range(400):
        hard, member = rng.normal(3, 1), i % 2
        nll = hard - 0.3 * member + rng.normal(0, 0.1)
        rows.append(f"r{i},{member},{nll},{hard}")
    (tmp_path / "scores.csv").write_text("\n".join(rows))
    said = engram("audit", "--scores", "scores.csv", "--json")
    found = {(f["method"], f["name"]): f["value"] for f in said.json["findings"]}
    assert found["ratio", "AUC"] > 0.95 > 0.7 > found["loss", "AUC"]
    assert any("could not be audited" in w for w in said.json["warnings"])


@pytest.mark.parametrize(
    ("outsiders", "expected"),
    [
        ("out", {("loss", "AUC"): 0.6606, ("ratio", "AUC"): 0.9280,
                 ("ratio", "TPR@1%FPR"): 0.6045, ("ratio", "TPR@0.1%FPR"): 0.3721}),
        ("i2b2", {("loss", "AUC"): 0.8126, ("ratio", "AUC"): 0.9040,
                  ("loss", "TPR@1%FPR"): 0.0626, ("ratio", "TPR@1%FPR"): 0.3122}),
    ],
)  # fmt: skip
def test_published_losses_give_the_published_numbers(engram, data, tmp_path, outsiders, expected):
    """Members against outsiders, from a file with one loss a model, to 1e-3."""
    folder = data / "mlm_clinicalbert_losses"
    rows = ["id,member,target_nll,reference_nll"]
    for side, member in (("members", 1), (outsiders, 0)):
        pair = [
            (folder / f"loss_{side}_long_{model}.txt").read_text().split()
            for model in ("clinicalbert", "pubmed")
        ]
        rows += [f"{side}{i},{member},{a},{b}" for i, (a, b) in enumerate(zip(*pair, strict=True))]
    (tmp_path / "losses.csv").write_text("\n".join(rows))
    said = engram("audit", "--scores", "losses.csv", "--json")
    found = {(f["method"], f["name"], f["split"]): f["value"] for f in said.json["findings"]}
    for (method, name), value in expected.items():
        assert abs(found[method, name, "records"] - value) < 1e-3
    assert any("could not be audited" in warning for warning in said.json["warnings"])


def test_configuration_in_and_out(engram, store, tmp_path):
    printed = engram("audit", store.target.folder, "--battery", "quick", "--print-config").out
    settings = tomllib.loads(printed)
    assert settings["battery"] == "quick"
    (tmp_path / "c.toml").write_text("battery = 'quick'\nattacks = ['loss', 'zlib']\nseed = 3\n")
    again = tomllib.loads(
        engram("audit", store.target.folder, "--config", "c.toml", "--seed", "4",
               "--print-config").out
    )  # fmt: skip
    assert again["attacks"] == "loss,zlib"
    assert again["seed"] == 4


def test_a_policy_decides_the_exit_code(engram, store, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text('[[limit]]\nmethod = "loss"\nname = "AUC"\nsplit = "records"\nmax = 1.0\n')
    args = ("check", store.target.folder, "--battery", "quick", "--policy", policy)
    said = engram(*args)
    assert said.code == 0, said.out + said.err
    policy.write_text('[[limit]]\nmethod = "loss"\nname = "AUC"\nsplit = "records"\nmax = 0.01\n')
    said = engram(*args)
    assert said.code == 1
    assert "OVER" in said.out
    policy.write_text('[[limit]]\nname = "AUCC"\nmax = 1.0\n')
    said = engram(*args)
    assert said.code == 1, "a limit that matches nothing must not pass"


def test_transforms_write_files(engram, tmp_path):
    said = engram("transform", "clinic-letters", "--count", "30", "--out", "letters.jsonl")
    assert said.code == 0, said.err
    assert len((tmp_path / "letters.jsonl").read_text().splitlines()) == 30
    said = engram(
        "transform", "partition", "--data", "letters.jsonl", "--part", "members", "--out", "m.csv"
    )
    assert said.code == 0, said.err
    assert engram("transform", "partition", "--data", "letters.jsonl", "--out", "m.csv").code == 2


def test_a_report_can_be_written_again(engram, store):
    folder = engram("audit", store.target.folder, "--battery", "quick", "--json").json["run"]
    said = engram("report", folder, "--out", "again")
    assert said.code == 0, said.err
    assert "again/report.html" in said.out


def test_the_reader_may_leave_early():
    """`engram ls | head -1` is no mistake."""
    code = f"{sys.executable} -m engram ls | head -n 1"
    done = subprocess.run(code, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("transforms")
    assert "error" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_transform_of_pictures_draws_what_it_did(engram, tmp_path):
    asked = ("transform", "random-noise", "--data", "sklearn:digits", "--limit", 20)
    said = engram(*asked, "--out", "safe.parquet", "--json")
    assert said.code == 0, said.err
    assert said.json["pictures"] == "safe.svg"
    assert "20 of 20 pictures were changed" in (tmp_path / "safe.svg").read_text("utf-8")
    (tmp_path / "mine.svg").write_text("mine")
    assert engram(*asked, "--out", "mine.parquet", "--json").json["pictures"] is None
    assert (tmp_path / "mine.svg").read_text() == "mine", "what was there stays"
    engram(*asked, "--out", "plain.parquet", "--no-draw")
    assert not (tmp_path / "plain.svg").exists()
    wine = ("transform", "random-noise", "--data", "sklearn:wine", "--pixels", 0, 2000)
    assert engram(*wine, "--out", "wine.parquet", "--json").json["pictures"] is None


def test_from_a_folder_of_pictures_to_an_audit_and_back_to_a_folder(engram, refused, tmp_path):
    pytest.importorskip("PIL", reason="Pillow (extra vision) is not installed")
    from PIL import Image

    rng = np.random.default_rng(0)
    for row in range(40):
        name = tmp_path / "pictures" / ("cat", "dog")[row % 2] / f"{row}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        shade = rng.integers(0, 200, (6, 6), np.uint8) + np.uint8(55 * (row % 2))
        Image.fromarray(shade).save(name)
    asked = ("--data", "pictures?size=5", "--holdout", 0.5, "--epochs", 1, "--out", "mine")
    assert engram("train", "train-classifier", *asked).code == 0
    said = engram("audit", "mine", "--attacks", "loss", "--json").json
    assert "AUC" in {finding["name"] for finding in said["findings"]}

    noise = ("transform", "random-noise", "--data", "pictures", "--epsilon", 3 / 255)
    said = engram(*noise, "--out", "noisy/", "--json")
    assert said.code == 0, said.err
    assert "towards the originals" in said.json["facts"]["rounding to 8 bits"]
    assert (tmp_path / "noisy.svg").exists()
    assert "no folder is written over" in refused(*noise, "--out", "noisy/", "--force")
    sides = ("--members", "noisy", "--outsiders", "pictures?limit=3")
    assert "has no option 'limit'" in refused("audit", "mine", *sides)
    (tmp_path / "few").mkdir()
    (tmp_path / "pictures" / "dog").rename(tmp_path / "few" / "dog")
    sides = ("accuracy", "mine", "--members", "noisy?size=5", "--outsiders")
    assert "2 classes and outsiders 1, and not the same" in refused("measure", *sides, "few?size=5")
    assert engram("measure", *sides, "few?size=5&classes=cat,dog").code == 0
    (tmp_path / "few" / "dog").rename(tmp_path / "pictures" / "dog")
    half = engram("transform", "partition", "--data", "noisy", "--out", "half/", "--json")
    assert half.json["facts"]["rounding to 8 bits"] == "lost nothing"
    some, all_of_them = data.read("half"), data.read("noisy")
    assert some.digests == all_of_them.select(some.ids).digests
    assert set(all_of_them.ids) == set(data.read("pictures").ids)
    assert "are no pictures" in refused("transform", "deduplicate", "--data", "demo:letters",
                                        "--out", "letters/")  # fmt: skip
