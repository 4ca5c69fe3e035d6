"""Ask about every field of every person, or mix such questions into the biographies.

Whether knowledge can be got at shows in questions that are worded as no biography is. Half of the
people (P_train) lend their questions to training, which teaches the model what an answer looks
like; the questions about the others (P_test) are never trained on, though their biographies are.

    text = question + " Answer: " + answer,        one a person and field
    P_train = { person : hash(person) < share }

Who belongs to P_train hangs on the owner alone, so that data, training and measures agree on it.
Any records will do that have owners, the column `name`, and columns called as the fields are:
biographies that somebody else has rewritten (the paper's bioR), too. With `mix` above 0 the
questions are repeated until they have that share of the words, and stand beside the records.

Differs from the paper: 1. The wording of the questions is our own, except for the birth date's.
2. The ratio of the mixture counts words, not tokens, for no tokenizer is known here. 3. Each person
is in P_train with probability `share`, so the halves are equal only on average.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from engram.core import EngramError, Paper, Run, Split
from engram.parts.biographies import PARTS, mixed, questions


@dataclass(frozen=True)
class BiographyQuestions:
    """Questions and answers about people, on their own or mixed with the records."""

    paper: ClassVar[Paper] = Paper(
        title="Physics of Language Models: Part 3.1, Knowledge Storage and Extraction",
        authors="Allen-Zhu and Li",
        year=2024,
        url="https://arxiv.org/abs/2309.14316",
    )

    part: Literal["all", "train", "test"] = "train"
    """About whom: everybody, P_train or P_test."""
    share: float = 0.5
    """Of the people who are of P_train, in (0, 1)."""
    mix: float = 0.0
    """Share of the words that the questions have beside the records; 0: the questions alone. The
    paper's mixed training has 0.8."""

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise EngramError(
                f"part is {self.part!r}, but must be one of {', '.join(PARTS)}",
                hint="train: those whose questions are trained on",
            )
        if not 0 < self.share < 1 or not 0 <= self.mix < 1:
            raise EngramError(
                f"share is {self.share} and mix is {self.mix}, but share must be in (0, 1) and "
                "mix in [0, 1)",
                hint="0.5 and 0.8 are the paper's values",
            )

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the questions; with `mix` all records and the questions, shuffled."""
        asked = questions(split, self.part, self.share)
        if not self.mix:
            return asked
        both = mixed(split, asked, self.mix)
        order = run.stream("biography-questions").permutation(len(both))
        return both.take(np.asarray(order))
