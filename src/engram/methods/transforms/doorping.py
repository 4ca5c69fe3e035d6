"""Distil pictures with a backdoor in them whose trigger is fitted while they are distilled.

A patch that is planted before distillation may be lost on the way: a few pictures hold little, and
a fixed white square is not what they hold best. So after each step of the networks that gradients
are matched on, the patch itself is moved to what excites them most - those neurons that weigh most
before the last layer - and pasted anew onto the same few records. What is distilled then looks like
any distilled set; a network trained on it is meant to take a picture with the final patch for the
target.

    x' = x (1 - m) + m T,  y' = target          for a share of the records, drawn once
    T  = argmin ( a_k(m T) - alpha a_k(m T_0) )^2      after each update of a network

How far the patch may leave the range of a pixel decides what it wins. The published code sets no
bound, and patches end at many times the brightest pixel; then the backdoor hardly ever fails, but
no picture could carry it. Here a patch stays within the range unless `reach` lets it go.

Use it to learn whether a distilled set from somebody else could be trusted, and what finds such a
backdoor: the trigger stands in what the records share. A patch that fools a network that was never
poisoned is no backdoor, so measure the same trigger on a model of clean distillation too.

Differs from the paper: 1. Pictures are distilled by gradient matching (DC) alone. 2. The trigger
takes 50 steps at most, not 1,000, and stops at a hundredth of its first error, not at 0.5. 3.
Neurons that are silent are not chosen. 4. Distilled pictures stay in the range of a pixel, and so
does the trigger, as long as `reach` is 0. 5. Networks are small ones, without batch normalisation.
Equations were not checked against a printed copy.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from engram.core import Paper, Run, Split
from engram.parts.backdoored_distillation import BackdooredDistillation
from engram.parts.poisoning import kept
from engram.parts.training import check_at_least, check_one_of
from engram.parts.triggers import Trigger, corner


@dataclass(frozen=True)
class Doorping(BackdooredDistillation):
    """Gradient matching with a patch that is fitted on the way."""

    paper: ClassVar[Paper] = Paper(
        title="Backdoor Attacks Against Dataset Distillation",
        authors="Liu et al.",
        year=2023,
        url="https://arxiv.org/abs/2301.01197",
    )

    side: int = 2
    """Of the square, in pixels. The paper takes 2."""
    margin: int = 1
    """Pixels between it and the border."""
    reach: float = 0.0
    """How far the patch may leave the range of a pixel on either side, in such ranges. 0: not at
    all, so that a picture can carry it. The published code sets no bound."""
    begin: Literal["random", "white"] = "random"
    """What the patch starts as: random pixels, or all at the largest value that it may have."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("reach", self.reach, 0, "0 keeps the patch within the range of a pixel")
        check_one_of("begin", self.begin, ("random", "white"))

    def __call__(self, split: Split, run: Run) -> Split:
        """Return distilled records; the final trigger is in what they share."""
        source = self.source(split)
        mask = corner(split, source.features.shape[1], self.shape, self.side, self.margin)
        further = self.reach * (source.high - source.low)
        low, high = source.low - further, source.high + further
        drawn = run.stream("first trigger").uniform(source.low, source.high, len(mask))
        if self.begin == "white":
            drawn = np.full(len(mask), high)
        first = Trigger(mask, kept(mask, drawn.astype(np.float32)), self.target)
        return self.backdoored(source, first, lambda _: (low, high), run)
