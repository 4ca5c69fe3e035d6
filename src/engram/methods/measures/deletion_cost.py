"""Measure what deleting records from a sharded model is expected to cost, by number of requests.

Sharding buys cheap deletions, but not endlessly: the more requests come, the more shards they
meet, and in the end everything is trained again. How soon follows from the sizes of shards and
slices alone. For requests that are drawn by lot and answered in one go, with U records in slices 0
to t of a shard, of N in all,

    expected cost = epochs * sum over shards and slices t of  U (1 - K/N) - U C(N-U, K) / C(N, K)

in record-epochs, given as a share of what the same answers cost without shards: training one plain
model of the records that are left, once, or again for every request that is answered by itself.
Beside the formula stands a simulation of such requests.

Differs from the paper: 1. It gives the expectation for equal shards, without counting that records
leave; ours counts it, and takes shards and slices as large as they are. 2. Its batches of requests
are drawn with replacement.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.deletion_cost import expected_share, retraining, simulated, stage_epochs
from engram.parts.sharding import Placement
from engram.parts.training import check_at_least

NAME, METHOD = "cost of a deletion", "deletion-cost"
HOW = ("in one go", "one by one")


@dataclass(frozen=True)
class DeletionCost:
    """Expected cost of deletions, as a share of training everything again."""

    paper: ClassVar[Paper] = Paper(
        title="Machine Unlearning",
        authors="Bourtoule et al.",
        year=2021,
        url="https://arxiv.org/abs/1912.03817",
    )
    needs: ClassVar[frozenset[str]] = frozenset()
    access: ClassVar[Access] = "weights"
    families: ClassVar[frozenset[str]] = frozenset({"sharded-classifier"})

    requests: tuple[int, ...] = (1, 10, 100)
    """How many records are asked to be deleted; more than there are, are left out."""
    draws: int = 200
    """Simulations that the formula is compared with."""

    def __post_init__(self) -> None:
        check_at_least("draws", self.draws, 2, "200 are quick")
        if not self.requests or any(not isinstance(k, int) or k < 1 for k in self.requests):
            raise EngramError(
                f"requests are {self.requests}, but must be one or more whole numbers above 0",
                hint="1 10 100 tells how soon shards stop to pay",
            )

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the expected share for each number of requests: in one go, and one by one."""
        placement = getattr(target.model, "placement", None)
        epochs = target.lineage.recipe().config.get("epochs", 0)
        if placement is None or not epochs:
            why = f"target {target.name!r} is not in shards that a recipe of ours trained"
            return (Finding.missing(NAME, why).tagged(method=METHOD),)
        found = [
            self._cost(placement, epochs, k, how, run)
            for k in self.requests
            if k < len(placement)
            for how in HOW
        ]
        why = f"there are only {len(placement)} records"
        return tuple(found) or (Finding.missing(NAME, why).tagged(method=METHOD),)

    def _cost(
        self, placement: Placement, epochs: int, requests: int, how: str, run: Run
    ) -> Finding:
        together, n = how == HOW[0], len(placement)
        expected = expected_share(placement.sizes, epochs, requests, together=together)
        stage, rng = stage_epochs(epochs, placement.slices), run.stream(METHOD, how, requests)
        drawn = simulated(placement, stage, requests, rng, together=together, draws=self.draws)
        drawn = drawn / retraining(n, epochs, requests, together=together)
        low, high = np.quantile(drawn, [0.025, 0.975])
        name = f"share of retraining that {requests} deletions cost {how}"
        low, high = min(expected, float(low)), max(expected, float(high))
        note = f"95 % of {self.draws} simulations lie in the interval; their mean is "
        return Finding(name, expected, low, high, n).tagged(
            better="lower", method=METHOD, note=f"{note}{drawn.mean():.4g}"
        )
