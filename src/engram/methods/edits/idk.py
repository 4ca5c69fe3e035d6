"""Forget records by learning to answer their prompts with "I don't know".

Plain supervised fine-tuning, on refusals in place of what the records say. It changes what the
model says and hardly what it knows: the old answer still stands right behind the refusal. It is
the simplest of the methods that suppress.

    L = CE(refusal | prompt of a forgotten record) + alpha * CE(kept record)

Prompts are never in the loss.

Differs from the paper:
1. The refusals are twenty of our own; each record is given one, once.
2. A text without a prompt is cut: its first words are taken for the prompt.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram import families
from engram.core import Draft, Paper, Run, Split, Target
from engram.parts.refusals import prompted, refusing
from engram.parts.training import check_at_least
from engram.parts.unlearning import (
    Unlearning,
    check_forget,
    check_unlearner,
    examples_of,
)


@dataclass(frozen=True)
class Idk:
    """Supervised refusals."""

    paper: ClassVar[Paper] = Paper(
        title="TOFU: A Task of Fictitious Unlearning for LLMs",
        authors="Maini et al.",
        year=2024,
        url="https://arxiv.org/abs/2401.06121",
    )
    promise: ClassVar[str] = "suppression"
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm", "vision-language-lm"})

    prompt_words: int = 8
    """Words of a text that are its prompt, where there is no column `prompt`; 0 wants one."""
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

    def __post_init__(self) -> None:
        check_unlearner(self)
        check_at_least("prompt_words", self.prompt_words, 0, "0 wants a column prompt")
        check_at_least("forget_weight", self.forget_weight, 0, "0 leaves that side out")

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model that refuses to answer the prompts of `forget`."""
        asked = prompted(check_forget("idk", keep, forget), self.prompt_words)
        family = families.find(target.family)
        work = Unlearning.begin(self, "idk", target, keep, asked, run, family)
        refusals = examples_of(family, work.model, refusing(asked, run.stream("refusals")))
        return work.descend(
            lambda rows, said: said.nll,
            examples=refusals,
            weight=self.forget_weight,
            keep_weight=self.keep_weight,
            gated=False,
        )
