"""Fan-out work on Ray: on this machine's cores, or on a cluster that is already running."""

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from engram.core import EngramError, Split, Target
from engram.engine.executor import Fit
from engram.engine.run import EngineRun
from engram.engine.tasks import FitTask, Model, Place, Product, Records, TokensTask
from engram.signals.shards import join_shards
from engram.store import add

LOCAL = "local"
LEAST_RECORDS = 256
"""Records below which a split is not worth sharing out."""
PIECES = 4
"""Shards for each worker: the last of them to finish keeps the others waiting least."""


@dataclass(frozen=True)
class OnRay:
    """An executor that hands work to Ray; a worker that dies costs only its own piece.

    Attributes:
        address: "local" starts a Ray of its own on this machine; anything else is the address of
            one that is running ("10.0.0.7:6379", "ray://head:10001", "auto").
        shared_disk: Whether workers see this machine's store. By default only local ones do;
            otherwise files travel with the work.
        retries: How often a piece is done again when its worker died.
    """

    address: str = LOCAL
    shared_disk: bool | None = None
    retries: int = 3

    @property
    def shares(self) -> bool:
        """Whether results can be left in the store."""
        return self.address == LOCAL if self.shared_disk is None else self.shared_disk

    def fit(self, jobs: Sequence[Fit], run: EngineRun) -> None:
        """Train every target that is not in the store yet."""
        missing = [job for job in jobs if not run.has(job)]
        tasks = [FitTask.of(job, run, shared_disk=self.shares) for job in missing]
        for folder in self._do(tasks, run, "models to compare with"):
            add(run.root, folder)

    def tokens(self, target: Target, split: Split, run: EngineRun) -> None:
        """Fill the store with a large split's token signals, shard by shard."""
        where = run.folder_of(target)
        store = run.tokens_store(target.model, split, target.fingerprint)
        if store.complete or len(split) < LEAST_RECORDS or not where:
            return
        count = max(2, PIECES * self._workers())
        rows = np.array_split(np.arange(len(split)), min(count, len(split) // 64))
        shards = [split.take(part).only(["text"]) for part in rows]
        model = Model.of(where, shared_disk=self.shares)
        place = Place.of(run, shared_disk=self.shares)
        tasks = [
            TokensTask(model, target.family, target.fingerprint, Records.of(shard), place)
            for shard in shards
        ]
        self._do(tasks, run, "shards of token signals")
        parts = [run.tokens_store(target.model, shard, target.fingerprint) for shard in shards]
        join_shards(store, list(zip(parts, shards, strict=True)))

    def _workers(self) -> int:
        return int(self._ray().cluster_resources().get("CPU", 1))

    def _do(self, tasks: Sequence[Callable[[], Product]], run: EngineRun, what: str) -> list[Path]:
        """Run all tasks; the folders of finished ones stay even if another fails."""
        if not tasks:
            return []
        ray = self._ray()
        gpus = 1 if run.device.startswith("cuda") else 0
        call = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=self.retries)(_call)
        waiting = {call.remote(task) for task in tasks}
        folders = []
        while waiting:
            run.progress(len(tasks) - len(waiting), len(tasks), what)
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
            for reference in done:
                waiting.remove(reference)
                folders.append(self._collected(ray, reference).put(run.root))
        run.progress(len(tasks), len(tasks), what)
        return folders

    def _collected(self, ray: Any, reference: Any) -> Product:
        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as problem:
            cause = problem.cause
            if isinstance(cause, EngramError):
                raise EngramError(str(cause), hint=cause.hint) from None
            raise
        except ray.exceptions.RayError as problem:
            said = str(problem).strip().splitlines()[0]
            raise EngramError(
                f"a worker died {self.retries + 1} times at the same piece of work ({said})",
                hint="it may need more memory than a worker has; what other workers finished is "
                "kept, and the same command goes on from there",
            ) from None

    def _ray(self) -> Any:
        """The Ray that this process talks to; started or joined on first use."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError:
            raise EngramError(
                "work cannot be shared out: Ray is not installed",
                hint="pip install 'engram[cluster]'",
            ) from None
        if not ray.is_initialized():
            _start(ray, self.address)
        return ray


def _call(task: Callable[[], Product]) -> Product:
    return task()


def _start(ray: Any, address: str) -> None:
    options = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        ray.init(address=LOCAL, include_dashboard=False, **options)
        return
    _check_reachable(address)
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as problem:
        raise EngramError(
            f"no Ray could be joined at {address!r} ({str(problem).splitlines()[0]})",
            hint="start one with `ray start --head`, or use --cluster local",
        ) from None


def _check_reachable(address: str) -> None:
    """Refuse at once where nobody listens: Ray itself would wait for a minute."""
    if address == "auto":
        return
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise EngramError(
            f"the cluster {address!r} is no address",
            hint="--cluster local, --cluster 10.0.0.7:6379 or --cluster ray://head:10001",
        )
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as problem:
        raise EngramError(
            f"nobody answers at the cluster {address!r} ({problem})",
            hint="start one with `ray start --head`, or use --cluster local",
        ) from None


def executor_for(cluster: str) -> Any:
    """The executor that `--cluster` names; in this process where it names none."""
    from engram.engine.executor import InProcess

    return OnRay(cluster) if cluster else InProcess()
