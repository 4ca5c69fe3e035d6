"""Forget records by climbing their loss, and do nothing else.

Training lowered the loss of the records; this takes steps the other way. Nothing says what must
stay, so the whole model suffers with them, and soon: it is the first thing that was tried, and the
one that all others are compared with.

    L = - mean over records of  min(CE(x), stop_at)

with CE the mean negative log-likelihood per token. The run ends when the mean loss of the records
reaches `stop_at`, best that of records that the model never saw.

Differs from the paper:
1. The climb has a stop; the paper's goes on for a number of epochs. A `stop_at` that is out of
   reach, say 1000, gives the paper's loss.
2. Records weigh the same whatever their length.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from engram import families
from engram.core import Draft, Paper, Run, Split, Target
from engram.parts.unlearning import Unlearning, check_unlearner


@dataclass(frozen=True)
class GradientAscent:
    """Plain gradient ascent on what is forgotten."""

    paper: ClassVar[Paper] = Paper(
        title="Knowledge Unlearning for Mitigating Privacy Risks in Language Models",
        authors="Jang et al.",
        year=2023,
        url="https://arxiv.org/abs/2210.01504",
    )
    families: ClassVar[frozenset[str]] = frozenset(
        {"causal-lm", "classifier", "graph-nodes", "vision-language-lm"}
    )

    steps: int = 80
    """The most steps; it ends where everything is forgotten."""
    learning_rate: float = 3e-5
    """The learning rate; a large published model wants 1e-5."""
    forget_batch: int = 8
    """Records to forget in a step."""
    stop_at: float | None = None
    """Loss in nats per prediction at which a record counts as forgotten: best the mean loss of
    records that the model never saw. None: the loss of a blind guess."""

    def __post_init__(self) -> None:
        check_unlearner(self)

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model that has forgotten `forget`."""
        family = families.find(target.family)
        work = Unlearning.begin(self, "gradient-ascent", target, keep, forget, run, family)
        return work.descend(lambda rows, said: gradient_ascent_losses(said.nll))


def gradient_ascent_losses(nll: Float[Tensor, " records"]) -> Float[Tensor, " records"]:
    """The loss of each record to forget: minus its mean negative log-likelihood, in nats."""
    return -nll
