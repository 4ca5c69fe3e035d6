"""The mathematics of SPV-MIA: how sharply a likelihood peaks at a text."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from engram.parts.paraphrasers.made import mean_by_row

Space = Literal["probability", "log"]
SPACES: tuple[Space, ...] = ("probability", "log")


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """What one model says of texts and of their paraphrases.

    Attributes:
        own: Mean log-probability of a token of each text, in nats.
        near: The same of each paraphrase.
        rows: Which text each paraphrase belongs to.
    """

    own: Float[np.ndarray, " n"]
    near: Float[np.ndarray, " m"]
    rows: Int[np.ndarray, " m"]

    @classmethod
    def of(cls, answers: Float[np.ndarray, "n answers"]) -> "Likelihoods":
        """From one row a text: its own value first, then those of its paraphrases."""
        n, count = answers.shape
        rows = np.repeat(np.arange(n), count - 1)
        return cls(answers[:, 0], answers[:, 1:].ravel(), rows)

    def in_space(self, space: Space) -> "Likelihoods":
        """Log-probabilities as they are, or the geometric mean of the tokens' probabilities."""
        if space == "log":
            return self
        # The mean over the tokens, as in the authors' code: exp of their sum would be 0.
        return Likelihoods(np.exp(self.own), np.exp(self.near), self.rows)


def variation(likelihoods: Likelihoods) -> Float[np.ndarray, " n"]:
    """Probabilistic variation: mean likelihood of the paraphrases minus that of the text.

    It is negative where the likelihood has a peak, and 0 for a text without paraphrases.
    """
    own, near, rows = likelihoods.own, likelihoods.near, likelihoods.rows
    return np.nan_to_num(mean_by_row(near, rows, len(own)) - own, nan=0.0)  # Section 4.3


def peak(likelihoods: Likelihoods, space: Space, vary: bool) -> Float[np.ndarray, " n"]:
    """Minus the variation, or without it the likelihood itself; higher speaks for a member."""
    placed = likelihoods.in_space(space)
    return -variation(placed) if vary else placed.own


def calibrated(
    target: Float[np.ndarray, " n"], reference: Float[np.ndarray, " n"] | None = None
) -> Float[np.ndarray, " n"]:
    """The target's peak minus the reference's, if there is a reference."""
    return target if reference is None else target - reference  # Section 4.2
