"""How much of what was to stay is still there: one number from many, the worst weighing most.

A model that forgets by falling apart has a good forget quality. So ask, about kept records and
about whatever else the user names (other people, general knowledge), how likely its right answers
are, how much of them it writes, and how truthful it is, and take the harmonic mean, which is
small as soon as one of them is:

    utility = 9 / sum of 1 / { probability, ROUGE-L recall, truthfulness } on three question sets

    probability  = p(answer | question)^(1/length); on named sets among the offered answers
    truthfulness = mean of max(0, 1 - truth ratio)

Differs from the paper: 1. The sets are the kept records and those in `others`; without others
there are three numbers instead of nine. 2. Nothing is stemmed for ROUGE. 3. Records without wrong
answers are asked with those of other records, and the finding says so. 4. At most `sample` records
of each set are asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.questions import answered, questions_of, words_to_write, written_answers
from engram.parts.rouge import rouge_l
from engram.stats.intervals import mean_finding
from engram.stats.unlearning import chance_of_answer, model_utility, truth_ratio, truthfulness

NAME = "model utility"
KEPT = "members"


@dataclass(frozen=True)
class ModelUtility:
    """TOFU's model utility."""

    paper: ClassVar[Paper] = Paper(
        title="TOFU: A Task of Fictitious Unlearning for LLMs",
        authors="Maini et al.",
        year=2024,
        url="https://arxiv.org/abs/2401.06121",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens", "text"})
    access: ClassVar[Access] = "logits"

    others: str = ""
    """More sets of questions, with commas between them, such as
    tofu?part=real_authors_perturbed,tofu?part=world_facts_perturbed."""
    sample: int = 200
    """The most records of each set that are asked: a random sample."""

    def __post_init__(self) -> None:
        if self.sample < 2:
            raise EngramError(
                f"sample is {self.sample}, but must be at least 2", hint="200 is usual"
            )

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the utility, and each number that it is made of."""
        named = [each.strip() for each in self.others.split(",") if each.strip()]
        sets = {"kept records": splits[KEPT]}
        sets |= {where: run.records(where, target) for where in named}
        parts: dict[str, np.ndarray] = {}
        notes: list[str] = []
        for number, (name, split) in enumerate(sets.items()):
            found, note = self._asked(target, split, name, number > 0, run)
            parts |= {f"{name}: {what}": values for what, values in found.items()}
            notes += [note] if note and note not in notes else []
        if not parts or min(map(len, parts.values())) < 2:
            n = min(map(len, parts.values()), default=0)
            reason = "fewer than two records have an answer and wrong ones"
            return (Finding.missing(NAME, reason, n).tagged(method="model-utility"),)
        whole = model_utility(parts, run.stream("model-utility")).tagged(note="; ".join(notes))
        each = [
            mean_finding(values, name, "", run.stream("model-utility", name))
            for name, values in parts.items()
        ]
        tags = {"method": "model-utility", "better": "higher"}
        return tuple(f.tagged(**tags, note=f.note) for f in (whole, *each))

    def _asked(
        self, target: Target, split: Split, name: str, offered: bool, run: Run
    ) -> tuple[dict[str, np.ndarray], str]:
        """The three numbers of each record of a set, each in [0, 1]."""
        questions = questions_of(split, run.stream("model-utility", name, "wrong"))
        if len(questions) > self.sample:
            drawn = run.stream("model-utility", name, "sample").choice(
                len(questions), self.sample, replace=False
            )
            questions = questions.only(np.sort(drawn).tolist())
        asked = answered(target, questions, run)
        if not len(asked.right) or not asked.wrong.shape[1]:
            return {"probability": np.empty(0)}, ""
        said = written_answers(target, asked.questions, run, words_to_write(target))
        pairs = zip(said, asked.questions.right, strict=True)
        ratio = truth_ratio(asked.paraphrased, asked.wrong)
        numbers = {
            "probability": chance_of_answer(asked.right, asked.wrong if offered else None),
            "ROUGE-L": np.array([rouge_l(answer, right).recall for answer, right in pairs]),
            "truth": truthfulness(ratio),
        }
        return numbers, "; ".join(questions.notes)
