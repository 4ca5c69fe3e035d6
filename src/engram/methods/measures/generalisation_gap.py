"""How much better the model does on the records that it saw than on others like them.

A model that learnt what is common to all records does as well on new ones. Whatever it does
better on its own is the room in which membership can be seen at all: with no gap in the loss,
an attack on the mean loss has nothing to find.

    gap = mean over outsiders of loss(x)  -  mean over members of loss(x)

Works for every family that has losses. The 95 % interval resamples members and outsiders
separately: their records, or their owners where those are known.

Differs from the paper: 1. The paper's gap is the expected difference over draws of the training
set; ours is that of one trained model on the records given.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.record_bootstrap import by_owner, resampled_by

NAME = "generalisation gap"


@dataclass(frozen=True)
class GeneralisationGap:
    """Mean loss of the outsiders minus that of the members."""

    paper: ClassVar[Paper] = Paper(
        title="Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting",
        authors="Yeom et al.",
        year=2018,
        url="https://arxiv.org/abs/1709.01604",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    access: ClassVar[Access] = "logits"

    resamples: int = 1000
    """Bootstrap resamples behind the interval."""

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise EngramError(
                f"resamples is {self.resamples}, but must be at least 100", hint="1000 is usual"
            )

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the gap in nats; missing where one side has fewer than two records."""
        tags = {
            "method": "generalisation-gap",
            "better": "lower",
            "split": "members, outsiders",
        }
        for name in ("members", "outsiders"):
            if name not in splits or len(splits[name]) < 2:
                n = len(splits[name]) if name in splits else 0
                reason = f"needs at least 2 {name}, has {n}"
                return (Finding.missing(NAME, reason, n, "nats").tagged(**tags),)
        inside = np.asarray(run.losses(target, splits["members"]), np.float64)
        outside = np.asarray(run.losses(target, splits["outsiders"]), np.float64)
        gap = float(outside.mean() - inside.mean())
        sides = [splits["members"], splits["outsiders"]]
        (inside, own), (outside, others) = (
            by_owner(side, losses, np.ones(len(side)))
            for side, losses in zip(sides, (inside, outside), strict=True)
        )
        rng = run.stream("generalisation-gap")
        low, high = self.interval(inside, outside, rng, own, others)
        note, n = resampled_by(sides), sum(map(len, sides))
        found = Finding(NAME, gap, min(low, gap), max(high, gap), n, "nats", note=note)
        return (found.tagged(**tags),)

    def interval(
        self,
        inside: Float[np.ndarray, " members"],
        outside: Float[np.ndarray, " outsiders"],
        rng: np.random.Generator,
        own: Float[np.ndarray, " members"] | None = None,
        others: Float[np.ndarray, " outsiders"] | None = None,
    ) -> tuple[float, float]:
        """95 % percentile bootstrap interval of the difference of the two means, in nats.

        Args:
            inside: Losses of the members, or their sums by owner.
            outside: Of the outsiders.
            rng: The stream of this number.
            own: How many records are behind each sum; one, if left out.
            others: Of the outsiders.
        """

        def mean(losses: np.ndarray, counts: np.ndarray | None) -> float:
            pick = rng.integers(0, len(losses), len(losses))
            records = len(losses) if counts is None else counts[pick].sum()
            return float(losses[pick].sum() / records)

        drawn = [mean(outside, others) - mean(inside, own) for _ in range(self.resamples)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        return float(low), float(high)
