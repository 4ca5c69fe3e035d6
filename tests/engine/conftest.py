"""A small store with a base and a fine-tuned target, made once and never changed."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests_engine import LETTERS, method

from engram import data
from engram.cli import main
from engram.core import Split, Target
from engram.engine import EngineRun, train


@dataclass(frozen=True)
class Store:
    root: Path
    run: EngineRun
    base: Target
    target: Target
    letters: Split


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("runs")
    run = EngineRun(root=root)
    letters = data.read(LETTERS)
    tiny = {"vocabulary": 300, "layers": 1, "width": 32, "heads": 2, "context": 128, "epochs": 1}
    base = train(
        method("recipes", "pretrain-lm", **tiny), letters, run, source=LETTERS, holdout=0.5
    )
    tune = method("recipes", "finetune-lm", base=str(base.folder), epochs=2)
    target = train(tune, letters, run, source=LETTERS, holdout=0.5)
    return Store(root, run, base, target, letters)


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        return json.loads(self.out)


@pytest.fixture
def engram(capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch, store):
    """Run the command line in an empty folder: `engram("audit", ...)` -> what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENGRAM_RUNS", str(store.root))

    def call(*args: object) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in args])
        out, err = capsys.readouterr()
        return Said(int(stop.value.code or 0), out, err)

    return call


@pytest.fixture
def refused(engram, tmp_path):
    """The same, for input that must be refused: one error, one hint, exit 2, nothing left."""

    def call(*args: object) -> str:
        before = {p for p in tmp_path.rglob("*")}
        said = engram(*args)
        assert said.code == 2, said
        lines = said.err.strip().splitlines()
        assert [line.split(":")[0].strip() for line in lines] == ["error", "hint"], said.err
        assert not said.out
        assert {p for p in tmp_path.rglob("*")} == before, "something was left behind"
        return said.err

    return call
