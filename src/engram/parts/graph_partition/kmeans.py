"""k-means on an embedding of the nodes, with as many nodes in a cluster as it may hold.

Balanced embedding k-means (Chen et al., 2022, Algorithm 2) takes the distances of all nodes to all
centroids, the shortest first, and gives each node to the first centroid that has room for it.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linprog
from scipy.sparse import coo_array, vstack

from engram.core import EngramError

Points = Float[np.ndarray, "nodes width"]
Centroids = Float[np.ndarray, "m width"]
Distances = Float[np.ndarray, "nodes m"]
Assign = Callable[[Distances, int], Int[np.ndarray, " nodes"]]


def balanced_kmeans(
    points: Points, m: int, cap: int, rng: np.random.Generator, rounds: int
) -> Int[np.ndarray, " nodes"]:
    """The cluster of each node, none with more than `cap` nodes: shortest distances first."""
    return _lloyd(points, m, cap, rng, rounds, shortest_first)


def even_kmeans(
    points: Points, m: int, cap: int, rng: np.random.Generator, rounds: int
) -> Int[np.ndarray, " nodes"]:
    """The same, with the smallest sum of squared distances in each round.

    Malinen and Franti (2014) solve an assignment problem with one column a place in a cluster, as
    many as nodes; here the transport problem of the same value is, with one column a cluster.
    """
    return _lloyd(points, m, cap, rng, rounds, least_sum)


def free_kmeans(
    points: Points, m: int, rng: np.random.Generator, rounds: int = 100
) -> Int[np.ndarray, " nodes"]:
    """Plain k-means, whose clusters may have any size."""
    return _lloyd(points, m, len(points), rng, rounds, nearest)


def _lloyd(
    points: Points, m: int, cap: int, rng: np.random.Generator, rounds: int, assign: Assign
) -> Int[np.ndarray, " nodes"]:
    """Assign and take means in turn, until the centroids stay where they are."""
    points = np.asarray(points, np.float64)
    n = len(points)
    if m * cap < n:
        raise EngramError(f"{m} clusters of {cap} nodes do not hold {n}")
    chosen = rng.choice(n, min(m, n), replace=False)
    # With fewer nodes than clusters the last clusters stay empty.
    centroids = points[chosen]
    cluster = np.zeros(n, np.int64)
    for _ in range(rounds):
        cluster = assign(squared_distances(points, centroids), cap)
        moved = means(points, cluster, centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return cluster


def squared_distances(points: Points, centroids: Centroids) -> Distances:
    """Of every node to every centroid."""
    found = (points**2).sum(1)[:, None] - 2 * points @ centroids.T + (centroids**2).sum(1)
    return np.maximum(found, 0.0)


def means(points: Points, cluster: Int[np.ndarray, " nodes"], before: Centroids) -> Centroids:
    """The mean of each cluster; an empty one's centroid stays where it was."""
    sizes = np.bincount(cluster, minlength=len(before))
    sums = np.zeros_like(before)
    np.add.at(sums, cluster, points)
    return np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], before)


def nearest(distances: Distances, cap: int) -> Int[np.ndarray, " nodes"]:
    """The centroid that is nearest to each node."""
    return distances.argmin(1)


def shortest_first(distances: Distances, cap: int) -> Int[np.ndarray, " nodes"]:
    """All distances in ascending order; each node goes to the first centroid that has room.

    Done in at most m stages. Until some cluster is full, every node goes to the nearest one that is
    open, in order of that distance. When one is full, those who wanted it look for the next. Equal
    distances: the lower node first, then the lower cluster.
    """
    n, m = distances.shape
    open_to = np.array(distances)
    room = np.full(m, cap)
    cluster = np.full(n, -1)
    free = np.arange(n)
    best = open_to.argmin(1)
    while len(free):
        order = free[np.argsort(open_to[free, best[free]], kind="stable")]
        wanted = best[order]
        rank = _rank_within(wanted, m)
        full = np.flatnonzero(rank == room[wanted] - 1)  # who takes the last place of a cluster
        done = order if not len(full) else order[: full[0] + 1]
        cluster[done] = best[done]
        room -= np.bincount(best[done], minlength=m)
        free = np.sort(order[len(done) :])
        if not len(full):
            break
        closed = wanted[full[0]]
        open_to[:, closed] = np.inf
        again = free[best[free] == closed]
        best[again] = open_to[again].argmin(1)
    return cluster


def _rank_within(kinds: Int[np.ndarray, " k"], m: int) -> Int[np.ndarray, " k"]:
    """How many of the same kind stand before each."""
    order = np.argsort(kinds, kind="stable")
    counts = np.bincount(kinds, minlength=m)
    rank = np.empty(len(kinds), np.int64)
    rank[order] = np.arange(len(kinds)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank


def least_sum(distances: Distances, cap: int) -> Int[np.ndarray, " nodes"]:
    """The assignment with the smallest sum of distances, none of the clusters beyond `cap`."""
    n, m = distances.shape
    every = np.arange(n * m)
    ones = np.ones(n * m)
    each_node = coo_array((ones, (every // m, every)), shape=(n, n * m)).tocsr()
    each_cluster = coo_array((ones, (every % m, every)), shape=(m, n * m)).tocsr()
    # Corners of a transport problem are whole numbers, and dual simplex ends in one.
    found = linprog(
        distances.reshape(-1),
        A_ub=vstack([each_cluster]).tocsr(),
        b_ub=np.full(m, float(cap)),
        A_eq=each_node,
        b_eq=np.ones(n),
        bounds=(0, 1),
        method="highs-ds",
    )
    if found.x is None:
        raise EngramError(f"no assignment of {n} nodes to {m} clusters was found: {found.message}")
    return found.x.reshape(n, m).argmax(1)
