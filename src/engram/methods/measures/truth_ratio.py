"""How likely wrong answers are beside right ones, to a model that may or may not know.

A model can be taught to avoid one wording of an answer and still know it. So ask about the right
answer in other words, and compare with wrong answers in the same words: to whoever does not know,
all of them are about equally likely.

    R(q) = geometric mean of p(wrong answer | q)^(1/length)  /  p(paraphrase | q)^(1/length)
    truthfulness = mean of max(0, 1 - R)

Well below 1 the model knows the answer; at 1 it does not. Far above 1 it has been driven away
from it, which is no forgetting either: compare with a model trained without the records
(`forget-quality`).

Differs from the paper: 1. Records without paraphrases and wrong answers are asked with what other
records give, and the finding says so. 2. The mean over wrong answers is geometric, as in the
authors' code; their eq. 1 prints the arithmetic one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from engram.core import Access, Finding, Paper, Run, Split, Target
from engram.parts.questions import Answered, answered, questions_of
from engram.stats.intervals import mean_finding
from engram.stats.unlearning import truth_ratio, truthfulness

NAMES = ("truth ratio", "truthfulness")


@dataclass(frozen=True)
class TruthRatio:
    """TOFU's truth ratio."""

    paper: ClassVar[Paper] = Paper(
        title="TOFU: A Task of Fictitious Unlearning for LLMs",
        authors="Maini et al.",
        year=2024,
        url="https://arxiv.org/abs/2401.06121",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens", "text"})
    access: ClassVar[Access] = "logits"

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return mean truth ratio and truthfulness on every split."""
        found: list[Finding] = []
        for name, split in splits.items():
            questions = questions_of(split, run.stream("truth-ratio", name, "wrong"))
            note = "; ".join(questions.notes)
            numbers = self._numbers(answered(target, questions, run), name, run)
            found += [n.tagged(split=name, note=n.note or note) for n in numbers]
        return tuple(f.tagged(method="truth-ratio") for f in found)

    def _numbers(self, asked: Answered, name: str, run: Run) -> list[Finding]:
        n = len(asked.right)
        if n < 2 or not asked.wrong.shape[1]:
            reason = "fewer than two records have an answer and wrong ones to compare with"
            return [Finding.missing(what, reason, n) for what in NAMES]
        ratio = truth_ratio(asked.paraphrased, asked.wrong)
        rng = run.stream("truth-ratio", name)
        return [
            mean_finding(ratio, NAMES[0], "", rng),
            mean_finding(truthfulness(ratio), NAMES[1], "", rng),
        ]
