"""Score a text by its least likely token.

A model that has learnt a text is surprised by none of it. One that has not stumbles at least once:
at a name, say, or a number. So take the token that surprises it most.

    score(x) = min over t of  log p(x_t | x_<t)

Differs from the paper: 1. The paper averages a share of the least likely tokens; here it is one.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, Paper, Run, Scores, Split, Target


@dataclass(frozen=True)
class WorstToken:
    """Log-probability of the least likely token."""

    paper: ClassVar[Paper] = Paper(
        title="Detecting Pretraining Data from Large Language Models",
        authors="Shi et al.",
        year=2024,
        url="https://arxiv.org/abs/2310.16789",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return one score a record, in nats; the higher, the likelier a member."""
        signals = run.tokens(target, split)
        worst = [logprobs.min() for logprobs in signals.ragged(signals.logprob)]
        return Scores(split.ids, np.array(worst, np.float64), unit="nats")
