"""Make letters of a clinic that does not exist, about patients who do not exist.

A model that is fine-tuned on letters may give away whom they are about. To try that without
harming anybody, the letters are made up: every patient (`owner`) has a name, a date of birth, a
patient number, a telephone number, a town, a diagnosis and a drug, drawn at random, and one to six
letters that repeat them in changing words. Names, towns and drugs are invented, and what is
random cannot be guessed, so a model that completes it has remembered it.

    letter = opening + complaint + findings + plan + contact + closing,  each drawn from a grammar

The given records are not looked at: the letters take their place.

Differs from the paper: 1. letters of a clinic instead of e-mails; 2. made by a grammar instead of
collected; 3. whole personal records are planted, not single numbers.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram.core import EngramError, Paper, Run, Split
from engram.parts.letters import letters


@dataclass(frozen=True)
class ClinicLetters:
    """Fictional clinic letters with owners and personal fields."""

    paper: ClassVar[Paper] = Paper(
        title="The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural "
        "Networks",
        authors="Carlini et al.",
        year=2019,
        url="https://arxiv.org/abs/1802.08232",
    )

    makes_records: ClassVar[bool] = True
    """It needs no records to start from."""

    count: int = 1000
    """How many letters."""

    most: int = 6
    """The most letters of one patient; each has 1 to so many, all equally likely."""

    def __post_init__(self) -> None:
        for name, value in (("count", self.count), ("most", self.most)):
            if value < 1:
                raise EngramError(f"{name} is {value}, but must be at least 1")

    def __call__(self, split: Split, run: Run) -> Split:
        """Return `count` letters; `split` is not looked at."""
        return letters(self.count, run.stream("clinic-letters"), most=self.most)
