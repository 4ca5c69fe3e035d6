"""Score a text by its second least likely token.

A single misspelt name can make any text look unseen. The second worst token is nearly as
telling as the worst, and does not hang on one typing error.

    score(x) = second smallest log p(x_t | x_<t);  with one token alone, that token's

Differs from the paper: 1. The paper averages a share of the smallest log-probabilities; this
example takes one of them.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, EngramError, Paper, Run, Scores, Split, Target


@dataclass(frozen=True)
class SecondWorstToken:
    """Log-probability of the token with a given place from below."""

    paper: ClassVar[Paper] = Paper(
        title="Detecting Pretraining Data from Large Language Models",
        authors="Shi et al.",
        year=2024,
        url="https://arxiv.org/abs/2310.16789",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"

    place: int = 2
    """Which token from below: 1 is the worst; the best one where a text has fewer."""

    def __post_init__(self) -> None:
        if self.place < 1:
            raise EngramError(
                f"place is {self.place}, but must be at least 1", hint="2 is the second worst"
            )

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return one score a record, in nats."""
        signals = run.tokens(target, split)
        values = [
            np.sort(logprobs)[min(self.place, len(logprobs)) - 1]
            for logprobs in signals.ragged(signals.logprob)
        ]
        return Scores(split.ids, np.array(values, np.float64), unit="nats")
