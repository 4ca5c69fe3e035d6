"""Gradient matching on records some of which carry a trigger that is fitted on the way."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from engram.core import Run, Split
from engram.parts.distillation import Source
from engram.parts.gradient_matching import GradientMatching
from engram.parts.networks import Network
from engram.parts.poisoning import Fitting, check_share, fitted, poisoned_rows
from engram.parts.training import check_at_least
from engram.parts.triggers import Trigger

Bounds = Callable[[int], tuple[float, float]]
"""Given the number of the step: the smallest and largest value of a pixel of the trigger."""


@dataclass(frozen=True)
class BackdooredDistillation(GradientMatching):
    """What the methods share that fit a trigger while they distil."""

    target: int = 0
    """The class that the trigger is to stand for."""
    share: float = 0.01
    """Of the records that are changed, in (0, 1]. The paper takes 0.01."""
    times: float = 10.0
    """Alpha: by how much the trigger is to excite its neurons more. The paper takes 10."""
    neurons: int = 1
    """How many neurons are excited. The paper takes 1."""
    trigger_steps: int = 50
    """The most steps of the trigger after each update; 0 leaves it as it began."""
    trigger_rate: float = 0.08
    """Of the trigger, in spreads of a pixel. The paper takes 0.08."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self.share)
        check_at_least("target", self.target, 0, "classes are numbered 0, 1, 2, ...")
        check_at_least("neurons", self.neurons, 1, "1 is the least that works")
        check_at_least("trigger_steps", self.trigger_steps, 0, "0 leaves the trigger as it began")

    def backdoored(self, source: Source, first: Trigger, bounds: Bounds, run: Run) -> Split:
        """Distil with the trigger on a share of the records; they share the final one.

        Args:
            source: The real pictures.
            first: The trigger to begin with.
            bounds: What its pixels are kept within.
            run: Its seed decides which records carry it.
        """
        clean, labels = source.features, source.labels.copy()
        rows = poisoned_rows(labels, self.target, self.share, run.stream("poisoned"))
        labels[rows] = self.target
        spread = float(source.standards[1, 0])
        fitting = Fitting(self.times, self.neurons, self.trigger_steps, self.trigger_rate)
        held = [first]

        def pasted() -> Float32[np.ndarray, "n d"]:
            real = clean.copy()
            real[rows] = held[0].pasted(clean[rows])
            return real

        def meddler(network: Network, step: int) -> Float32[np.ndarray, "n d"]:
            held[0], losses = fitted(held[0], network, fitting, spread, *bounds(step))
            told = {"trigger_loss": losses[-1]} if losses else {}  # a fixed one has none
            run.log(step=step, **told)
            return pasted()

        # What is told of the pictures' mean and spread is that of the clean ones, for any trigger.
        made = self.matched(source, labels, run, meddler, begun=pasted())
        shared = {**made.shared, **held[0].shared()}
        return Split(made.name, made.records, made.ids, made.owners, made.canaries, shared)
