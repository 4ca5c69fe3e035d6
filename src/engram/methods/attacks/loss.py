"""Score a record by minus its loss.

A model is trained to make the loss of its members small, and it never did so for anybody
else's records. So a record with a small loss is more likely to be a member. This is the oldest
attack and the yardstick: whatever costs more than one look at the model has to beat it.

    score(x) = -loss(x)

The loss is that of the model's family: for a language model the mean negative log-likelihood
of the record's tokens, for a classifier its cross-entropy.

Differs from the paper: 1. The paper's attacker compares the loss with the average training
loss and answers yes or no; we return the loss itself, so that every threshold can be tried.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, Paper, Run, Scores, Split, Target


@dataclass(frozen=True)
class Loss:
    """Minus the loss of each record."""

    paper: ClassVar[Paper] = Paper(
        title="Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting",
        authors="Yeom et al.",
        year=2018,
        url="https://arxiv.org/abs/1709.01604",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    access: ClassVar[Access] = "logits"

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return minus the loss of each record, in nats (for text, nats per token)."""
        losses = np.asarray(run.losses(target, split), np.float64)
        return Scores(split.ids, -losses, unit="nats")
