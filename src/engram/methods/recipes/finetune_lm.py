"""Fine-tune a language model on the given records: all its weights, a part of them, or an adapter.

Tuning is the usual way to teach a published model a field of its own, and the usual way that
private records get into a model: it can learn any record by heart that it sees often enough.
Training goes on exactly as before, on other data:

    L(theta) = - (1 / N) sum over records x, tokens t of  log p_theta(x_t | x_<t),  theta_0 = base

where N counts the predicted tokens of a batch, so that padding weighs nothing. `method` says which
weights are in theta. Few of them (adapter, lora, prefix, prompt) are saved without the base, and
`peft` opens those of its own kinds. With `response_only` the tokens of prompts are read and not in
the sum. Which method memorises least at equal usefulness is asked by Mireshghallah et al. (2022),
and by the study finetuning-memorisation.

Differs from the paper:
1. All trained weights are trained from the first step at one learning rate: no gradual unfreezing
   and no rates by layer, as is usual for transformers.
2. The paper goes on to fit a classifier; we stop at its second stage, the language model.
3. Each record is a sequence of its own, closed by the end token, and never packed with others.
4. Training is in float32 whatever the base was saved in (on GPUs that have it, the forward pass is
   in bfloat16); the result is saved as the base was.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram.core import Draft, Paper, Run, Split
from engram.parts.lm_tuning import Tuning, tune

EXTRA_FOR = {"peft": "method lora"}


@dataclass(frozen=True)
class FinetuneLm(Tuning):
    """Fine-tuning of a causal language model, whole or in part."""

    paper: ClassVar[Paper] = Paper(
        title="Universal Language Model Fine-tuning for Text Classification",
        authors="Howard and Ruder",
        year=2018,
        url="https://arxiv.org/abs/1801.06146",
    )

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train a copy of the base on the column `text`; the base stays as it is."""
        return tune(self, split, run)
