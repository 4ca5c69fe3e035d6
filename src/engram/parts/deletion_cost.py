"""What deletions from a model in shards and slices cost: expected, by formula, and simulated.

The unit is the record-epoch: one record looked at once. A stage (slice t of shard a) is trained
again on all that is left in slices 0 to t, for `epochs` epochs, as soon as one of those records is
deleted; so with U records there, of N in all:

    one request at a time    E = epochs * sum over stages of  U (U - 1) / (N (N - 1)) * (N - i)
    K requests in one go     E = epochs * sum over stages of  U (1 - K/N) - U C(N-U, K) / C(N, K)
    each with chance p_i     E = epochs * sum over stages of  sum (1 - p_i) - U prod (1 - p_i)

for the i-th of requests that are drawn like lots among the records that are left. The first holds
since those left are, after any such deletions, spread over the stages as all were. For S equal
shards of R equal slices and large N it is, in epochs of a shard, E (2/3 + 1/(3 R)) a request:
Bourtoule et al. (2021), section IV-B.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln

from engram.core import EngramError
from engram.parts.sharding import Placement

Sizes = Int[np.ndarray, "shards slices"]
"""Records in each slice of each shard."""


def first_training(sizes: Sizes, epochs: int) -> float:
    """Record-epochs of training all shards, slice by slice."""
    return float(epochs * sizes.cumsum(1).sum())


def one_by_one(sizes: Sizes, epochs: int, requests: int) -> Float[np.ndarray, " requests"]:
    """Expected record-epochs of each of so many requests, answered one after another."""
    stages, n = sizes.cumsum(1).astype(np.float64), int(sizes.sum())
    _check_requests(requests, n)
    if n < 2:
        return np.zeros(requests)
    left = n - np.arange(1, requests + 1)
    return epochs * (stages * (stages - 1)).sum() / (n * (n - 1)) * left


def in_one_go(sizes: Sizes, epochs: int, requests: int) -> float:
    """Expected record-epochs of answering so many requests together."""
    stages, n = sizes.cumsum(1).astype(np.float64), int(sizes.sum())
    _check_requests(requests, n)
    untouched = stages * np.exp(_log_choose(n - stages, requests) - _log_choose(n, requests))
    return float(epochs * (stages * (1 - requests / max(n, 1)) - untouched).sum())


def by_chance(placement: Placement, epochs: int, chances: Float[np.ndarray, " n"]) -> float:
    """Expected record-epochs where each record is deleted with a chance of its own, in one go."""
    total = 0.0
    stays = 1 - np.asarray(chances, np.float64)
    for shard in range(placement.shards):
        for upto in range(placement.slices):
            there = stays[(placement.shard == shard) & (placement.slice <= upto)]
            total += there.sum() - len(there) * there.prod()
    return float(epochs * total)


def counted(
    placement: Placement, epochs: int, batches: Sequence[Int[np.ndarray, " rows"]]
) -> Float[np.ndarray, " batches"]:
    """Record-epochs that these requests cost: rows of records, one array for each that is answered.

    Raises:
        EngramError: A row is deleted twice.
    """
    rows = np.concatenate([np.zeros(0, np.int64), *batches]).astype(np.int64)
    if len(np.unique(rows)) < len(rows):
        raise EngramError("a record is deleted twice", hint="it can leave only once")
    batch = np.repeat(np.arange(len(batches)), [len(each) for each in batches])
    leaving = np.zeros((len(batches), placement.shards, placement.slices), np.int64)
    np.add.at(leaving, (batch, placement.shard[rows], placement.slice[rows]), 1)
    leaving = leaving.cumsum(2)  # a stage has seen the slices before it too
    left = placement.sizes.cumsum(1) - leaving.cumsum(0)
    return epochs * (left * (leaving > 0)).sum((1, 2)).astype(np.float64)


def simulated(
    placement: Placement,
    epochs: int,
    requests: int,
    rng: np.random.Generator,
    *,
    together: bool = False,
    draws: int = 200,
) -> Float[np.ndarray, " draws"]:
    """Record-epochs of so many requests, drawn by lot again and again."""
    _check_requests(requests, len(placement))
    totals = []
    for _ in range(draws):
        rows = rng.choice(len(placement), requests, replace=False)
        batches = [rows] if together else [rows[i : i + 1] for i in range(requests)]
        totals.append(counted(placement, epochs, batches).sum())
    return np.array(totals)


def retraining(records: int, epochs: int, requests: int, *, together: bool) -> float:
    """Record-epochs of the same answers without shards: one model, trained again on what is left.

    Once if requests are answered together, else once for each of them.
    """
    left = records - np.arange(1, requests + 1)
    return float(epochs * (left[-1:] if together else left).sum())


def expected_share(sizes: Sizes, epochs: int, requests: int, *, together: bool) -> float:
    """Expected cost of requests as a share of `retraining`; `epochs` are those of the recipe."""
    stage, n = stage_epochs(epochs, sizes.shape[1]), int(sizes.sum())
    if together:
        cost = in_one_go(sizes, stage, requests)
    else:
        cost = float(one_by_one(sizes, stage, requests).sum())
    return cost / max(retraining(n, epochs, requests, together=together), 1.0)


def stage_epochs(epochs: int, slices: int) -> int:
    """Epochs of each slice: 2 E / (R + 1), rounded, so that all R together cost as E do.

    Bourtoule et al. (2021), section IV-B: E n = sum over i of e (i n / R).
    """
    return max(1, round(2 * epochs / (slices + 1)))


def _log_choose(n: np.ndarray | float | int, k: int) -> np.ndarray:
    """Log of n over k; minus infinity where k > n."""
    n = np.asarray(n, np.float64)
    inside = np.maximum(n - k, 0.0)
    found = gammaln(n + 1) - gammaln(k + 1) - gammaln(inside + 1)
    return np.where(n >= k, found, -np.inf)


def _check_requests(requests: int, records: int) -> None:
    if not 0 <= requests <= records:
        raise EngramError(
            f"{requests} requests were asked about, but there are {records} records",
            hint="every record can be deleted once",
        )
