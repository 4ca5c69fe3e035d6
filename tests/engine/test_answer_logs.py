"""`engram forget --logs`: forget quality from exported losses, and every way to get them wrong."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from engram.cli import main
from engram.core import stream
from engram.data.answer_logs import FORGOTTEN, KEPT, OTHERS

FOLDER = Path(os.environ.get("ENGRAM_DATA", "")) / "tofu_eval_logs"


def part(shift, n=40, seed=0):
    rng = stream(seed, "log")
    right = rng.random(n)
    return {
        "avg_gt_loss": {str(i): float(v) for i, v in enumerate(right)},
        "average_perturb_loss": {
            str(i): (v + shift + rng.random(3)).tolist() for i, v in enumerate(right)
        },
        "rougeL_recall": {str(i): float(v) for i, v in enumerate(rng.random(n))},
    }


def write(path, shift, seed=0, **parts):
    whole = {name: part(shift, seed=seed) for name in (FORGOTTEN, KEPT, *OTHERS)} | parts
    path.write_text(json.dumps(whole))
    return str(path)


def run(capsys, *args):
    with pytest.raises(SystemExit) as ended:
        main(["forget", *args])
    return ended.value.code, capsys.readouterr()


def test_equal_models_cannot_be_told_apart(tmp_path, capsys):
    logs = [write(tmp_path / f"{seed}.json", 1.0, seed) for seed in (0, 1)]
    code, said = run(capsys, "--logs", logs[0], "--retrained-logs", logs[1], "--json")
    found = {(f["name"], f["split"]): f for f in json.loads(said.out)["findings"]}
    assert code == 0
    assert found["forget quality", "forgotten"]["value"] > 0.05
    assert 0 < found["model utility", "unlearned"]["value"] < 1


def test_a_model_that_still_knows_is_told_apart(tmp_path, capsys):
    logs = [write(tmp_path / f"{shift}.json", shift) for shift in (3.0, 0.0)]
    _, said = run(capsys, "--logs", logs[0], "--retrained-logs", logs[1], "--json")
    found = json.loads(said.out)["findings"]
    assert found[0]["value"] < 1e-6
    assert found[1]["value"] == 1


def test_a_log_without_the_other_parts_has_no_utility(tmp_path, capsys):
    path = tmp_path / "short.json.gz"
    path.write_bytes(gzip.compress(json.dumps({FORGOTTEN: part(1.0)}).encode()))
    code, said = run(capsys, "--logs", str(path), "--retrained-logs", str(path))
    assert code == 0
    assert "no answers about kept records, real authors, world facts" in said.out


@pytest.mark.skipif(
    not (os.environ.get("ENGRAM_DATA") and FOLDER.is_dir()),
    reason="needs tofu_eval_logs in ENGRAM_DATA",
)
def test_published_logs(capsys):
    names = [
        FOLDER / f"ft_epoch5_lr1e-05_llama2-7b_{m}_wd0.01.json.gz" for m in ("full", "retain90")
    ]
    _, said = run(capsys, "--logs", str(names[0]), "--retrained-logs", str(names[1]), "--json")
    values = [f["value"] for f in json.loads(said.out)["findings"]]
    assert values[0] == pytest.approx(1.834066e-21, rel=1e-6)
    assert values[1:] == pytest.approx([0.396667, 0.622677, 0.613745], abs=1e-6)


ONE = {"0": 1.0, "1": 2.0}
WRONG = {"0": [1.0], "1": [2.0]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is not JSON"),
        ("[1]", "does not hold an object of parts"),
        ("{}", "has no part"),
        ("[" * 100_000, "is not JSON"),
        ({FORGOTTEN: {}}, "there is no avg_gt_loss"),
        ({FORGOTTEN: {"avg_gt_loss": ONE}}, "there is no average_perturb_loss"),
        ({FORGOTTEN: {"avg_gt_loss": ONE, "average_perturb_loss": {"0": [1]}}}, "has 1 questions"),
        ({FORGOTTEN: {"avg_gt_loss": ONE, "average_perturb_loss": ONE}}, "must be a list"),
        (
            {FORGOTTEN: {"avg_gt_loss": ONE, "average_perturb_loss": {"0": [1], "1": [1, 2]}}},
            "some lists are longer",
        ),
        (
            {FORGOTTEN: {"avg_gt_loss": {"0": None, "1": 1}, "average_perturb_loss": WRONG}},
            "some numbers are none|a number is nan",
        ),
        (
            {FORGOTTEN: {"avg_gt_loss": {"0": np.nan, "1": 1}, "average_perturb_loss": WRONG}},
            "a number is nan",
        ),
    ],
)
def test_bad_logs(content, says, tmp_path, capsys):
    import re

    path = tmp_path / "log.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    code, said = run(capsys, "--logs", str(path), "--retrained-logs", str(path))
    assert code == 2
    assert said.err.startswith("error: ")
    assert re.search(says, said.err)
    assert "hint: " in said.err


def test_bad_options(tmp_path, capsys):
    log = write(tmp_path / "log.json", 1.0)
    assert "--retrained-logs is missing" in run(capsys, "--logs", log)[1].err
    assert "--logs is missing" in run(capsys, "--retrained-logs", log)[1].err
    both = ("runs/x", "--logs", log, "--retrained-logs", log)
    assert "both a target and --logs" in run(capsys, *both)[1].err
    nowhere = ("--logs", str(tmp_path / "no"), "--retrained-logs", log)
    assert "there is no log" in run(capsys, *nowhere)[1].err
