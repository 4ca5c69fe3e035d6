"""Shadow models on two Ray workers beside one worker in this process: a ratio, in one run.

Ray's workers are started before the clock, as they are once in an audit; one thread each, and one
thread here.

    python benchmarks/shadow_workers.py
"""

import argparse
import json
import os
import tempfile

os.environ["OMP_NUM_THREADS"] = "1"
# Ray's workers are nice to others by default: here both sides must compete alike for a processor.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - so Ray calls it

from pathlib import Path

import numpy as np
import torch
from audit_throughput import seconds

from engram.core import Split
from engram.engine.battery import make
from engram.engine.cluster import OnRay
from engram.engine.executor import Fit, InProcess
from engram.engine.run import EngineRun


def jobs(count: int, epochs: int) -> list[Fit]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4_000, 64)).astype(np.float32)
    label = (features[:, :8].sum(1) > 0).astype(np.int64)
    records = Split.of("records", features=features, label=label)
    recipe = make("recipes", "train-classifier", {"width": 256, "epochs": epochs})
    halves = [rng.permutation(len(records))[: len(records) // 2] for _ in range(count)]
    return [Fit(recipe, records.take(rows), seed) for seed, rows in enumerate(halves)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shadows", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    work = jobs(args.shadows, args.epochs)
    found = []
    with tempfile.TemporaryDirectory() as root:
        warm = EngineRun(root=Path(root) / "warm", executor=OnRay())
        warm.executor.fit(jobs(4, 1), warm)
        for number in range(args.repeats):
            here = EngineRun(root=Path(root) / f"here-{number}")
            there = EngineRun(root=Path(root) / f"there-{number}", executor=OnRay())
            one = seconds(lambda: InProcess().fit(work, here))  # noqa: B023
            two = seconds(lambda: there.executor.fit(work, there))  # noqa: B023
            found.append({"in_process": one, "ray": two, "ratio": one / two})
            print(
                f"{args.shadows} shadows: {one:.1f} s in process, {two:.1f} s on "
                f"{OnRay()._workers()} Ray workers: {one / two:.2f}x",
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
