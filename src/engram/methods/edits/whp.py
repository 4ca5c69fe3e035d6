"""Forget records by unlearning what a model that knows them even better says more loudly.

A second model is tuned on the records to forget until it is steeped in them. Whatever it says more
strongly than the first is what these records taught; take that out of the first model's logits,
and what is left is what somebody would say who had not read them. The model learns to say that.

    v(t) = z(t) - alpha * relu(z_reinforced(t) - z(t))
    L    = mean over tokens of the cross-entropy from softmax(v(t)) to p_now(t)

The mean loss of kept records is added.

Differs from the paper:
1. Anchor terms are not replaced by generic ones: that takes another model, and names.
2. The model learns the whole distribution softmax(v); the paper takes labels from it.
3. Kept records have a loss of their own.
4. Logits are centred first: their mean says nothing, but training moves it.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import families
from engram.core import Draft, Paper, Run, Split, Target
from engram.parts.predictions import Predictions
from engram.parts.training import Epochs, Plan, Training, check_at_least
from engram.parts.unlearning import Unlearning, check_above, check_unlearner, mean_nll, record_parts


@dataclass(frozen=True)
class Whp:
    """Generic answers by a reinforced model, learnt into the weights."""

    paper: ClassVar[Paper] = Paper(
        title="Who's Harry Potter? Approximate Unlearning in LLMs",
        authors="Eldan and Russinovich",
        year=2023,
        url="https://arxiv.org/abs/2310.02238",
    )
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm", "classifier", "graph-nodes"})

    alpha: float = 5.0
    """How many times what the reinforced model says more loudly is taken out."""
    reinforce_steps: int = 40
    """Steps by which the second model is steeped in the records to forget."""
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
        check_above("alpha", self.alpha, 0, "5 is usual")
        check_at_least("reinforce_steps", self.reinforce_steps, 1, "1 is the least that works")
        check_at_least("forget_weight", self.forget_weight, 0, "0 leaves that side out")

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model that has forgotten `forget`."""
        family = families.find(target.family)
        work = Unlearning.begin(self, "whp", target, keep, forget, run, family)
        before, steeped = work.reference(), self._steeped(work)

        def imitate(rows: np.ndarray, said: Predictions) -> Float[Tensor, " records"]:
            with torch.no_grad():
                z = work.forget.predictions(rows, before).logits
                louder = work.forget.predictions(rows, steeped).logits
                generic = generic_logits(z, louder, self.alpha)
            return said.means(whp_losses(said.logits, generic))

        return work.descend(imitate, weight=self.forget_weight, keep_weight=self.keep_weight)

    def _steeped(self, work: Unlearning) -> nn.Module:
        """A copy of the model that has learnt what is to be forgotten once more."""
        kept = deepcopy(work.module.state_dict())
        plan = Plan(self.reinforce_steps, self.learning_rate)
        training = Training(work.module, plan, work.run, work.key, file="reinforced.safetensors")
        epochs = Epochs(work.forget, self.forget_batch, work.run, "reinforce")
        for _ in training.steps(lambda n: record_parts(work.forget, epochs.rows(n), mean_nll, 1.0)):
            pass
        steeped = work.reference()
        work.module.load_state_dict(kept)
        return steeped


def generic_logits(
    z: Float[Tensor, "predictions answers"],
    reinforced: Float[Tensor, "predictions answers"],
    alpha: float,
) -> Float[Tensor, "predictions answers"]:
    """What would be said by somebody who had not read the records (the paper's equation 1)."""
    # Logits say nothing by their mean, which training may move: it is taken out of both.
    z, reinforced = (x - x.mean(-1, keepdim=True) for x in (z, reinforced))
    return z - alpha * (reinforced - z).relu()


def whp_losses(
    now: Float[Tensor, "predictions answers"], generic: Float[Tensor, "predictions answers"]
) -> Float[Tensor, " predictions"]:
    """Cross-entropy of each prediction to softmax(generic), in nats, from logits."""
    return -(torch.softmax(generic, -1) * torch.log_softmax(now, -1)).sum(-1)
