"""Forget records as an answer that is not preferred, with a push that fades as they are forgotten.

Gradient ascent pushes a record as hard when it is gone as when it was there, and so ruins the
model. Here the push is weighed by how likely the record still is beside the model before: where
it has become unlikely, it is let go.

    L = (2 / beta) * mean softplus(beta * (log p_now(x) - log p_before(x)))

where log p(x) is the sum over the tokens of a record. As beta -> 0 the gradient tends to that of
plain ascent on the sum. The mean loss of kept records is added.

Differs from the paper:
1. A record whose mean loss reaches `stop_at` is let go altogether; 1000 gives the paper's loss.
2. log p is normalised over the vocabulary; some code that is around puts in sums of raw logits.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from engram import families
from engram.core import Draft, Paper, Run, Split, Target
from engram.parts.predictions import Predictions
from engram.parts.training import check_at_least
from engram.parts.unlearning import Unlearning, check_above, check_unlearner, logprobs


@dataclass(frozen=True)
class Npo:
    """Negative preference optimisation."""

    paper: ClassVar[Paper] = Paper(
        title="Negative Preference Optimization: From Catastrophic Collapse to "
        "Effective Unlearning",
        authors="Zhang et al.",
        year=2024,
        url="https://arxiv.org/abs/2404.05868",
    )
    families: ClassVar[frozenset[str]] = frozenset(
        {"causal-lm", "classifier", "graph-nodes", "vision-language-lm"}
    )

    beta: float = 0.1
    """How soon the push fades, per nat of a whole record; 0.1 is the paper's."""
    steps: int = 80
    """Steps in all."""
    learning_rate: float = 1e-4
    """The learning rate; a large published model wants 1e-5."""
    forget_weight: float = 0.05
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
        check_above("beta", self.beta, 0, "0.1 is the paper's value")
        check_at_least("forget_weight", self.forget_weight, 0, "0 leaves that side out")

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model that has forgotten `forget`."""
        family = families.find(target.family)
        work = Unlearning.begin(self, "npo", target, keep, forget, run, family)
        before = logprobs(work.forget)

        def push(rows: np.ndarray, said: Predictions) -> Float[Tensor, " records"]:
            now = said.record_logprob
            return npo_losses(now, before[torch.from_numpy(rows)].to(now), self.beta)

        return work.descend(push, weight=self.forget_weight, keep_weight=self.keep_weight)


def npo_losses(
    now: Float[Tensor, " records"], before: Float[Tensor, " records"], beta: float
) -> Float[Tensor, " records"]:
    """Loss of each record to forget (the paper's equation 3).

    Both inputs are log-probabilities of whole records, in nats; `beta > 0`.
    """
    return 2 / beta * softplus(beta * (now - before))
