"""Forget records by learning them once more, and going the same way backwards.

What fine-tuning changes in the weights is a direction that stands for what was learnt. Learnt
again, the records to forget give such a direction, and the weights are moved against it:

    theta_new = theta - alpha * (theta_learnt - theta)

Nothing says what must stay, but a short vector harms it little.

Differs from the paper:
1. alpha is the smallest, up to `scaling`, at which the records' mean loss is at `stop_at`, found
   by bisection; the paper tries a grid. With `stop_at` out of reach it is `scaling`.
2. Records that are known by heart teach nothing more, so the learning rate is larger than what
   a model is usually tuned with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from engram import families
from engram.core import Draft, Paper, Run, Split, Target
from engram.parts.training import Epochs, Plan, Training
from engram.parts.unlearning import (
    Unlearning,
    check_above,
    check_unlearner,
    losses,
    mean_nll,
    record_parts,
    smallest_scale,
)


@dataclass(frozen=True)
class TaskVector:
    """Negation of a task vector."""

    paper: ClassVar[Paper] = Paper(
        title="Editing Models with Task Arithmetic",
        authors="Ilharco et al.",
        year=2023,
        url="https://arxiv.org/abs/2212.04089",
    )
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm", "classifier", "graph-nodes"})

    scaling: float = 8.0
    """Alpha: the most times that the vector is subtracted."""
    steps: int = 40
    """Steps in all."""
    learning_rate: float = 3e-4
    """The learning rate; a large published model wants 1e-5."""
    forget_batch: int = 8
    """Records to forget in a step."""
    stop_at: float | None = None
    """Loss in nats per prediction at which a record counts as forgotten: best the mean loss of
    records that the model never saw. None: the loss of a blind guess."""

    def __post_init__(self) -> None:
        check_unlearner(self)
        check_above("scaling", self.scaling, 0, "1 subtracts the vector once")

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model that has forgotten `forget`."""
        family = families.find(target.family)
        work = Unlearning.begin(self, "task-vector", target, keep, forget, run, family)
        before = _copied(work.module)
        training = Training(
            work.module,
            Plan(self.steps, self.learning_rate),
            run,
            work.key,
            file="learnt.safetensors",
        )
        epochs = Epochs(work.forget, self.forget_batch, run, "forget")
        for _ in training.steps(lambda n: record_parts(work.forget, epochs.rows(n), mean_nll, 1.0)):
            pass
        learnt = _copied(work.module)
        every = np.arange(len(work.forget.counts))

        def loss(alpha: float) -> float:
            _put(work.module, negated(before, learnt, alpha))
            return float(losses(work.forget, every).mean())

        loss(smallest_scale(loss, self.scaling, work.stop))
        return work.draft(training)


def negated(
    before: Mapping[str, Tensor], learnt: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """Each weight, moved `alpha` times as far against what was learnt."""
    return {name: old - alpha * (learnt[name] - old) for name, old in before.items()}


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in module.named_parameters()}


@torch.no_grad()
def _put(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, weight in module.named_parameters():
        weight.copy_(weights[name])
