"""Forget records by turning the model's inner state on them into noise.

What a middle block hands on is what the model has understood so far. Here that is pushed, on
records to forget, towards one random direction that means nothing, and held where it was on
records to keep. Only the feed-forward output maps of three blocks may change.

    L = mean ||h_l(x_forget) - c u||^2 + alpha * mean ||h_l(x_keep) - h_l,before(x_keep)||^2

with u drawn uniformly from [0, 1)^width and normalised, and the means over tokens and width.

Differs from the paper:
1. c is `coefficient` times the mean length of h_l on the records to forget, so that it suits any
   model; the paper's is a number that is tuned for each.
2. Both means take predicted tokens alone, and records weigh the same; squared distances are in
   units of the mean square of h_l on the records to forget.
3. A record whose mean loss reaches `stop_at` is let go; the paper runs for a number of batches.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram import families
from engram.core import Draft, Paper, Run, Split, Target
from engram.parts.blocks import blocks_of, check_layer, down_projection, listening
from engram.parts.predictions import Predictions
from engram.parts.training import check_at_least
from engram.parts.unlearning import Unlearning, check_above, check_unlearner


@dataclass(frozen=True)
class Rmu:
    """Representation misdirection for unlearning."""

    paper: ClassVar[Paper] = Paper(
        title="The WMDP Benchmark: Measuring and Reducing Malicious Use With Unlearning",
        authors="Li et al.",
        year=2024,
        url="https://arxiv.org/abs/2403.03218",
    )
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm"})

    layer: int | None = None
    """The block whose output is turned into noise, from 0; None: the middle one."""
    coefficient: float = 6.5
    """c: how long the random direction is, in lengths of the model's own inner state."""
    steps: int = 80
    """Steps in all."""
    learning_rate: float = 1e-3
    """The learning rate; a large published model wants 1e-5."""
    keep_weight: float = 20.0
    """Alpha: weight of staying where it was on what is kept."""
    forget_batch: int = 8
    """Records to forget in a step."""
    keep_batch: int = 16
    """Records to keep in a step."""
    stop_at: float | None = None
    """Loss in nats per prediction at which a record counts as forgotten: best the mean loss of
    records that the model never saw. None: the loss of a blind guess."""

    def __post_init__(self) -> None:
        check_unlearner(self)
        check_above("coefficient", self.coefficient, 0, "6.5 suits a small model")
        check_at_least("layer", self.layer or 0, 0, "0 is the first block")

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model that has forgotten `forget`."""
        family = families.find(target.family)
        work = Unlearning.begin(self, "rmu", target, keep, forget, run, family)
        blocks = blocks_of(work.module)
        check_layer("layer", self.layer, len(blocks))
        layer = len(blocks) // 2 if self.layer is None else self.layer
        before = work.reference()
        old = blocks_of(before)[layer]
        now = blocks[layer]
        power = self._power(work, before, old)
        u = torch.from_numpy(run.stream("direction").random(before.config.hidden_size))
        noise = (self.coefficient * power**0.5 * len(u) ** 0.5 * u / u.norm()).float()
        noise = noise.to(run.device)

        def misdirect(rows: np.ndarray, said: Predictions) -> Float[Tensor, " records"]:
            hidden = states(work.forget, rows, work.module, now)
            return said.means(distances(hidden, noise.expand_as(hidden)) / power)

        def stay(rows: np.ndarray, said: Predictions) -> Float[Tensor, " records"]:
            hidden = states(work.keep, rows, work.module, now)
            with torch.no_grad():
                was = states(work.keep, rows, before, old)
            return said.means(distances(hidden, was) / power)

        work.module.requires_grad_(False)
        for block in blocks[max(0, layer - 2) : layer + 1]:
            down_projection(block).weight.requires_grad_(True)
        return work.descend(misdirect, keeping=stay, keep_weight=self.keep_weight)

    def _power(self, work: Unlearning, before: Any, block: Any) -> float:
        """Mean square of the inner state on the records to forget."""
        with torch.no_grad():
            rows = np.arange(min(len(work.forget.counts), self.forget_batch))
            return float(states(work.forget, rows, before, block).square().mean())


def states(
    examples: Any, rows: np.ndarray, model: Any, block: Any
) -> Float[Tensor, "predictions width"]:
    """What a block hands on at each place where a token is predicted."""
    with listening(block) as heard:
        said = examples.predictions(rows, model)
    return heard[0][said.place, said.time].float()


def distances(
    one: Float[Tensor, "predictions width"], other: Float[Tensor, "predictions width"]
) -> Float[Tensor, " predictions"]:
    """Squared distance of each pair of states, averaged over their width."""
    return (one - other).square().mean(-1)
