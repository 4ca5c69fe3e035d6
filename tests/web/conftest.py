"""One small store, made by the engine's own writers, and the application over it."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from web_pages import opened

WINE = "sklearn:wine"


@dataclass(frozen=True)
class Shelf:
    """A store with five targets, four audits, a story and a deletion."""

    root: Path

    def folders(self, start: str) -> list[str]:
        return sorted(p.name for p in self.root.iterdir() if p.name.startswith(start))


def fill(root: Path) -> None:
    from engram import catalog, data
    from engram.engine import EngineRun, audit, forget, known_records, to_forget, train

    def method(kind, name, **fields):
        return catalog.find(kind, name).load()(**fields)

    run = EngineRun(root=root, scratch=root.parent / "scratch")
    wine = data.read(WINE)
    for estimator in ("gaussian-naive-bayes", "decision-tree"):
        recipe = method("recipes", "fit-estimator", estimator=estimator)
        target = train(recipe, wine, run, source=WINE, holdout=0.5)
        known = known_records(target)
        audit(target, known.trained, known.held_out, run, battery="quick", source=WINE)
    recipe = method("recipes", "train-classifier", epochs=2, width=8, layers=1)
    target = train(recipe, wine, run, source=WINE, holdout=0.5)
    known = known_records(target)
    records = to_forget(target, known, ids=tuple(known.trained.ids[:3]))
    redo = method("edits", "retrain")
    forget(target, known, records, redo, run, battery="quick", retrain=False, by="case 7")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store, made once in a session by whichever process needs it first."""
    base = tmp_path_factory.getbasetemp()  # of this process alone, where several share the tests
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "engram-view-store"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "done").exists():
            shutil.rmtree(shared / "runs", ignore_errors=True)
            fill(shared / "runs")
            (shared / "done").touch()
    return shared / "runs"


@pytest.fixture(scope="session")
def shelf(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """A copy that no test changes."""
    root = tmp_path_factory.mktemp("view") / "runs"
    shutil.copytree(made, root)
    return Shelf(root)


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Shelf:
    """A copy that a test may damage."""
    shutil.copytree(made, tmp_path / "runs")
    return Shelf(tmp_path / "runs")


@pytest.fixture(scope="session")
def client(shelf: Shelf) -> Iterator:
    with opened(shelf.root) as found:
        yield found
