"""Forget records as an answer that is not preferred, judged by length and without a reference.

NPO compares with the model before, so records that it knew well and records that it hardly knew
are pushed alike far, and long ones as hard as short ones. This looks at the mean loss per token
alone: what is unlikely by now is let go, wherever it came from.

    L = (2 / beta) * mean softplus(gamma - beta * CE(x))

with CE(x) the mean negative log-likelihood per token. The mean loss of kept records is added.

Differs from the paper:
1. A record whose mean loss reaches `stop_at` is let go altogether.
2. As in the paper, gamma stands beside beta * CE; some code writes beta * (CE - delta) instead,
   which is the same with gamma = beta * delta.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from engram import families
from engram.core import Draft, Paper, Run, Split, Target
from engram.parts.training import check_at_least
from engram.parts.unlearning import Unlearning, check_above, check_unlearner


@dataclass(frozen=True)
class Simnpo:
    """Reference-free, length-normalised negative preference optimisation."""

    paper: ClassVar[Paper] = Paper(
        title="Simplicity Prevails: Rethinking Negative Preference Optimization for LLM Unlearning",
        authors="Fan et al.",
        year=2024,
        url="https://arxiv.org/abs/2410.07163",
    )
    families: ClassVar[frozenset[str]] = frozenset(
        {"causal-lm", "classifier", "graph-nodes", "vision-language-lm"}
    )

    beta: float = 2.5
    """How soon the push fades, per nat per token."""
    gamma: float = 0.0
    """Margin: the larger, the longer a record is pushed."""
    steps: int = 80
    """Steps in all."""
    learning_rate: float = 1e-4
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
        check_above("beta", self.beta, 0, "2.5 to 4.5 are the paper's values")
        check_at_least("gamma", self.gamma, 0, "0 is the paper's value")
        check_at_least("forget_weight", self.forget_weight, 0, "0 leaves that side out")

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model that has forgotten `forget`."""
        family = families.find(target.family)
        work = Unlearning.begin(self, "simnpo", target, keep, forget, run, family)
        return work.descend(
            lambda rows, said: simnpo_losses(said.nll, self.beta, self.gamma),
            weight=self.forget_weight,
            keep_weight=self.keep_weight,
        )


def simnpo_losses(
    nll: Float[Tensor, " records"], beta: float, gamma: float
) -> Float[Tensor, " records"]:
    """Loss of each record to forget, from its mean negative log-likelihood per token in nats."""
    return 2 / beta * softplus(gamma - beta * nll)
