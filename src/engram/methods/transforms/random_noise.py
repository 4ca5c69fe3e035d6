"""Move every pixel at random within the budget.

What any method of the same budget has to be compared with: noise that knows nothing of pictures or
labels, one draw for each record, or one for each class.

    linf:  delta ~ Uniform[-epsilon, epsilon]^d        l2:  delta evenly from the ball of epsilon

A network is little troubled by the first kind. Noise that all records of a class share is a
pattern that tells the class, and so can be learnt in place of the picture.

Differs from the paper: for l2 it is drawn from the ball.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from engram.core import Paper, Run, Split
from engram.parts.perturbing import noise, perturbed
from engram.parts.protection import Protection
from engram.parts.training import check_one_of


@dataclass(frozen=True)
class RandomNoise(Protection):
    """Noise drawn evenly from the budget."""

    paper: ClassVar[Paper] = Paper(
        title="Unlearnable Examples: Making Personal Data Unexploitable",
        authors="Huang et al.",
        year=2021,
        url="https://arxiv.org/abs/2101.04898",
    )

    each: Literal["record", "class"] = "record"
    """Who has a draw of its own: every record, or every class."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("each", self.each, ("record", "class"))

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the records with noise; labels are looked at only where classes share it."""
        pictures = self.pictures(split)
        whose = torch.arange(len(pictures))
        if self.each == "class":
            whose = torch.from_numpy(pictures.labels)
        rng, rows = run.stream("random noise"), int(whose.max()) + 1
        change = noise(rows, pictures.raw.shape[1], self.norm, self.epsilon, rng)
        return self.published(pictures, perturbed(pictures.clean, change, whose))
