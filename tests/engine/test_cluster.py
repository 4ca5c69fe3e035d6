"""Fan-out on Ray: the same results, files that travel, workers that die, bad addresses."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests_engine import LETTERS, method

from engram import data
from engram.core import EngramError, Split
from engram.engine import EngineRun, train
from engram.engine.cluster import OnRay, executor_for
from engram.engine.executor import Fit, InProcess
from engram.engine.tasks import FitTask, Model, Records

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def cluster():
    """A Ray of this module's own, with two workers."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'engram[cluster]'")
    OnRay()._ray()
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(5)
    features = rng.normal(size=(96, 8)).astype(np.float32)
    return Split.of("arrays", features=features, label=(features[:, 0] > 0).astype(np.int64))


def jobs(arrays, count=2, epochs=2):
    recipe = method("recipes", "train-classifier", width=8, epochs=epochs)
    return [Fit(recipe, arrays.take(range(k, 96, 2)), 10 + k) for k in range(count)]


def fingerprints(run, wanted):
    return [replace(run, seed=job.seed).fit(job.recipe, job.split).fingerprint for job in wanted]


@pytest.mark.parametrize("shared", [True, False])
def test_trains_the_same_models_as_this_process(cluster, arrays, tmp_path, shared):
    near = EngineRun(root=tmp_path / "near")
    far = EngineRun(root=tmp_path / "far", executor=OnRay(shared_disk=shared))
    wanted = jobs(arrays)
    assert not any(far.has(job) for job in wanted)
    far.executor.fit(wanted, far)
    assert all(far.has(job) for job in wanted)
    InProcess().fit(wanted, near)
    assert fingerprints(far, wanted) == fingerprints(near, wanted)
    far.executor.fit(wanted, far)  # nothing is left to do


def test_a_base_that_travelled_is_named_by_its_own_path(cluster, store, tmp_path):
    far = EngineRun(root=tmp_path, executor=OnRay(shared_disk=False))
    base = str(store.base.folder)
    job = Fit(
        method("recipes", "finetune-lm", base=base, epochs=1), store.letters.take(range(8)), 4
    )
    far.executor.fit([job], far)
    found = replace(far, seed=4).fit(job.recipe, job.split)
    assert found.lineage.base == base
    assert found.lineage.config["base"] == base


@pytest.mark.parametrize("shared", [True, False])
def test_shards_of_a_large_split_are_put_together(cluster, store, tmp_path, shared):
    letters = data.read(LETTERS.replace("n=60", "n=300"))
    far = EngineRun(root=tmp_path, executor=OnRay(shared_disk=shared))
    far.remember(store.target)
    found = far.tokens(store.target.sealed(), letters)
    plain = EngineRun(root=tmp_path / "plain").tokens(store.target, letters)
    np.testing.assert_array_equal(found.offsets, plain.offsets)
    np.testing.assert_array_equal(found.token, plain.token)
    np.testing.assert_allclose(found.logprob, plain.logprob, atol=1e-4)
    np.testing.assert_array_equal(found.rank, plain.rank)
    kept = [p.name for p in (tmp_path / "signals").iterdir()]
    assert len(kept) == 1, "the parts should be gone"


def worker_pids():
    """Workers of Ray that are at a task of ours now."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                name = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if name.startswith("ray::_call"):
                found.append(int(folder.name))
    return found


def test_a_worker_that_is_killed_costs_only_its_own_piece(cluster, arrays, tmp_path):
    run = EngineRun(root=tmp_path, executor=OnRay())
    wanted = jobs(arrays, count=2, epochs=150)
    killed = []

    def kill_one():
        for _ in range(3000):
            if any(tmp_path.glob("*/.work-*")) and (busy := worker_pids()):
                os.kill(busy[0], signal.SIGKILL)
                killed.append(busy[0])
                return
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one)
    killer.start()
    run.executor.fit(wanted, run)
    killer.join()
    assert killed
    assert all(run.has(job) for job in wanted)
    plain = EngineRun(root=tmp_path / "plain")
    InProcess().fit(wanted, plain)
    assert fingerprints(run, wanted) == fingerprints(plain, wanted)


def test_a_mistake_on_a_worker_is_told_as_one_here(cluster, arrays, tmp_path):
    run = EngineRun(root=tmp_path, executor=OnRay())
    recipe = method("recipes", "train-classifier", architecture="cnn", width=4)
    with pytest.raises(EngramError, match="make no square image") as told:
        run.executor.fit([Fit(recipe, arrays, 0)], run)
    assert "SHAPE" in told.value.hint.upper()


@pytest.fixture
def lira(arrays, tmp_path):
    """Arguments of an audit by two shadows, of a target whose records lie in a file."""
    where = str(tmp_path / "arrays.parquet")
    data.write(arrays, where)
    run = EngineRun(root=tmp_path / "runs")
    recipe = method("recipes", "train-classifier", width=8, epochs=2)
    target = train(recipe, arrays, run, source=where, holdout=0.5)
    return ("audit", str(target.folder), "--attacks", "lira", "--set", "lira.shadows=4", "--json")


def areas(document):
    return [
        f["value"] for f in document["findings"] if f["name"] == "AUC" and f["method"] == "lira"
    ]


def test_an_audit_on_the_local_cluster_finds_what_this_process_finds(
    cluster, engram, lira, tmp_path, monkeypatch
):
    monkeypatch.setenv("ENGRAM_RUNS", str(tmp_path / "runs"))
    there = engram(*lira, "--cluster", "local")
    assert there.code == 0, there.err
    monkeypatch.setenv("ENGRAM_RUNS", str(tmp_path / "here"))
    here = engram(*lira)
    assert areas(there.json) == areas(here.json)
    assert areas(here.json)
    assert len(list((tmp_path / "runs").glob("train-classifier-*"))) == 5


def test_an_audit_joins_a_cluster_that_is_running(cluster, lira, tmp_path):
    """From a process of its own; files travel, for the disk may be another."""
    address = cluster.get_runtime_context().gcs_address
    environment = {**os.environ, "ENGRAM_RUNS": str(tmp_path / "runs")}
    done = subprocess.run(
        [sys.executable, "-m", "engram.cli", *lira, "--cluster", address],
        capture_output=True, text=True, check=False, env=environment, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"lira"' in done.stdout
    assert len(list((tmp_path / "runs").glob("train-classifier-*"))) == 5


def test_records_travel_unchanged(arrays, split):
    for records in (arrays, split, split.take([])):
        found = Records.of(records).split()
        assert found.fingerprint == records.fingerprint
        assert found.owners == records.owners


def test_files_of_a_model_are_unpacked_once(store, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = Model.of(str(store.base.folder), shared_disk=False)
    assert model.local() == model.local()
    assert {p.name for p in Path(model.local()).iterdir()} == {
        p.name for p in store.base.folder.iterdir() if p.is_file()
    }
    assert Model.of(str(store.base.folder), shared_disk=True).local() == str(store.base.folder)


def test_a_task_runs_without_ray(arrays, tmp_path):
    run = EngineRun(root=tmp_path)
    (job,) = jobs(arrays, count=1)
    product = FitTask.of(job, run, shared_disk=True)()
    assert run.has(job)
    assert product.files is None


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "nobody answers"),
        ("ray://127.0.0.1:1", "nobody answers"),
        ("not an address", "is no address"),
        ("127.0.0.1:port", "is no address"),
    ],
)
def test_refuses_addresses_where_nobody_is(address, said, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'engram[cluster]'")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(EngramError, match=said):
        executor_for(address)._ray()


def test_without_a_cluster_work_is_done_here():
    assert executor_for("") == InProcess()
