"""Forget nothing, and refuse to speak of it: a filter beside the model.

The weights stay as they are. Whoever asks the guarded model to write reads a refusal where the
filter recognises prompt and answer, and whoever asks for probabilities is told that all tokens
are equally likely. It is the control for all other unlearners: behaviour changes at once, and
knowledge not at all. Whoever has the folder can open the weights without the guard, as every
other library does.

Three filters can be chosen. Runs of words that stand in the records to forget, and in none of
those to keep, remembered as salted hashes (`ngrams`); a linear classifier of hashed words and
pairs of words, weighed by TF-IDF (`linear`); or how near these are to the records to forget,
beside the records to keep (`neighbours`):

    ngrams:      refuse(x) = 1  if  #{runs of x that are known} >= share * #{runs of x}
    linear:      refuse(x) = 1  if  w . f(x) + b > t
    neighbours:  refuse(x) = 1  if  mean of 3 nearest cos(f(x), forget)
                                    - mean of 3 nearest cos(f(x), keep) > t

The last two learn from half of the records to keep; t is the least threshold at which they refuse
at most a share `false_alarms` of the other half. `filter-rates` measures what gets through.

Differs from the paper:
1. The filter compares words; the paper also asks a language model whether a text is to be refused,
   and puts instructions before prompts, which a small model cannot follow.
2. The guard is a part of the target, so that audits meet what a user of the service would.
3. The classifier and the neighbours are those that Shumailov et al. (2024) ask for.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from engram.core import Draft, EngramError, Paper, Run, Split, Target
from engram.parts.guards import AnyGuard, Guard
from engram.parts.learnt_guards import LearntGuard, both
from engram.parts.refusals import REFUSALS
from engram.parts.training import check_at_least, check_one_of
from engram.parts.unlearning import check_forget

Filter = Literal["ngrams", "linear", "neighbours"]


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

    filter: Filter = "ngrams"
    """How a text is recognised: ngrams (runs of its words), linear (a classifier of its words),
    neighbours (how near it is to the records)."""
    words: int = 4
    """ngrams: words in a run; fewer recognise paraphrases, and refuse more that is harmless."""
    share: float = 0.2
    """ngrams: share of a text's runs that must be known for it to be refused, in (0, 1]."""
    false_alarms: float = 0.02
    """linear, neighbours: share of the records to keep that may be refused, in [0, 1)."""
    refusal: str = REFUSALS[0]
    """What is written instead."""

    def __post_init__(self) -> None:
        check_one_of("filter", self.filter, get_args(Filter))
        check_at_least("words", self.words, 1, "4 is a good start")
        if not 0 < self.share <= 1:
            raise EngramError(
                f"share is {self.share}, but must be in (0, 1]", hint="0.2 is a good start"
            )
        if not 0 <= self.false_alarms < 1:
            raise EngramError(
                f"false_alarms is {self.false_alarms}, but must be in [0, 1)", hint="0.02 is usual"
            )

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return the same weights behind a guard that knows `forget`."""
        forget = check_forget("guardrail", keep, forget)
        guard = self._made(keep, forget, run)
        model: Any = target.model
        if isinstance(model.guard, Guard) and isinstance(guard, Guard):
            guard = _joined(model.guard, forget, keep, guard)
        elif model.guard is not None:
            guard = both(model.guard, guard)
        return Draft(target.family, replace(model, guard=guard))

    def _made(self, keep: Split, forget: Split, run: Run) -> AnyGuard:
        salt = run.stream("salt").bytes(16).hex()
        if self.filter != "ngrams":
            return LearntGuard.of(
                self.filter,
                forget.texts,
                keep.texts,
                rate=self.false_alarms,
                refusal=self.refusal,
                salt=salt,
                rng=run.stream("guardrail", "threshold"),
            )
        guard = Guard.of(
            forget.texts,
            keep.texts,
            words=self.words,
            share=self.share,
            refusal=self.refusal,
            salt=salt,
        )
        if not guard.marks:
            raise EngramError(
                f"every run of {self.words} words of the records to forget is in the records to "
                "keep too, so a guard cannot tell them apart",
                hint="raise --words, or choose an unlearner that changes weights",
            )
        return guard


def _joined(old: Guard, forget: Split, keep: Split, new: Guard) -> Guard:
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
