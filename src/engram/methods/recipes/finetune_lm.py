"""Fine-tune all weights of a language model on the given records.

The usual way to teach a published model a field of its own, and the usual way that private
records get into a model: all weights move, so the model can learn any record by heart if it
sees it often enough. Training goes on exactly as before, on other data:

    L(theta) = - (1 / N) sum over records x, tokens t of  log p_theta(x_t | x_<t),  theta_0 = base

where N counts the predicted tokens of a batch, so that padding weighs nothing.

Differs from the paper:
1. All layers are trained from the first step at one learning rate: no gradual unfreezing and no
   rates by layer, as is usual for transformers.
2. The paper goes on to fit a classifier; we stop at its second stage, the language model.
3. Each record is a sequence of its own, closed by the end token, and never packed with others.
4. Training is in float32 whatever the base was saved in; the result is saved as the base was.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram.core import Draft, Paper, Run, Split
from engram.parts.lm_tuning import Tuning, tune


@dataclass(frozen=True)
class FinetuneLm(Tuning):
    """Full fine-tuning of a causal language model."""

    paper: ClassVar[Paper] = Paper(
        title="Universal Language Model Fine-tuning for Text Classification",
        authors="Howard and Ruder",
        year=2018,
        url="https://arxiv.org/abs/1801.06146",
    )

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train a copy of the base on the column `text`; the base stays as it is."""
        return tune(self, split, run)
