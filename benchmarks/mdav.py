"""What MDAV microaggregation costs, in seconds and in memory, beside a plain implementation.

30,000 records of 14 numbers are cut into groups of at least k = 10, of clouds as real tables have
them. The plain way is how the algorithm is usually written down: all pairwise distances are made
once, which takes n x n numbers, and each step looks through the records that are left in a Python
loop. 30,000 x 30,000 distances are 7.2 GB, so both are timed at a size that both can do, where they
must find the same groups, and ours alone at the whole size.

Seconds are the processor's; peak memory is what is allocated beside the table itself.

    python benchmarks/mdav.py                       # both sizes
    python benchmarks/mdav.py --json results.json   # the same numbers for machines
"""

import argparse
import json
import platform
import time
import tracemalloc
from pathlib import Path

import numpy as np

from engram.parts.microaggregation import mdav

WIDTH, K, CLOUDS = 14, 10, 12
WHOLE, BOTH = 30_000, 2_000
WAYS = ("engram", "plain")


def table(n: int) -> np.ndarray:
    """`n` records from a few clouds of unequal spread, standardised."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(CLOUDS, WIDTH)) * 3
    spread = rng.uniform(0.3, 1.5, size=(CLOUDS, WIDTH))
    cloud = rng.integers(0, CLOUDS, n)
    found = centre[cloud] + spread[cloud] * rng.normal(size=(n, WIDTH))
    return (found - found.mean(0)) / found.std(0)


def plain_mdav(points: np.ndarray, k: int) -> np.ndarray:
    """MDAV over a matrix of all pairwise distances and a list of the records that are left."""
    n = len(points)
    away = np.empty((n, n))
    for i in range(n):
        away[i] = ((points - points[i]) ** 2).sum(1)
    left, group, number = list(range(n)), np.empty(n, np.int64), 0

    def farthest_from_mean() -> int:
        centre = points[left].mean(0)
        return max(left, key=lambda i: float(((points[i] - centre) ** 2).sum()))

    def cluster(i: int) -> None:
        nonlocal left, number
        chosen = set(sorted(left, key=lambda j: away[i, j])[:k])
        group[list(chosen)] = number
        left, number = [j for j in left if j not in chosen], number + 1

    while len(left) >= 3 * k:
        r = farthest_from_mean()
        s = max(left, key=lambda j: away[r, j])
        cluster(r)
        cluster(s)
    if len(left) >= 2 * k:
        cluster(farthest_from_mean())
    group[left] = number
    return group


def measured(way: str, n: int) -> dict[str, float | int | str]:
    """The processor's seconds and, in a second go, the peak of what is allocated meanwhile."""
    points, work = table(n), {"engram": mdav, "plain": plain_mdav}[way]
    work(points[:100], K)  # whatever is loaded at the first call
    begun = time.process_time()
    group = work(points, K)
    seconds = time.process_time() - begun
    tracemalloc.start()
    work(points, K)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    sizes = np.bincount(group)
    within = sum(points[group == g].var(0).sum() * size for g, size in enumerate(sizes))
    return {
        "way": way,
        "records": n,
        "groups": len(sizes),
        "smallest": int(sizes.min()),
        "seconds": seconds,
        "mebibytes": peak / 2**20,
        "share of variance within groups": float(within / (points.var(0).sum() * n)),
    }


def main() -> None:
    """Time both ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    options = parser.parse_args()
    points = table(BOTH)
    same = bool((mdav(points, K) == plain_mdav(points, K)).all())
    rows = [measured(way, BOTH) for way in WAYS] + [measured("engram", WHOLE)]
    print(f"{WIDTH} columns, k = {K}; the same groups at {BOTH:,} records: {same}")
    print("| way | records | groups | smallest | seconds | peak MiB | variance within groups |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row['way']} | {row['records']:,} | {row['groups']:,} | {row['smallest']} | "
            f"{row['seconds']:.2f} | {row['mebibytes']:.1f} | "
            f"{row['share of variance within groups']:.3f} |"
        )
    print(f"a matrix of {WHOLE:,} x {WHOLE:,} distances would take {WHOLE**2 * 8 / 2**20:,.0f} MiB")
    if options.json:
        facts = {"machine": platform.machine(), "python": platform.python_version()}
        record = {**facts, "same groups": same, "rows": rows}
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
