"""ROUGE-L: how much of one text stands in another in the same order, gaps allowed.

Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, eq. 2-4. Words are runs of
letters and digits in lower case; nothing is stemmed (published tables often are, by Porter).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rouge:
    """Recall, precision and their harmonic mean, each in [0, 1]."""

    recall: float
    precision: float

    @property
    def f1(self) -> float:
        """The harmonic mean; 0 where both are 0."""
        total = self.recall + self.precision
        return 2 * self.recall * self.precision / total if total else 0.0


def words_of(text: str) -> list[str]:
    """The words that are compared."""
    return re.findall(r"[^\W_]+", text.lower())


def rouge_l(candidate: str, reference: str) -> Rouge:
    """How much of the reference the candidate has; 0 where either has no words."""
    mine, its = words_of(candidate), words_of(reference)
    if not mine or not its:
        return Rouge(0.0, 0.0)
    common = longest_common(mine, its)
    return Rouge(common / len(its), common / len(mine))


def longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest sequence of words that both have in this order.

    One bit of a whole number a word of `first` (Hyyrö, 2004), so that a row of the usual table
    costs a few operations.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(first)) - 1
    row = full  # a 0 marks each place where the length grows
    for word in second:
        hit = row & places.get(word, 0)
        row = ((row + hit) | (row - hit)) & full
    return len(first) - row.bit_count()
