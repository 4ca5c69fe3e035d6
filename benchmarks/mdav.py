"""MDAV on 30,000 rows of 14 columns, and beside a plain implementation at a size both can do.

The plain one computes all distances between records once (n x n numbers) and then sorts rows.

    python benchmarks/mdav.py
"""

import argparse
import json
import os
import resource

os.environ["OMP_NUM_THREADS"] = "1"

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from engram.parts.microaggregation import mdav


def plain(points: np.ndarray, k: int) -> np.ndarray:
    """MDAV with the whole matrix of distances."""
    away = ((points[:, None] - points[None]) ** 2).sum(2)
    left, group, number = np.arange(len(points)), np.empty(len(points), np.int64), 0

    def close(row: int, left: np.ndarray, number: int) -> np.ndarray:
        near = left[np.argsort(away[row, left], kind="stable")[:k]]
        group[near] = number
        return np.setdiff1d(left, near)

    def far(centre: np.ndarray) -> int:
        return int(left[np.argmax(((points[left] - centre) ** 2).sum(1))])

    while len(left) >= 3 * k:
        r = far(points[left].mean(0))
        left = close(r, left, number)
        left = close(int(left[np.argmax(away[r, left])]), left, number + 1)
        number += 2
    if len(left) >= 2 * k:
        left = close(far(points[left].mean(0)), left, number)
        number += 1
    group[left] = number
    return group


WAYS = {"engram": mdav, "plain": plain}


def one(way: str, rows: int, columns: int, k: int) -> dict[str, float]:
    """Seconds and megabytes of one way, in this process."""
    points = np.random.default_rng(0).normal(size=(rows, columns))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, used = time.perf_counter(), time.process_time()
    group = WAYS[way](points, k)
    took, cpu = time.perf_counter() - begun, time.process_time() - used
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "rows": rows,
        "k": k,
        "seconds": took,
        "cpu seconds": cpu,
        "megabytes": (after - before) / 1024,
        "smallest group": int(np.bincount(group).min()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--columns", type=int, default=14)
    parser.add_argument("--both", type=int, default=3_000, help="rows that both ways can do")
    parser.add_argument("--k", type=int, nargs="*", default=[3, 10])
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--one", choices=WAYS, help="this way alone, in this process")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one, args.rows, args.columns, args.k[0])))
        return
    found = []
    for k in args.k:
        for way, rows in (("engram", args.rows), ("engram", args.both), ("plain", args.both)):
            # A process of its own each time: peaks of memory do not go down again.
            asked = ["--one", way, "--rows", rows, "--columns", args.columns, "--k", k]
            done = subprocess.run(
                [sys.executable, __file__, *map(str, asked)], check=True, capture_output=True
            )
            found.append({"way": way, **json.loads(done.stdout)})
            print(
                f"{way}, {rows} rows, k = {k}: {found[-1]['seconds']:.2f} s "
                f"({found[-1]['cpu seconds']:.2f} s of CPU), {found[-1]['megabytes']:.0f} MB more, "
                f"smallest group {found[-1]['smallest group']}",
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
