"""How often the model finds the right one of several answers the likeliest.

Let nobody write: put a question, and see which of its options the model would rather read next.
That asks for knowledge alone, not for the manners of an answer. What a blind guess reaches depends
on the task, so it is told beside: the larger of guessing at random and of always giving the
commonest answer. With `before`, a model as it was before it forgot something, it is also told how
much of the skill is gone:

    chosen = argmax over options o of  log p(o | prompt)        (per token with `per_token`)
    gap    = accuracy(before) - accuracy
    ratio  = gap / (accuracy(before) - chance),   not measured where that is below 0.05

Records need the columns prompt, response and options; a column task tells tasks apart. Intervals
resample owners.

Differs from the paper:
1. The normaliser of the ratio is a reconstruction.
2. Ratios have the interval of the accuracy after forgetting, the one before it taken as given.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from engram.core import Access, Finding, Paper, Run, Split, Target
from engram.parts.choices import Choices, has_options, option_logprobs, right
from engram.parts.record_bootstrap import share_of_owners
from engram.parts.response_examples import has_prompts
from engram.stats.forgetting import forget_gap, forget_ratio
from engram.stats.owners import owner_index

NAME, CHANCE = "choice accuracy", "chance"
GAP, RATIO = "forget gap", "forget ratio"


@dataclass(frozen=True)
class ChoiceAccuracy:
    """Accuracy on questions of multiple choice, by the options' log-probabilities."""

    paper: ClassVar[Paper] = Paper(
        title="Unforgettable Generalization in Language Models",
        authors="Zhang et al.",
        year=2024,
        url="https://arxiv.org/abs/2409.02228",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm"})

    per_token: bool = False
    """Whether an option's log-probability is divided by its number of tokens."""
    before: str = ""
    """The model before it forgot, for gap and ratio; a folder."""

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return accuracy and chance over all questions, then of each task.

        Raises:
            EngramError: Options that cannot be chosen from; see `engram.parts.choices`.
        """
        found: list[Finding] = []
        for where, split in splits.items():
            if not len(split) or not (has_prompts(split) and has_options(split)):
                reason = "needs records with the columns prompt, response and options"
                numbers = [Finding.missing(NAME, reason, len(split))]
            else:
                numbers = self._of(target, split, where, run)
            found += [number.tagged(method="choice-accuracy", split=where) for number in numbers]
        return tuple(found)

    def logprobs(self, target: Target, split: Split, run: Run) -> Float[np.ndarray, "n most"]:
        """The score of each option, in nats; minus infinity where there is none."""
        target.require("logits", "choice-accuracy")
        return option_logprobs(target, split, run, self.per_token)

    def _of(self, target: Target, split: Split, where: str, run: Run) -> list[Finding]:
        choices = Choices.of(split)
        hits = right(self.logprobs(target, split, run), choices.truth)
        earlier = None
        if self.before:
            known = self.logprobs(run.target(self.before), split, run)
            earlier = right(known, choices.truth)
        owner = owner_index(split.owners, len(split))
        found = []
        for task in ("", *dict.fromkeys(filter(None, choices.tasks))):
            rows = choices.rows(task) if task else np.arange(len(split))
            suffix = f", {task}" if task else ""
            chance = choices.take(rows).chance
            rng = run.stream("choice-accuracy", where, task)
            number = share_of_owners(NAME + suffix, hits[rows], owner[rows], rng)
            found += [number, Finding.exact(CHANCE + suffix, chance, len(rows))]
            if earlier is not None:
                found += lost(float(earlier[rows].mean()), number, chance, suffix)
        return found


def lost(before: float, after: Finding, chance: float, suffix: str = "") -> list[Finding]:
    """Gap and ratio of two accuracies; missing where they cannot be measured."""
    names = [GAP + suffix, RATIO + suffix]
    if after.value is None or after.low is None or after.high is None:
        return [Finding.missing(name, after.note, after.n) for name in names]
    # The lower the accuracy afterwards, the more was lost.
    ends = (after.value, after.high, after.low)
    found = [Finding(names[0], *(forget_gap(before, end) for end in ends), after.n)]
    if math.isnan(forget_ratio(before, after.value, chance)):
        reason = f"the accuracy before, {before:.3f}, is less than 0.05 above chance"
        return [*found, Finding.missing(names[1], reason, after.n)]
    ratios = [forget_ratio(before, end, chance) for end in ends]
    return [*found, Finding(names[1], *ratios, after.n)]
