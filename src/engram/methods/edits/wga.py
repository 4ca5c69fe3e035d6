"""Forget records by climbing the loss of those of their tokens that are still likely.

The gradient of plain ascent is largest where a token is already gone, so it is spent on making
the unlikely impossible. Here each token weighs as much as it is likely: the climb is of what is
known, and ends by itself.

    L = - mean over records and their tokens of  p(x_t)^beta * CE(x_t),   p taken as a constant

The mean loss of kept records is added.

Differs from the paper:
1. A record whose mean loss reaches `stop_at` is let go altogether.
2. Records weigh the same whatever their length.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from engram import families
from engram.core import Draft, Paper, Run, Split, Target
from engram.parts.training import check_at_least
from engram.parts.unlearning import Unlearning, check_unlearner


@dataclass(frozen=True)
class Wga:
    """Weighted gradient ascent."""

    paper: ClassVar[Paper] = Paper(
        title="Rethinking LLM Unlearning Objectives: A Gradient Perspective and Go Beyond",
        authors="Wang et al.",
        year=2025,
        url="https://arxiv.org/abs/2502.19301",
    )
    families: ClassVar[frozenset[str]] = frozenset(
        {"causal-lm", "classifier", "graph-nodes", "vision-language-lm"}
    )

    beta: float = 1.0
    """How much less an unlikely token weighs; 0 is gradient ascent."""
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
        check_at_least("beta", self.beta, 0, "0 is gradient ascent")
        check_at_least("forget_weight", self.forget_weight, 0, "0 leaves that side out")

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model that has forgotten `forget`."""
        family = families.find(target.family)
        work = Unlearning.begin(self, "wga", target, keep, forget, run, family)
        return work.descend(
            lambda rows, said: said.means(wga_losses(said.logprob, self.beta)),
            weight=self.forget_weight,
            keep_weight=self.keep_weight,
        )


def wga_losses(
    logprob: Float[Tensor, " predictions"], beta: float
) -> Float[Tensor, " predictions"]:
    """Loss of each token: its log-probability in nats, weighed by p^beta, a constant."""
    return (beta * logprob.detach()).exp() * logprob
