"""The reference model: from the target's own texts, or somebody else's model."""

import math
from dataclasses import dataclass

from engram.core import EngramError, Run, Split, Target
from engram.methods.attacks.spv_mia.self_prompt import NOTHING, Prompts, prompts_from, written_by
from engram.methods.attacks.spv_mia.self_prompt_reference import PAPER, SelfPromptReference
from engram.parts.token_examples import encode
from engram.parts.training import check_at_least

LEARNING_RATE = 5e-5
"""The paper's; for a target whose own learning rate is not known."""

__all__ = ["PAPER", "SelfPrompt", "check_same_tokens"]


@dataclass(frozen=True)
class SelfPrompt:
    """How a target is made to teach its own reference; see the fields of `SpvMia`."""

    prompts: str
    prompt_count: int
    prompt_tokens: int
    length: int
    epochs: int
    batch_size: int
    learning_rate: float

    def __post_init__(self) -> None:
        for name in ("prompt_count", "prompt_tokens", "length", "epochs", "batch_size"):
            least = 2 if name == "length" else 1
            check_at_least(name, getattr(self, name), least, f"{least} is the least that works")
        check_at_least("learning_rate", self.learning_rate, 0, "0 takes half the target's")

    def reference(self, where: str, base: Target, target: Target, split: Split, run: Run) -> Target:
        """The base at `where`, tuned on what the target writes; trained once, then found.

        Raises:
            EngramError: The prompt source overlaps the audited records, or the target writes
                nothing.
        """
        target.require("text", "spv-mia")
        base.require("weights", "tuning a self-prompt reference")
        texts = written_by(target, self.asked(base, target, split, run), run)
        rate = self.learning_rate or half_the_targets(target)
        recipe = SelfPromptReference(where, self.epochs, self.batch_size, rate)
        return run.fit(recipe, texts, "spv-mia reference").sealed()

    def asked(self, base: Target, target: Target, split: Split, run: Run) -> Prompts:
        """The prompts; cut by the base's tokenizer, which the target shares."""
        if self.prompts in (NOTHING, ""):
            return Prompts.nothing(self.prompt_count, self.length)
        tokenizer = base.model.tokenizer
        return prompts_from(
            self.prompts, self.prompt_count, self.prompt_tokens, tokenizer, split, target, run
        )


def half_the_targets(target: Target) -> float:
    """Half the learning rate that the target was trained with, as in the paper."""
    rate = target.lineage.recipe().config.get("learning_rate")
    known = isinstance(rate, float | int) and math.isfinite(rate) and rate > 0
    return rate / 2 if known else LEARNING_RATE


def check_same_tokens(reference: Target, target: Target, split: Split) -> None:
    """Refuse a reference that cuts the texts into other tokens than the target does."""
    theirs = encode(reference.model.tokenizer, split.texts)
    ours = encode(target.model.tokenizer, split.texts)
    if theirs != ours:
        raise EngramError(
            f"the reference {reference.name!r} cuts the texts into other tokens than target "
            f"{target.name!r} ({sum(map(len, theirs))} against {sum(map(len, ours))} tokens), so "
            "their likelihoods cannot be compared",
            hint="take a model with the target's own tokenizer: its base, or another fine-tune "
            "of that base",
        )
