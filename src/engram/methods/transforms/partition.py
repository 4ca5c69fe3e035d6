"""Take one of two parts of the records: members or outsiders.

To measure what a model remembers one needs records it never saw that differ from the others in
nothing but that. So the records are cut at random, by owner where owners are known, and exact
copies stay on one side. Run it twice, with the same `seed`, to get both parts.

    members + outsiders = all records,    |members| as near share * n as whole owners allow

With `coins` the number is left to chance: each owner is a member with probability `share`,
independently of all others, which a bound on epsilon from one training run asks for.

Differs from the paper: 1. whole owners instead of single records are drawn, so that the audit can
speak about people; 2. owners with equally many records are cut in the same ratio.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from engram.core import EngramError, Paper, Run, Split
from engram.parts.partition import choose, toss


@dataclass(frozen=True)
class Partition:
    """One part of the records; the other part of the same seed holds all the rest."""

    paper: ClassVar[Paper] = Paper(
        title="Membership Inference Attacks Against Machine Learning Models",
        authors="Shokri et al.",
        year=2017,
        url="https://arxiv.org/abs/1610.05820",
    )

    part: Literal["members", "outsiders"] = "members"
    """Which part to return."""

    share: float = 0.5
    """Fraction of the records that are members, in (0, 1)."""

    coins: bool = False
    """Whether each owner (or record) has a coin of its own, instead of a fixed number by lot."""

    by: Literal["owner", "record"] = "owner"
    """What is never cut: all records of an owner (where owners are known), or a record."""

    def __post_init__(self) -> None:
        if self.part not in ("members", "outsiders"):
            raise EngramError(
                f"part is {self.part!r}, but must be members or outsiders",
                hint="call it twice for both parts",
            )
        if self.by not in ("owner", "record"):
            raise EngramError(f"by is {self.by!r}, but must be owner or record")
        if not 0 < self.share < 1:
            raise EngramError(
                f"share is {self.share}, but must be in (0, 1)", hint="0.5 makes two equal parts"
            )

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the chosen records in their order, named after the part."""
        draw = toss if self.coins else choose
        members = draw(split, self.share, run.stream("partition"), self.by)
        return split.where(members if self.part == "members" else ~members, name=self.part)
