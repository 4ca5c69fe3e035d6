"""How much of the right answer a model says when it is asked.

The plainest question about knowledge: put the prompt, let the model answer with its likeliest
tokens, and see how much of the true answer stands in its own, in the same order. Of a record
without a prompt the first half is asked with and the second is the answer, which makes it a
measure of verbatim memory.

    overlap = mean over records of  ROUGE-L recall(answer written, right answer)

Differs from the paper: 1. Nothing is stemmed. 2. As many tokens are written as the right answer
has, so that no answer is cut short or rewarded for going on. 3. Of more than `sample` records a
random sample is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.questions import questions_of, words_to_write, written_answers
from engram.parts.rouge import rouge_l
from engram.stats.intervals import mean_finding

NAME = "ROUGE-L recall"


@dataclass(frozen=True)
class AnswerOverlap:
    """MUSE's knowledge (or verbatim) memorisation: ROUGE-L of what the model answers."""

    paper: ClassVar[Paper] = Paper(
        title="MUSE: Machine Unlearning Six-Way Evaluation for Language Models",
        authors="Shi et al.",
        year=2024,
        url="https://arxiv.org/abs/2407.06460",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"text"})
    access: ClassVar[Access] = "text"

    sample: int = 256
    """The most records of a split that are asked: a random sample."""

    def __post_init__(self) -> None:
        if self.sample < 2:
            raise EngramError(
                f"sample is {self.sample}, but must be at least 2", hint="256 is usual"
            )

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the mean ROUGE-L recall on every split."""
        found = [self._number(target, name, split, run) for name, split in splits.items()]
        tags = {"method": "answer-overlap", "better": "lower"}
        return tuple(f.tagged(**tags) for f in found)

    def _number(self, target: Target, name: str, split: Split, run: Run) -> Finding:
        values = overlaps(target, split, run, name, self.sample)
        if len(values) < 2:
            reason = "fewer than two records have something to answer"
            return Finding.missing(NAME, reason, len(values)).tagged(split=name)
        note = f"on a sample of {len(values):,}" if len(values) < len(split) else ""
        found = mean_finding(values, NAME, "", run.stream("answer-overlap", name))
        return found.tagged(split=name, note=found.note or note)


def overlaps(target: Target, split: Split, run: Run, name: str, sample: int) -> np.ndarray:
    """ROUGE-L recall of the model's answer to each record that is asked."""
    questions = questions_of(split, run.stream("answer-overlap", name, "wrong"), wrong=0)
    if len(questions) > sample:
        rng = run.stream("answer-overlap", name, "sample")
        questions = questions.only(np.sort(rng.choice(len(questions), sample, False)).tolist())
    said = written_answers(target, questions, run, words_to_write(target))
    pairs = zip(said, questions.right, strict=True)
    return np.array([rouge_l(answer, right).recall for answer, right in pairs])
