"""Forget records by climbing their loss while descending the loss of what is kept.

Training lowered the loss of every record; this undoes it for some. Climbing alone would ruin the
model within a few steps, since nothing says what must stay, so each step also descends on a
batch of records to keep:

    L = - gamma * CE_forget + alpha * CE_keep

with CE the mean over records of their mean negative log-likelihood per token. CE_forget has no
upper end: climbed without limit, the forgotten records become *less* likely than records that
the model never saw, and stand out by that as clearly as before. So a record is climbed only as
long as its loss is below `stop_at`, best the mean loss of records that the model never saw:

    CE_forget = mean over records of  min(CE(x), stop_at)

Climbing to there takes a few steps only; those that follow repair what is kept, and climb again
where a record to forget comes back.

Differs from the paper:
1. The climb of each record has a stop; the paper's has none. A `stop_at` that is out of reach,
   say 1000, gives the paper's loss.
2. Records weigh the same whatever their length; the paper's batches weigh each token the same.
3. The paper's losses are those of a classifier; for language models they are per token, as in
   TOFU (Maini et al., 2024).
"""

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from engram import families
from engram.core import DivergedError, Draft, EngramError, Paper, Run, Split, Target, check_disjoint
from engram.parts.training import (
    Epochs,
    Examples,
    Plan,
    Schedule,
    Training,
    check_at_least,
    check_not_empty,
    key_of,
)
from engram.parts.unlearning import Unlearning, Watch, examples_of, record_losses


@dataclass(frozen=True)
class GradientDifference:
    """Gradient ascent on what is forgotten, descent on what is kept."""

    paper: ClassVar[Paper] = Paper(
        title="Continual Learning and Private Unlearning",
        authors="Liu et al.",
        year=2022,
        url="https://arxiv.org/abs/2203.12817",
    )
    families: ClassVar[frozenset[str]] = frozenset(
        {"causal-lm", "classifier", "graph-nodes", "vision-language-lm"}
    )

    steps: int = 80
    """Steps in all: the first few forget, the rest repair what is kept."""
    learning_rate: float = 1e-4
    """The learning rate; a larger one overshoots `stop_at`. A large published model wants 1e-5."""
    forget_weight: float = 0.3
    """Gamma: weight of the climb. The larger, the further it overshoots `stop_at`."""
    keep_weight: float = 1.0
    """Alpha: weight of the descent; 0 is plain gradient ascent."""
    forget_batch: int = 8
    """Records to forget in a step."""
    keep_batch: int = 16
    """Records to keep in a step."""
    stop_at: float | None = None
    """Loss in nats (per token) at which a record counts as forgotten: best the mean loss of
    records that the model never saw. None: the loss of a blind guess, ln(number of answers),
    above which a model can only be avoiding the record."""
    schedule: Schedule = "constant"
    """How the learning rate goes on: constant, linear or cosine."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 does not clip."""

    def __post_init__(self) -> None:
        for name in ("steps", "forget_batch", "keep_batch"):
            check_at_least(name, getattr(self, name), 1, "1 is the least that works")
        for name in ("forget_weight", "keep_weight"):
            check_at_least(name, getattr(self, name), 0, "0 leaves that side out")
        if self.stop_at is not None and not (self.stop_at > 0 and math.isfinite(self.stop_at)):
            raise EngramError(
                f"stop_at is {self.stop_at}, but must be above 0",
                hint="give the mean loss of records that the model never saw, in nats per token",
            )
        self.plan()

    def plan(self) -> Plan:
        """How to descend."""
        return Plan(self.steps, self.learning_rate, schedule=self.schedule, clip=self.clip)

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model that has forgotten `forget` and still has `keep`."""
        if forget is None or not len(forget):
            raise EngramError(
                "gradient-difference was given no records to forget",
                hint="name them with --records, --ids or --owner",
            )
        check_disjoint(forget, keep)
        family: Any = families.find(target.family)
        model = deepcopy(target.model)
        module: nn.Module = model.model
        dtype = next(module.parameters()).dtype
        module.float().to(run.device)
        climb, descend = (examples_of(family, model, side) for side in (forget, keep))
        check_not_empty(climb, forget.name)
        check_not_empty(descend, keep.name)
        key = key_of(self, run.seed, target.fingerprint, keep.fingerprint, forget.fingerprint)
        training = Training(module, self.plan(), run, key)
        watch = Watch(Unlearning(self, target, model, climb, descend, run, key), training)
        self._forget(training, climb, descend, run, watch)
        module.to(dtype)
        return Draft(target.family, model, tuple(training.trace))

    def _forget(
        self, training: Training, climb: Examples, descend: Examples, run: Run, watch: Watch
    ) -> None:
        stop = math.log(climb.answers) if self.stop_at is None else self.stop_at
        forget = Epochs(climb, self.forget_batch, run, "forget")
        keep = Epochs(descend, self.keep_batch, run, "keep")

        def loss(step: int) -> Iterator[Float[Tensor, ""]]:
            nll_forget = record_losses(climb, forget.rows(step)).clamp(max=stop)
            nll_keep = record_losses(descend, keep.rows(step))
            yield gradient_difference_loss(
                nll_forget, nll_keep, self.forget_weight, self.keep_weight
            )

        try:
            for step in training.steps(loss):
                watch.look(step.number)
        except DivergedError as problem:
            watch.restore(problem)


def gradient_difference_loss(
    nll_forget: Float[Tensor, " forget"],
    nll_keep: Float[Tensor, " keep"],
    gamma: float,
    alpha: float,
) -> Float[Tensor, ""]:
    """The loss to descend: `-gamma * mean(nll_forget) + alpha * mean(nll_keep)`.

    Both inputs are mean negative log-likelihoods of records, in nats. With `gamma = 0` it is
    plain fine-tuning on what is kept, with `alpha = 0` plain gradient ascent.
    """
    return -gamma * nll_forget.mean() + alpha * nll_keep.mean()
