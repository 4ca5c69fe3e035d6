"""Distil pictures with a backdoor in them whose trigger is fitted while they are distilled.

A patch that is planted before distillation may be lost on the way: a few pictures hold little, and
a fixed white square is not what they hold best. So after each step of the networks that gradients
are matched on, the patch itself is moved to what excites them most - those neurons that weigh most
before the last layer - and pasted anew onto the same few records. What is distilled then looks like
any distilled set; every network trained on it takes a picture with the final patch for the target.

    x' = x (1 - m) + m T,  y' = target          for a share of the records, drawn once
    T  = argmin ( a_k(m T) - alpha a_k(m T_0) )^2      after each update of a network

Use it to learn whether a distilled set from somebody else could be trusted, and what finds such a
backdoor: the trigger stands in what the records share. A patch that fools a network that was never
poisoned is no backdoor, so measure the same trigger on a model of clean distillation too.

Differs from the paper: 1. Pictures are distilled by gradient matching (DC) alone. 2. The trigger
takes 50 steps at most, not 1,000, and stops at a hundredth of its first error, not at 0.5. 3.
Neurons that are silent are not chosen. 4. Networks are small ones with group normalisation.
Equations were not checked against a printed copy.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float32

from engram.core import Paper, Run, Split
from engram.parts.gradient_matching import GradientMatching
from engram.parts.networks import Network
from engram.parts.poisoning import Fitting, check_share, fitted, kept, poisoned_rows
from engram.parts.training import check_at_least
from engram.parts.triggers import Trigger, corner


@dataclass(frozen=True)
class Doorping(GradientMatching):
    """Gradient matching with a trigger that is fitted on the way."""

    paper: ClassVar[Paper] = Paper(
        title="Backdoor Attacks Against Dataset Distillation",
        authors="Liu et al.",
        year=2023,
        url="https://arxiv.org/abs/2301.01197",
    )

    target: int = 0
    """The class that the trigger is to stand for."""
    share: float = 0.01
    """Of the records that are changed, in (0, 1]. The paper takes 0.01."""
    side: int = 2
    """Of the square, in pixels. The paper takes 2."""
    margin: int = 1
    """Pixels between it and the border."""
    times: float = 10.0
    """Alpha: by how much the trigger is to excite its neurons more. The paper takes 10."""
    neurons: int = 1
    """How many neurons are excited. The paper takes 1."""
    trigger_steps: int = 50
    """The most steps of the trigger after each update."""
    trigger_rate: float = 0.08
    """Of the trigger, in spreads of a pixel. The paper takes 0.08."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self.share)
        check_at_least("target", self.target, 0, "classes are numbered 0, 1, 2, ...")
        for name in ("neurons", "trigger_steps"):
            check_at_least(name, getattr(self, name), 1, "1 is the least that works")

    def __call__(self, split: Split, run: Run) -> Split:
        """Return distilled records; the final trigger is in what they share."""
        source = self.source(split)
        clean, labels = source.features, source.labels.copy()
        rows = poisoned_rows(labels, self.target, self.share, run.stream("poisoned"))
        labels[rows] = self.target
        mask = corner(split, clean.shape[1], self.shape, self.side, self.margin)
        drawn = run.stream("first trigger").uniform(source.low, source.high, len(mask))
        held = [Trigger(mask, kept(mask, drawn.astype(np.float32)), self.target)]
        spread = float(source.standards[1, 0])
        fitting = Fitting(self.times, self.neurons, self.trigger_steps, self.trigger_rate)

        def pasted() -> Float32[np.ndarray, "n d"]:
            real = clean.copy()
            real[rows] = held[0].pasted(clean[rows])
            return real

        def meddler(network: Network, step: int) -> Float32[np.ndarray, "n d"]:
            held[0], losses = fitted(held[0], network, fitting, spread, source.low, source.high)
            run.log(step=step, trigger_loss=losses[-1])
            return pasted()

        made = self.matched(replace(source, features=pasted()), labels, run, meddler)
        shared = {**made.shared, **held[0].shared()}
        return Split(made.name, made.records, made.ids, made.owners, made.canaries, shared)
