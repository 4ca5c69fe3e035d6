"""Tell a model that was made to forget from one that never saw the records.

No single number says that something is forgotten. But a model trained again without the records
has certainly not learnt them; so ask both models the same questions about them, and test whether
the answers differ in distribution:

    R(q)           = truth ratio of question q (see `truth-ratio`)
    D              = largest gap between the distribution functions of R under the two models
    forget quality = p-value of D under the two-sample Kolmogorov-Smirnov test

A high p-value is what is wanted. Both ways of missing it are failures: a model that still knows,
and one that avoids the records so hard that it stands out.

Differs from the paper: 1. Intervals, by resampling records. 2. D itself is reported too: the
p-value falls with the number of questions whatever the model. 3. Records without paraphrases and
wrong answers are asked with what other records give, and the finding says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from engram.core import Access, Finding, Paper, Run, Split, Target
from engram.parts.questions import answered, questions_of
from engram.parts.retrained import forgotten_of, retrained_model
from engram.stats.unlearning import forget_quality, truth_ratio

NAMES = ("forget quality", "distance of truth ratios")


@dataclass(frozen=True)
class ForgetQuality:
    """TOFU's forget quality."""

    paper: ClassVar[Paper] = Paper(
        title="TOFU: A Task of Fictitious Unlearning for LLMs",
        authors="Maini et al.",
        year=2024,
        url="https://arxiv.org/abs/2401.06121",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens", "text"})
    access: ClassVar[Access] = "logits"

    retrained: str = ""
    """The model that was trained without the records: a target's folder, or a model's name."""

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return p-value and distance on the forgotten records."""
        name, split = forgotten_of(splits)
        found = self._numbers(target, name, split, run)
        return tuple(f.tagged(method="forget-quality", split=name) for f in found)

    def _numbers(
        self, target: Target, name: str, split: Split, run: Run
    ) -> tuple[Finding, Finding]:
        other, reason = retrained_model(self.retrained, target, run)
        if other is None:
            return _missing(reason, len(split))
        questions = questions_of(split, run.stream("forget-quality", name, "wrong"))
        sides = [answered(model, questions, run) for model in (target, other)]
        if min(len(side.right) for side in sides) < 2 or not sides[0].wrong.shape[1]:
            return _missing("fewer than two records have an answer and wrong ones", len(split))
        ratios = [truth_ratio(side.paraphrased, side.wrong) for side in sides]
        p, d = forget_quality(ratios[0], ratios[1], run.stream("forget-quality", name))
        notes = "; ".join(questions.notes)
        return p.tagged(note="; ".join(filter(None, (p.note, notes)))), d.tagged(note=notes)


def _missing(reason: str, n: int) -> tuple[Finding, Finding]:
    return Finding.missing(NAMES[0], reason, n), Finding.missing(NAMES[1], reason, n)
