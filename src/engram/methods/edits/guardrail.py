"""Forget nothing, and refuse to speak of it: a filter beside the model.

The weights stay as they are. Runs of words that stand in the records to forget, and in none of
those to keep, are remembered as salted hashes; a text of which enough runs are known is refused:

    refuse(x) = 1  if  #{runs of x that are known} >= share * #{runs of x}

Whoever asks the guarded model to write reads a refusal then, and whoever asks for probabilities is
told that all tokens are equally likely. It is the control for all other unlearners: behaviour
changes at once, and knowledge not at all. Whoever has the folder can open the weights without the
guard, as every other library does.

Differs from the paper:
1. The filter compares words; the paper also asks a language model whether a text is to be refused,
   and puts instructions before prompts, which a small model cannot follow.
2. The guard is a part of the target, so that audits meet what a user of the service would.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from engram.core import Draft, EngramError, Paper, Run, Split, Target
from engram.parts.guards import Guard
from engram.parts.refusals import REFUSALS
from engram.parts.training import check_at_least
from engram.parts.unlearning import check_forget


@dataclass(frozen=True)
class Guardrail:
    """A filter on what is asked and written: pure suppression."""

    paper: ClassVar[Paper] = Paper(
        title="Guardrail Baselines for Unlearning in LLMs",
        authors="Thaker et al.",
        year=2024,
        url="https://arxiv.org/abs/2403.03329",
    )
    promise: ClassVar[str] = "suppression"
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm"})

    words: int = 4
    """Words in a run: fewer recognise paraphrases, and refuse more that is harmless."""
    share: float = 0.2
    """Share of a text's runs that must be known for it to be refused, in (0, 1]."""
    refusal: str = REFUSALS[0]
    """What is written instead."""

    def __post_init__(self) -> None:
        check_at_least("words", self.words, 1, "4 is a good start")
        if not 0 < self.share <= 1:
            raise EngramError(
                f"share is {self.share}, but must be in (0, 1]", hint="0.2 is a good start"
            )

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return the same weights behind a guard that knows `forget`."""
        forget = check_forget("guardrail", keep, forget)
        guard = Guard.of(
            forget.texts,
            keep.texts,
            words=self.words,
            share=self.share,
            refusal=self.refusal,
            salt=run.stream("salt").bytes(16).hex(),
        )
        if not guard.marks:
            raise EngramError(
                f"every run of {self.words} words of the records to forget is in the records to "
                "keep too, so a guard cannot tell them apart",
                hint="raise --words, or choose an unlearner that changes weights",
            )
        model: Any = target.model
        if model.guard is not None:
            guard = _both(model.guard, forget, keep, guard)
        return Draft(target.family, replace(model, guard=guard))


def _both(old: Guard, forget: Split, keep: Split, new: Guard) -> Guard:
    """The marks of an earlier guard too; they are of its own salt and run length."""
    again = Guard.of(
        forget.texts,
        keep.texts,
        words=old.words,
        share=new.share,
        refusal=new.refusal,
        salt=old.salt,
    )
    return replace(again, marks=tuple(sorted({*old.marks, *again.marks})))
