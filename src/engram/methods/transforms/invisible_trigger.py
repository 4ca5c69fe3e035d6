"""Distil pictures with a backdoor whose trigger is a faint veil over the whole picture.

A patch in a corner can be seen on every picture that is to use the backdoor. A veil cannot: it is
added to all pixels and changes each of them by little. It begins as a picture of the target's own
class, strong enough to be learnt, and is moved after each step of the networks to what excites
them, as the patch of `doorping` is. The bound on its pixels shrinks meanwhile, and holds its last
value over the second half of the networks, so that what is distilled last is what is used later.

    x' = clip(x + T),  y' = target        for a share of the records, drawn once
    T  = argmin ( a_k(T) - alpha a_k(T_0) )^2  with  |T|_inf <= epsilon_t   after each update
    epsilon_t = epsilon + (1 - epsilon) max(0, 1 - 2 t / steps)             in ranges of a pixel

Differs from the paper: 1. Pictures are distilled by gradient matching (DC) alone. 2. How the bound
shrinks, and its last value, are ours: the paper was known to us by a summary. 3. Veiled pictures
stay in the range of a pixel. 4. Otherwise as `doorping` does.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import EngramError, Paper, Run, Split
from engram.parts.backdoored_distillation import BackdooredDistillation
from engram.parts.distillation import Source
from engram.parts.triggers import Trigger


@dataclass(frozen=True)
class InvisibleTrigger(BackdooredDistillation):
    """Gradient matching with an additive trigger whose bound shrinks on the way."""

    paper: ClassVar[Paper] = Paper(
        title="Backdoor Attacks Against Dataset Distillation",
        authors="Liu et al.",
        year=2023,
        url="https://arxiv.org/abs/2301.01197",
    )

    epsilon: float = 0.1
    """The most that the final trigger adds to a pixel, in ranges of a pixel, in (0, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.epsilon <= 1:
            raise EngramError(
                f"epsilon is {self.epsilon}, but must be in (0, 1]",
                hint="0.03 is hard to see on photographs, 0.1 on small digits",
            )

    def __call__(self, split: Split, run: Run) -> Split:
        """Return distilled records; the final trigger is in what they share."""
        source = self.source(split)
        steps = self.networks * self.rounds - 1 if self.rounds > 1 else 0

        def ends(step: int) -> tuple[float, float]:
            size = bound(self.epsilon, step, max(0, steps)) * (source.high - source.low)
            size = float(np.nextafter(np.float32(size), np.float32(0)))  # rounding stays inside
            return -size, size

        first = self._first(source, ends(0), run)
        return self.backdoored(source, first, lambda step: ends(step + 1), run)

    def _first(self, source: Source, ends: tuple[float, float], run: Run) -> Trigger:
        """A picture of the target's class, as what is added to others."""
        own = np.flatnonzero(source.labels == self.target)
        if not len(own):
            raise EngramError(
                f"no record of split {source.split.name!r} is of the class {self.target}",
                hint="the trigger begins as a picture of it; choose another --target",
            )
        picture = source.features[run.stream("first trigger").choice(own)] - source.low
        values = np.clip(picture, *ends).astype(np.float32)
        mask = np.ones_like(values)
        return Trigger(mask, values, self.target, (source.low, source.high))


def bound(epsilon: float, step: int, steps: int) -> float:
    """The most that may be added after a step, in ranges of a pixel: from 1 down to epsilon.

    Args:
        epsilon: The last bound, kept from half of the steps on.
        step: How many were taken.
        steps: How many there are; without any, epsilon holds at once.
    """
    return epsilon + (1 - epsilon) * (max(0.0, 1 - 2 * step / steps) if steps else 0.0)
