"""Score a text by its least likely tokens, each measured against what else could have stood there.

A log-probability of -5 is poor where the model was sure of another word, and good where
thousands of words were possible. So put every token's log-probability in units of the model's
own spread at that place, before the `fraction` smallest are averaged.

    z_t      = (log p(x_t | x_<t) - mu_t) / sigma_t
    mu_t     = sum over tokens v of p(v | x_<t) log p(v | x_<t)
    sigma_t  = standard deviation of log p(v | x_<t) for v drawn from p(. | x_<t)
    score(x) = mean of the ceil(fraction * T) smallest z_t

Differs from the paper: 1. We round the number of tokens up, so that a short text still has a
score. 2. A deviation below 1e-6 counts as 1e-6: where the model spreads its belief evenly, or
is wholly sure, the deviation is 0, and an expected token then has z = 0 rather than 0 / 0.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from engram.core import Access, Paper, Run, Scores, Split, Target
from engram.parts.token_scores import check_fraction, check_scored, smallest_mean

FLOOR = 1e-6


@dataclass(frozen=True)
class MinKPlusPlus:
    """Min-K%++: the smallest standardised token log-probabilities."""

    paper: ClassVar[Paper] = Paper(
        title="Min-K%++: Improved Baseline for Detecting Pre-Training Data from Large Language "
        "Models",
        authors="Zhang et al.",
        year=2024,
        url="https://arxiv.org/abs/2404.02936",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"

    fraction: float = 0.2
    """Share of the tokens to average, in (0, 1]; the paper uses 0.2."""

    def __post_init__(self) -> None:
        check_fraction("fraction", self.fraction, hint="0.2 is the paper's value")

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return the mean of the smallest z of each text, in standard deviations."""
        signals = run.tokens(target, split)
        check_scored(signals)
        values = np.zeros(len(split))
        columns = (signals.logprob, signals.mean, signals.deviation)
        for row, pieces in enumerate(zip(*map(signals.ragged, columns), strict=True)):
            z = standardised(*(np.asarray(piece, np.float64) for piece in pieces))
            values[row] = smallest_mean(z, self.fraction)
        return Scores(split.ids, values, unit="standard deviations")


def standardised(
    logprob: Float[np.ndarray, " tokens"],
    mean: Float[np.ndarray, " tokens"],
    deviation: Float[np.ndarray, " tokens"],
) -> Float[np.ndarray, " tokens"]:
    """Log-probabilities in units of the model's own deviation: the paper's z of a token."""
    return (logprob - mean) / np.maximum(deviation, FLOOR)
