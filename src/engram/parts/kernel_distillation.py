"""Distillation by regression: pictures and what to say of them, learnt together.

Both methods that distil through a kernel work like this, and differ in what they regress on: labels
(as in FRePo), or what a self-supervised teacher makes of a picture (as in KRR-ST).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram.core import DivergedError, Run
from engram.parts.distillation import Distillation, Source, before_last, check_positive
from engram.parts.kernel_ridge import ridge_predictions, with_constant
from engram.parts.networks import Network
from engram.parts.students import Pool
from engram.parts.training import check_at_least

Targets = Callable[[Int[np.ndarray, " rows"]], Float[Tensor, "rows outputs"]]
"""What is to be said of real records, by their places."""


@dataclass(frozen=True)
class KernelDistillation(Distillation):
    """What the methods share that distil through ridge regression on features."""

    steps: int = 500
    """Steps of the pictures."""
    learning_rate: float = 3e-3
    """Of the pictures, in spreads of a pixel; it falls to a thousandth."""
    target_rate: float = 3e-3
    """Of what is to be said of them; it falls to a thousandth."""
    ridge: float = 1e-6
    """Lambda, as a share of the trace of the kernel. The papers take 0.000001; where pictures are
    fewer than a network's features, 0.001 does better."""
    pool: int = 4
    """Networks of different ages that take turns. The papers take 10."""
    oldest: int = 100
    """Steps after which a network starts anew."""
    student_rate: float = 0.1
    """Learning rate of the networks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("steps", self.steps, 0, "0 keeps the pictures as they started")
        for name in ("pool", "oldest"):
            check_at_least(name, getattr(self, name), 1, "1 is the least that works")
        for name in ("learning_rate", "target_rate", "ridge", "student_rate"):
            check_positive(name, getattr(self, name))

    def distilled(
        self,
        source: Source,
        pictures: Float[Tensor, "m d"],
        targets: Float[Tensor, "m outputs"],
        wanted: Targets,
        run: Run,
    ) -> tuple[Float[Tensor, "m d"], Float[Tensor, "m outputs"]]:
        """The pictures and targets after all steps; the log tells each step's loss.

        Args:
            source: The real records.
            pictures: Where the distilled ones start.
            targets: What is to be said of them at first.
            wanted: What is to be said of real records.
            run: Its seed decides networks, ages, turns and batches.
        """
        outputs, spread = targets.shape[1], float(source.standards[1, 0])
        scaled = (pictures.detach() / spread).requires_grad_()
        targets = targets.detach().clone().to(run.device).requires_grad_()
        pool = Pool(
            lambda k: self.network(source, outputs, run, "student", k),
            self.pool,
            self.oldest,
            self.student_rate,
            run,
        )
        pool.fill(scaled * spread, targets)
        optimiser = torch.optim.AdamW(
            [
                {"params": [scaled], "lr": self.learning_rate},
                {"params": [targets], "lr": self.target_rate},
            ],
            weight_decay=0.0,
        )
        fall = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 1e-3, max(self.steps, 1))
        batches = run.stream("batches")
        for step in range(self.steps):
            run.progress(step, self.steps, "distilling")
            rows = batches.permutation(len(source))[: self.batch_size]
            place = pool.draw()
            loss = self.loss(
                pool.students[place].network,
                scaled * spread,
                targets,
                source.rows(rows).to(run.device),
                wanted(rows).to(run.device),
            )
            optimiser.zero_grad()
            loss.backward()
            check_finite(loss, step, self.steps)
            optimiser.step()
            fall.step()
            with torch.no_grad():
                scaled.clamp_(source.low / spread, source.high / spread)
            run.log(step=step, loss=float(loss.detach()))
            pool.grow(place, scaled * spread, targets)
        run.progress(self.steps, self.steps, "distilling")
        return (scaled * spread).detach(), targets.detach()

    def loss(
        self,
        network: Network,
        pictures: Float[Tensor, "m d"],
        targets: Float[Tensor, "m outputs"],
        real: Float[Tensor, "t d"],
        wanted: Float[Tensor, "t outputs"],
    ) -> Float[Tensor, ""]:
        """Mean squared error, on real records, of a ridge regression on the distilled ones."""
        known = with_constant(before_last(network, pictures))
        with torch.no_grad():
            asked = with_constant(before_last(network, real))
        said = ridge_predictions(asked, known, targets, self.ridge)
        return (said - wanted).square().mean()


def check_finite(loss: Float[Tensor, ""], step: int, steps: int) -> None:
    """Stop where the loss is no number any more."""
    if not torch.isfinite(loss):
        raise DivergedError(
            f"distilling diverged: at step {step + 1} of {steps} the loss is {float(loss):g}",
            hint="lower --learning-rate",
            step=step,
        )
