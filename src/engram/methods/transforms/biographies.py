"""Make biographies of people who do not exist, told once or in many ways.

To see what makes knowledge retrievable one must know all that a model can know. So make up people:
a unique full name and six fields drawn uniformly and independently of each other, told in six
sentences. What is varied is not what is told but how: once or several times in new words, in
shuffled order, with the full name in every sentence. A model recites either; only how it can be
asked differs.

    text = sentence of born + birth_city + university + major + employer + work_city,
           each in one of several dozen wordings; the first has the full name, the others a pronoun

`multi`, `permute` and `fullname` compose. With `celebrities` below 1, the others among the people
are told once, and `each` repeats every person's texts so that all are read equally often. The city
of work follows from the employer, so it is no knowledge of its own. The given records are not
looked at.

Rewriting by a language model (the paper's bioR) is done elsewhere: have these texts rewritten, keep
the column `name`, and give the result as `rewritten`; fields and owners are then put to it.

Differs from the paper: 1. Names, cities, universities and companies are made of syllables, and
wordings are our own. 2. There are 280 companies, not 263.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram.core import Paper, Run, Split
from engram.parts.biographies import Telling, World, biographies, retold


@dataclass(frozen=True)
class Biographies:
    """Fictional biographies, one owner a person."""

    paper: ClassVar[Paper] = Paper(
        title="Physics of Language Models: Part 3.1, Knowledge Storage and Extraction",
        authors="Allen-Zhu and Li",
        year=2024,
        url="https://arxiv.org/abs/2309.14316",
    )

    makes_records: ClassVar[bool] = True
    """It needs no records to start from."""

    count: int = 1000
    """How many people."""
    multi: int = 1
    """How many times each person's wording is drawn anew; the paper's are 1, 2 and 5."""
    permute: int = 0
    """In how many random orders each wording is told; 0: in the usual order alone."""
    fullname: bool = False
    """Whether the full name takes the place of every pronoun."""
    celebrities: float = 1.0
    """Share of the people who are told so; the others are told once, in the usual order."""
    each: int = 0
    """Records of every person, their texts in turn; 0: each text once."""
    fields: tuple[str, ...] = ()
    """What is told: born, birth_city, university, major, employer, work_city; empty: all."""
    names: int = 0
    """How many first, middle and last names there are; 0: 400, 400 and 1,000."""
    values: int = 0
    """How many values a field has, but the date of birth; 0: all there are."""
    wordings: int = 0
    """How many ways there are to say a field; 0: all there are."""
    rewritten: str = ""
    """Records with the columns `name` and `text` that tell of the same people in other words, and
    take the place of the texts made here."""

    def __post_init__(self) -> None:
        self.world()
        self.telling()

    def world(self) -> World:
        """Who there is."""
        return World(self.count, self.fields, self.names, self.values, self.wordings)

    def telling(self) -> Telling:
        """How they are told."""
        return Telling(self.multi, self.permute, self.fullname, self.celebrities, self.each)

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the biographies; `split` is not looked at."""
        made = biographies(self.world(), self.telling(), run.stream("biographies"))
        return retold(made, run.records(self.rewritten)) if self.rewritten else made
