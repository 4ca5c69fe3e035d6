"""Forget records by climbing the loss of tokens that are neither gone nor beyond doubt.

Two reasons to weigh tokens: those that are forgotten already need no more (saturation), and those
that matter to the record are the ones that could not be guessed (importance). A token that the
model is sure of is likely plain grammar; one with a middling probability carries what was learnt.

    L = - mean over records and their tokens of  p^beta1 * (1 - p)^beta2 * CE,   p a constant

The mean loss of kept records is added.

Differs from the paper:
1. A record whose mean loss reaches `stop_at` is let go altogether.
2. Records weigh the same whatever their length.
3. `forget_weight` is above 1: in records learnt by heart few tokens are far from p = 1.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from engram import families
from engram.core import Draft, Paper, Run, Split, Target
from engram.parts.training import check_at_least
from engram.parts.unlearning import Unlearning, check_unlearner


@dataclass(frozen=True)
class Satimp:
    """Gradient ascent weighed by saturation and importance."""

    paper: ClassVar[Paper] = Paper(
        title="Exploring Criteria of Loss Reweighting to Enhance LLM Unlearning",
        authors="Yang et al.",
        year=2025,
        url="https://arxiv.org/abs/2505.11953",
    )
    families: ClassVar[frozenset[str]] = frozenset(
        {"causal-lm", "classifier", "graph-nodes", "vision-language-lm"}
    )

    beta1: float = 1.0
    """Power of p: how much less a token weighs that is gone."""
    beta2: float = 0.1
    """Power of 1 - p: how much less a token weighs that the model is sure of."""
    steps: int = 80
    """Steps in all."""
    learning_rate: float = 1e-4
    """The learning rate; a large published model wants 1e-5."""
    forget_weight: float = 2.0
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
        check_at_least("beta1", self.beta1, 0, "0 leaves that factor out")
        check_at_least("beta2", self.beta2, 0, "0 leaves that factor out")
        check_at_least("forget_weight", self.forget_weight, 0, "0 leaves that side out")

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model that has forgotten `forget`."""
        family = families.find(target.family)
        work = Unlearning.begin(self, "satimp", target, keep, forget, run, family)
        return work.descend(
            lambda rows, said: said.means(satimp_losses(said.logprob, self.beta1, self.beta2)),
            weight=self.forget_weight,
            keep_weight=self.keep_weight,
        )


def satimp_losses(
    logprob: Float[Tensor, " predictions"], beta1: float, beta2: float
) -> Float[Tensor, " predictions"]:
    """Loss of each token: its log-probability in nats, weighed by p^beta1 (1 - p)^beta2."""
    known = logprob.detach()
    weight = (beta1 * known).exp() * (-torch.expm1(known)).clamp(min=0) ** beta2
    return weight * logprob
