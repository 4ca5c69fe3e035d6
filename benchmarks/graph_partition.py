"""How long it takes to cut a graph into balanced parts.

Two graphs: `dblp-reliant-small` (39,424 nodes, 52,460 edges; read from ENGRAM_DATA, where it is not
there a graph drawn by lot of the same size is cut) and a smaller one by lot, on which the plain
ways run too. Every partitioner of ours is timed from edges in memory to the community of each node;
the embedding for balanced k-means is timed by itself.

* `engram`: ours.
* `plain blpa`: Algorithm 1 of the paper as it is written: a Python loop over nodes and their
  neighbours, and sets of members.
* `plain bekm`: Algorithm 2 as it is written: all distances sorted, then one pair after another.

Both plain ways end in communities as balanced as ours; the sizes are checked.

    python benchmarks/graph_partition.py                       # both sizes
    python benchmarks/graph_partition.py --json results.json   # the same numbers for machines
"""

import argparse
import json
import os
import platform
import resource
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engram import data
from engram.core import EngramError, stream
from engram.parts.graph import Graph, graph_beside
from engram.parts.graph_embedding import embed
from engram.parts.graph_partition import cut_share, divide, largest_size

METHODS = ("random", "blpa", "blpa-base", "bekm", "metis", "louvain", "label-propagation", "kmeans")
SHARDS, DELTA, ROUNDS = 100, 0.005, 30
SMALL = 4_000
LIMIT = 120.0
"""Seconds that the large graph may take."""


def by_lot(nodes: int, edges: int) -> tuple[Graph, np.ndarray]:
    """A graph of edges by lot, and features by lot."""
    rng = stream(0, "benchmark")
    graph = Graph.of(rng.integers(0, nodes, (2, edges)), nodes)
    return graph, rng.normal(size=(nodes, 20)).astype(np.float32)


def large() -> tuple[str, Graph, np.ndarray]:
    """The large graph, and what it is."""
    try:
        return "dblp-reliant-small", *graph_beside(data.read("dblp-reliant-small"))
    except EngramError:
        return "by lot", *by_lot(39_424, 52_460)


def plain_blpa(graph: Graph, m: int, cap: int, rng: np.random.Generator, rounds: int) -> list[int]:
    """Algorithm 1, node by node."""
    near: list[list[int]] = [[] for _ in range(graph.nodes)]
    for u, v in graph.edges.T.tolist():
        near[u].append(v)
        near[v].append(u)
    place = [0] * graph.nodes
    for position, node in enumerate(rng.permutation(graph.nodes).tolist()):
        place[node] = position % m
    members = [{v for v, k in enumerate(place) if k == c} for c in range(m)]
    for _ in range(rounds):
        profiles = plain_profiles(near, place, rng)
        queues: list[list[int]] = [[] for _ in range(m)]
        moved = 0
        for node, to, _ in profiles:
            if len(members[to]) >= cap:
                queues[to].append(node)
                continue
            while True:
                left = place[node]
                members[left].remove(node)
                members[to].add(node)
                place[node] = to
                moved += 1
                if not queues[left]:
                    break
                node, to = queues[left].pop(0), left
        if not moved:
            break
    return place


def plain_profiles(
    near: list[list[int]], place: list[int], rng: np.random.Generator
) -> list[tuple[int, int, int]]:
    """Who wants to move where, and how many neighbours are there; the most first."""
    profiles = []
    for node, others in enumerate(near):
        counts = Counter(place[other] for other in others)
        most = max(counts.values(), default=0)
        best = [k for k, count in counts.items() if count == most]
        if best and (wanted := int(rng.choice(best))) != place[node]:
            profiles.append((node, wanted, most))
    rng.shuffle(profiles)
    return sorted(profiles, key=lambda profile: -profile[2])


def plain_bekm(
    points: np.ndarray, m: int, cap: int, rng: np.random.Generator, rounds: int
) -> list[int]:
    """Algorithm 2, pair by pair."""
    centroids = points[rng.choice(len(points), m, replace=False)]
    cluster = [0] * len(points)
    for _ in range(rounds):
        pairs = [
            (float(((point - centre) ** 2).sum()), node, k)
            for node, point in enumerate(points)
            for k, centre in enumerate(centroids)
        ]
        cluster, sizes = [-1] * len(points), [0] * m
        for _, node, k in sorted(pairs):
            if cluster[node] < 0 and sizes[k] < cap:
                cluster[node] = k
                sizes[k] += 1
        places = np.array(cluster)
        moved = np.stack(
            [points[places == k].mean(0) if sizes[k] else centroids[k] for k in range(m)]
        )
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return cluster


def timed(work: Callable[[], object]) -> tuple[float, float, np.ndarray]:
    """Seconds of the clock and of the processor, and what came of it."""
    clock, processor = time.perf_counter(), time.process_time()
    found = np.asarray(work())
    return time.perf_counter() - clock, time.process_time() - processor, found


def rows_of(
    name: str, graph: Graph, features: np.ndarray, shards: int, rounds: int, plain: bool
) -> list[dict[str, object]]:
    cap = largest_size(graph.nodes, shards, DELTA)
    rows: list[dict[str, object]] = []

    def add(way: str, clock: float, processor: float, community: np.ndarray | None) -> None:
        row = {"graph": name, "nodes": graph.nodes, "edges": graph.edges.shape[1],
               "shards": shards, "way": way, "seconds": clock, "processor": processor}  # fmt: skip
        if community is not None:
            sizes = np.bincount(community, minlength=shards)
            row |= {"largest": int(sizes.max()), "cap": cap, "cut": cut_share(graph, community)}
        rows.append(row)
        print(line(row), flush=True)

    clock, processor, points = timed(lambda: embed(graph, features, 0))
    add("engram embedding", clock, processor, None)
    for method in METHODS:
        clock, processor, found = timed(
            lambda method=method: divide(
                method, graph, shards, stream(0, method), delta=DELTA, rounds=rounds,
                embedding=points,
            )
        )  # fmt: skip
        add(f"engram {method}", clock, processor, found)
    if plain:
        add("plain blpa", *timed(lambda: plain_blpa(graph, shards, cap, stream(0, "p"), rounds)))
        add("plain bekm", *timed(lambda: plain_bekm(points, shards, cap, stream(0, "p"), rounds)))
    return rows


def line(row: dict[str, object]) -> str:
    cut = (
        f"  cut {row['cut']:.3f}  largest {row['largest']} of {row['cap']}" if "cut" in row else ""
    )
    return (
        f"{row['graph']:>20} {row['nodes']:>7,} nodes  {row['way']:<26} {row['seconds']:8.2f} s "
        f"({row['processor']:.2f} s of the processor){cut}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    name, graph, features = large()
    rows = rows_of(name, graph, features, SHARDS, options.rounds, plain=False)
    small, numbers = by_lot(SMALL, SMALL * 4 // 3)
    rows += rows_of("by lot", small, numbers, 20, options.rounds, plain=True)
    slowest = max(row["seconds"] for row in rows if row["graph"] == name)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"slowest on {graph.nodes:,} nodes: {slowest:.1f} s of {LIMIT:.0f}; peak {peak:.0f} MiB")
    if options.json:
        machine = {"processor": platform.machine(), "cores": os.cpu_count()}
        document = {"machine": machine, "rows": rows, "peak_mib": peak}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
