"""Make every record equal to at least k - 1 others, by the means of groups of alike records.

Whoever knows somebody's age and address should not find their row. So records are grouped, alike
with alike and k or more to a group, and each takes its group's mean: in what was averaged, nobody
can be told from k - 1 others.

    while 3 k records are left:  c = mean,  r = farthest from c,  s = farthest from r
        one group: r and its k - 1 nearest;   another: s and its k - 1 nearest
    2 k to 3 k - 1 left: the farthest from the mean and its k - 1 nearest, and the rest
    x'_i = mean of the group of i

Distances are between numbers over their spread and categories one-hot; the mean of a category is
the share of its words. Records are k-anonymous on the quasi-identifiers alone: whatever is not
named as one stays, and so does the label, unless it is included; with one label in a whole group,
everybody in it is known to have it. `t` checks for that: it counts the groups whose labels are
further than t from the table's (earth mover's distance). Ids, owners and other columns are left
out, and new ids are made of what is published; the order of records stays.

Differs from the paper: 1. the group of s is taken among what the group of r has left, so that ties
cannot put a record into both; 2. the paper is about numbers; one-hot categories are numbers here.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram.core import EngramError, Paper, Run, Split
from engram.parts.labelled import check_labelled_split
from engram.parts.protection import k_anonymous
from engram.parts.training import check_at_least


@dataclass(frozen=True)
class KAnonymise:
    """k-anonymity by microaggregation (MDAV)."""

    paper: ClassVar[Paper] = Paper(
        title="Ordinal, Continuous and Heterogeneous k-Anonymity Through Microaggregation",
        authors="Domingo-Ferrer and Torra",
        year=2005,
        url="https://doi.org/10.1007/s10618-005-0007-5",
    )
    columns: ClassVar[tuple[str, ...]] = ("features", "label")

    k: int = 10
    """The least records that are equal to each other."""
    quasi: tuple[str, ...] = ()
    """Names of the attributes that could lead to a person; `*` stands for anything. Empty: all."""
    include_label: bool = False
    """Whether the label counts as one: then a group takes its commonest."""
    t: float = 0.0
    """Count the groups whose labels are further than this from the table's, in [0, 1]; 0: do
    not."""
    ordered: bool = False
    """Whether near labels are alike, for that distance."""

    def __post_init__(self) -> None:
        check_at_least("k", self.k, 1, "10 is a usual size")
        if not 0 <= self.t <= 1:
            raise EngramError(f"t is {self.t}, but must be in [0, 1]", hint="0 checks nothing")

    def __call__(self, split: Split, run: Run) -> Split:
        """Return as many records, in their order, with class sizes as `shared["class_sizes"]`.

        Raises:
            EngramError: k is larger than the table, or a name fits no attribute.
        """
        check_labelled_split(split)
        found = k_anonymous(
            split,
            self.k,
            quasi=self.quasi,
            include_label=self.include_label,
            t=self.t,
            ordered=self.ordered,
        )
        found.tell(run)
        return found.split
