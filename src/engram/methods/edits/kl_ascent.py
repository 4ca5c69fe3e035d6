"""Forget records by climbing their loss, while what is said of all others stays word for word.

Plain ascent ruins a model. Here it is held to what it was: on records to keep, its distribution
over the next token is to stay that of the model before. That asks for more than a low loss on
them: it must doubt what it doubted.

    L = - CE_forget + alpha * mean over kept records and their tokens of  KL(p_before || p_now)

Differs from the paper:
1. The climb of each record stops at `stop_at`.
2. The divergence is averaged over the tokens that are predicted, then over records: padding and
   prompts have no part in it.
3. The divergence goes from the model before to the model now; some code that is around does it
   the other way, or on logits that were not normalised.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram import families
from engram.core import Draft, Paper, Run, Split, Target
from engram.parts.predictions import Predictions, divergences
from engram.parts.training import check_at_least
from engram.parts.unlearning import Unlearning, check_unlearner


@dataclass(frozen=True)
class KlAscent:
    """Gradient ascent, held to the old model where records are kept."""

    paper: ClassVar[Paper] = Paper(
        title="TOFU: A Task of Fictitious Unlearning for LLMs",
        authors="Maini et al.",
        year=2024,
        url="https://arxiv.org/abs/2401.06121",
    )
    families: ClassVar[frozenset[str]] = frozenset(
        {"causal-lm", "classifier", "graph-nodes", "vision-language-lm"}
    )

    steps: int = 80
    """Steps in all."""
    learning_rate: float = 1e-4
    """The learning rate; a large published model wants 1e-5."""
    forget_weight: float = 0.3
    """Weight of the loss on what is forgotten."""
    keep_weight: float = 1.0
    """Alpha: weight of the divergence from the old model on what is kept."""
    forget_batch: int = 8
    """Records to forget in a step."""
    keep_batch: int = 16
    """Records to keep in a step."""
    stop_at: float | None = None
    """Loss in nats per prediction at which a record counts as forgotten: best the mean loss of
    records that the model never saw. None: the loss of a blind guess."""

    def __post_init__(self) -> None:
        check_unlearner(self)
        check_at_least("forget_weight", self.forget_weight, 0, "0 leaves that side out")

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model that has forgotten `forget`."""
        family = families.find(target.family)
        work = Unlearning.begin(self, "kl-ascent", target, keep, forget, run, family)
        before = work.reference()

        def stay(rows: np.ndarray, said: Predictions) -> Float[Tensor, " records"]:
            with torch.no_grad():
                old = work.keep.predictions(rows, before)
            return said.means(divergences(old.logits, said.logits))

        return work.descend(
            lambda rows, said: -said.nll,
            keeping=stay,
            weight=self.forget_weight,
            keep_weight=self.keep_weight,
        )
