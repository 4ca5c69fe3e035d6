"""Forget records by preferring a refusal to what they say.

A preference is learnt from pairs: this answer rather than that one. Here the better answer to each
prompt is "I don't know", in many wordings, and the worse one is the record's own. Only the
difference counts, measured from where the model stood before:

    L = - (2 / beta) * mean log sigmoid(beta * [ (log p_now - log p_before)(refusal)
                                               - (log p_now - log p_before)(record) ])

with log p the sum over the tokens of the response; prompts are never in it. The mean loss of kept
records is added.

Differs from the paper:
1. The pairs are refusals and records, as in TOFU (Maini et al., 2024), and no human's preferences;
   the factor 2 / beta is TOFU's.
2. A record whose own mean loss reaches `stop_at` is let go altogether.
3. A text without a prompt is cut: its first words are taken for the prompt.
4. Of a record that is longer than the context, its first piece counts.
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
from engram.parts.refusals import prompted, refusing
from engram.parts.training import check_at_least
from engram.parts.unlearning import (
    Unlearning,
    check_above,
    check_forget,
    check_unlearner,
    examples_of,
    logprobs,
    paired,
)


@dataclass(frozen=True)
class Dpo:
    """Direct preference optimisation towards refusals."""

    paper: ClassVar[Paper] = Paper(
        title="Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
        authors="Rafailov et al.",
        year=2023,
        url="https://arxiv.org/abs/2305.18290",
    )
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm"})

    beta: float = 0.1
    """How soon the push fades, per nat of a whole response."""
    prompt_words: int = 8
    """Words of a text that are its prompt, where there is no column `prompt`; 0 wants one."""
    steps: int = 80
    """Steps in all."""
    learning_rate: float = 3e-4
    """The learning rate; a large published model wants 1e-5."""
    forget_weight: float = 0.2
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
        check_above("beta", self.beta, 0, "0.1 is usual")
        check_at_least("prompt_words", self.prompt_words, 0, "0 wants a column prompt")
        check_at_least("forget_weight", self.forget_weight, 0, "0 leaves that side out")

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model that would rather refuse than say what is in `forget`."""
        asked = prompted(check_forget("dpo", keep, forget), self.prompt_words)
        family = families.find(target.family)
        work = Unlearning.begin(self, "dpo", target, keep, asked, run, family)
        refusals = examples_of(family, work.model, refusing(asked, run.stream("refusals")))
        own, other = paired(work.forget, refusals)
        before = logprobs(own), logprobs(other)

        def prefer(rows: np.ndarray, said: Predictions) -> Float[Tensor, " records"]:
            now = other.predictions(rows).record_logprob
            old = [known[torch.from_numpy(rows)].to(now) for known in before]
            return dpo_losses(now - old[1], said.record_logprob - old[0], self.beta)

        return work.descend(
            prefer,
            examples=own,
            weight=self.forget_weight,
            keep_weight=self.keep_weight,
        )


def dpo_losses(
    better: Float[Tensor, " records"], worse: Float[Tensor, " records"], beta: float
) -> Float[Tensor, " records"]:
    """Loss of each pair (the paper's equation 7, times 2 / beta).

    Both inputs are log p_now - log p_before of a response, in nats.
    """
    return 2 / beta * softplus(-beta * (better - worse))
