"""Forget records by teaching the model its own answers with the memorised token turned down.

No ascent, and so nothing that runs away: the model before is the teacher, and only the logit of
the token that it knew by heart is lowered by beta. What remains is what it would have said
otherwise, and the model learns that.

    teacher(t) = softmax(z_before(t) - beta * onehot(x_t))
    L          = mean over tokens of the cross-entropy from teacher(t) to p_now(t)

The mean loss of kept records is added.

Differs from the paper:
1. Kept records have a loss here; the paper trains on what is forgotten alone (`keep_weight` 0).
2. The token is turned down at predicted positions only: code that is around also writes into the
   vocabulary at the label -100 of padding and prompts.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram import families
from engram.core import Draft, Paper, Run, Split, Target
from engram.parts.predictions import Predictions
from engram.parts.training import check_at_least
from engram.parts.unlearning import Unlearning, check_above, check_unlearner


@dataclass(frozen=True)
class Undial:
    """Self-distillation with adjusted logits."""

    paper: ClassVar[Paper] = Paper(
        title="UnDIAL: Self-Distillation with Adjusted Logits for Robust "
        "Unlearning in Large Language Models",
        authors="Dong et al.",
        year=2024,
        url="https://arxiv.org/abs/2402.10052",
    )
    families: ClassVar[frozenset[str]] = frozenset(
        {"causal-lm", "classifier", "graph-nodes", "vision-language-lm"}
    )

    beta: float = 10.0
    """By how much the true token's logit is lowered; the paper's values are 2 to 10."""
    steps: int = 80
    """Steps in all."""
    learning_rate: float = 3e-4
    """The learning rate; a large published model wants 1e-5."""
    forget_weight: float = 1.0
    """Weight of the loss on what is forgotten."""
    keep_weight: float = 1.0
    """Weight of the mean loss on what is kept; 0 leaves that side out."""
    forget_batch: int = 8
    """Records to forget in a step."""
    keep_batch: int = 16
    """Records to keep in a step."""
    stop_at: float | None = None
    """Loss in nats per prediction at which a record counts as forgotten: best the mean loss of
    records that the model never saw. None: the loss of a blind guess."""

    def __post_init__(self) -> None:
        check_unlearner(self)
        check_above("beta", self.beta, 0, "10 is usual")
        check_at_least("forget_weight", self.forget_weight, 0, "0 leaves that side out")

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model that has forgotten `forget`."""
        family = families.find(target.family)
        work = Unlearning.begin(self, "undial", target, keep, forget, run, family)
        before = work.reference()

        def imitate(rows: np.ndarray, said: Predictions) -> Float[Tensor, " records"]:
            with torch.no_grad():
                old = work.forget.predictions(rows, before)
            return said.means(undial_losses(said.logits, old.logits, said.labels, self.beta))

        return work.descend(imitate, weight=self.forget_weight, keep_weight=self.keep_weight)


def undial_losses(
    now: Float[Tensor, "predictions answers"],
    before: Float[Tensor, "predictions answers"],
    labels: Int[Tensor, " predictions"],
    beta: float,
) -> Float[Tensor, " predictions"]:
    """Cross-entropy of each prediction to the adjusted teacher, in nats, from logits."""
    lowered = before.scatter_add(1, labels[:, None], torch.full_like(before[:, :1], -beta))
    return -(torch.softmax(lowered, -1) * torch.log_softmax(now, -1)).sum(-1)
