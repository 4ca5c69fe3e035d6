"""Score a text by its least likely tokens.

A model that has seen a text is rarely surprised by any token in it; a model that has not
meets a few outliers. So average only the `fraction` smallest token log-probabilities.

    score(x) = mean of the ceil(fraction * T) smallest log p(x_t | x_<t)

Differs from the paper: 1. We round the number of tokens up, so that a short text still has a
score; the authors' code rounds down and has none for texts of fewer than five tokens.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, Paper, Run, Scores, Split, Target
from engram.parts.token_scores import check_fraction, check_scored, smallest_mean


@dataclass(frozen=True)
class MinK:
    """Min-K% probability."""

    paper: ClassVar[Paper] = Paper(
        title="Detecting Pretraining Data from Large Language Models",
        authors="Shi et al.",
        year=2024,
        url="https://arxiv.org/abs/2310.16789",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logprobs"})
    access: ClassVar[Access] = "logits"

    fraction: float = 0.2
    """Share of the tokens to average, in (0, 1]; the paper uses 0.2."""

    def __post_init__(self) -> None:
        check_fraction("fraction", self.fraction, hint="0.2 is the paper's value")

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return the mean of the smallest log-probabilities of each text, in nats per token."""
        signals = run.tokens(target, split)
        check_scored(signals)
        # Equation 1 of the paper.
        pieces = signals.ragged(signals.logprob)
        values = (smallest_mean(piece, self.fraction) for piece in pieces)
        return Scores(split.ids, np.fromiter(values, np.float64, len(split)), unit="nats/token")
