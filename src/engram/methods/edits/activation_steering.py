"""Forget records by steering every thought away from them, with one vector.

Where a block hands on something else for records to forget than for others, the difference of the
two means is a direction that stands for those records. Subtract it from everything that the block
hands on, and the model is led away from them, whatever it is asked:

    h_l <- h_l + v,    v = - s * (mean h_l(x_forget) - mean h_l(x_keep))

Records that are written alike hardly differ in the mean. So by default v is found by a few steps
of descent, everything else frozen, on  - min(CE(x_forget), stop_at) + alpha * CE(x_keep).

A vector that is added to all states is a bias: it is folded into the one that the block's
feed-forward part has already, so the result is an ordinary model. Nothing is removed from the
weights, and whoever knows the vector takes it off again: this suppresses.

Differs from the paper:
1. v is found by descent; `steps` 0 takes the paper's difference.
2. The two means are over many records and all predicted tokens; the paper takes one pair of
   prompts.
3. s is the smallest, up to `strength`, at which the records' mean loss is at `stop_at`, found by
   bisection; the paper tries several. With `stop_at` out of reach it is `strength`.
4. The vector is added at all places of a text; the paper adds it at the first few.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import families
from engram.core import Draft, EngramError, Paper, Run, Split, Target
from engram.parts.blocks import blocks_of, check_layer, down_projection, listening
from engram.parts.training import check_at_least
from engram.parts.unlearning import (
    Unlearning,
    check_above,
    check_layer_number,
    check_unlearner,
    losses,
    smallest_scale,
)

BATCH = 16
"""Records that are read together."""


@dataclass(frozen=True)
class ActivationSteering:
    """A steering vector, folded into a bias."""

    paper: ClassVar[Paper] = Paper(
        title="Steering Language Models With Activation Engineering",
        authors="Turner et al.",
        year=2023,
        url="https://arxiv.org/abs/2308.10248",
    )
    promise: ClassVar[str] = "suppression"
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm"})

    layer: int | None = None
    """The block whose output is steered, from 0; None: the one after a third."""
    strength: float = 8.0
    """The most times that the difference of the means is subtracted."""
    steps: int = 80
    """Steps in which the vector is found; 0 takes the difference of the means."""
    learning_rate: float = 1e-2
    """The learning rate of that search."""
    keep_weight: float = 1.0
    """Alpha: weight of the mean loss on what is kept, in that search."""
    forget_batch: int = 8
    """Records to forget in a step."""
    keep_batch: int = 16
    """Records to keep in a step."""
    stop_at: float | None = None
    """Loss in nats per prediction at which the records count as forgotten: best the mean loss of
    records that the model never saw. None: the loss of a blind guess."""

    def __post_init__(self) -> None:
        check_at_least("steps", self.steps, 0, "0 takes the difference of the means")
        check_unlearner(replace(self, steps=1) if not self.steps else self)
        check_above("strength", self.strength, 0, "1 moves one mean onto the other")
        check_layer_number(self.layer)

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model that is led away from `forget`."""
        family = families.find(target.family)
        work = Unlearning.begin(self, "activation-steering", target, keep, forget, run, family)
        blocks = blocks_of(work.module)
        check_layer("layer", self.layer, len(blocks))
        block = blocks[len(blocks) // 3 if self.layer is None else self.layer]
        bias = _bias(down_projection(block))
        if self.steps:
            work.module.requires_grad_(False)
            bias.requires_grad_(True)
            return work.descend(lambda rows, said: -said.nll, keep_weight=self.keep_weight)
        forgotten, kept = (mean_state(each, block) for each in (work.forget, work.keep))
        away, start = forgotten - kept, bias.detach().clone()
        every = np.arange(len(work.forget.counts))

        def loss(scale: float) -> float:
            with torch.no_grad():
                bias.copy_(start - scale * away)
            return float(losses(work.forget, every).mean())

        loss(smallest_scale(loss, self.strength, work.stop))
        return work.draft()


def mean_state(examples: Any, block: nn.Module) -> Float[Tensor, " width"]:
    """The mean of what a block hands on over all predicted tokens."""
    total, count = torch.zeros(()), 0
    with torch.no_grad():
        for first in range(0, len(examples.counts), BATCH):
            rows = np.arange(first, min(first + BATCH, len(examples.counts)))
            with listening(block) as heard:
                said = examples.predictions(rows)
            states = heard[0][said.place, said.time]
            total, count = total.to(states) + states.sum(0), count + len(states)
    return total / count


def _bias(linear: Any) -> nn.Parameter:
    if linear.bias is None:
        raise EngramError(
            "this model's feed-forward maps have no bias that a steering vector could be put into",
            hint="choose a model that has one (GPT-2, OPT, Pythia), or another unlearner: rmu",
        )
    return linear.bias
