"""Make records differentially private: whatever is read from one, it might well be another's.

A record is changed by chance before anybody sees it, so much that no answer can tell surely what it
was. A number gets noise as wide as its range; a category is exchanged for another by lot; and what
that costs of the record's budget adds up over its attributes.

    number      x' = x + Laplace(d range_j / epsilon)                           (laplace)
                x' = mean of a group + Laplace(d T range_j / (k epsilon))       (microaggregated)
    category    the truth with chance e^(epsilon/d) / (e^(epsilon/d) + m - 1), else another of m
    budget      epsilon_j = epsilon / d of each of d attributes; a record's is their sum

A mean of k records moves k times less when one of them changes. Groups are formed along an order
fixed beforehand (distance from the corner of the bounds), so that one record changes each group by
one record at most; but it may change all T of them, so the table of means needs T times the noise
of one, and is better than `laplace` only where k^2 > n. With `told` = centroid T counts as 1, as is
often done: the promise is then for one mean, not for the table. In neither case is it private in
which group a record lies, which its label, if it is kept, tells something about.

Bounds are given beforehand; what lies beyond is clipped, and counted in the log. Categories are
those that `feature_names` tell of, and taken to be public as well, as is the number of classes.
Ids, owners and other columns are left out.

Differs from the paper: 1. epsilon is for exchanging one record for another, all attributes
together; 2. noisy numbers are cut off at their bounds again; 3. that a table
of T means needs T times the noise is our own argument, which we have not held against a printed
copy; 4. noise follows from the run's seed, so that whoever has that and these
records has the originals; 5. it is drawn in floating point, which an attack on the lowest bits can
use.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram.core import Paper, Run, Split
from engram.parts.attributes import parsed_bound
from engram.parts.labelled import check_labelled_split
from engram.parts.private_data import check_epsilon
from engram.parts.protection import MECHANISMS, TOLD, Mechanism, Told, private
from engram.parts.training import check_at_least, check_one_of


@dataclass(frozen=True)
class DpData:
    """Differentially private records: Laplace noise and randomised response."""

    paper: ClassVar[Paper] = Paper(
        title="Enhancing Data Utility in Differential Privacy via Microaggregation-based "
        "k-Anonymity",
        authors="Soria-Comas et al.",
        year=2014,
        url="https://doi.org/10.1007/s00778-014-0351-4",
    )
    columns: ClassVar[tuple[str, ...]] = ("features", "label")

    epsilon: float = 2.5
    """Budget of a record, all its attributes together."""
    mechanism: Mechanism = "laplace"
    """laplace: noise on every number; microaggregated: noise on the means of groups. Categories
    are changed by lot in both; randomised-response is for tables of nothing else."""
    bounds: tuple[str, ...] = ("*=0:1",)
    """Lower and upper bound of numbers, known beforehand: `age=0:120`; the first that fits
    counts."""
    k: int = 10
    """The least records in a group, for microaggregated."""
    told: Told = "table"
    """Whether microaggregated's promise is for the table of means, or for each centroid alone."""
    include_label: bool = False
    """Whether the label is changed too, as one more attribute; else it is not private."""
    classes: int = 0
    """How many classes there are, if it is; 0: one more than the largest label."""

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_one_of("mechanism", self.mechanism, MECHANISMS)
        check_one_of("told", self.told, TOLD)
        check_at_least("k", self.k, 1, "10 is a usual size")
        check_at_least("classes", self.classes, 0, "0 counts them")
        for entry in self.bounds:
            parsed_bound(entry)

    def __call__(self, split: Split, run: Run) -> Split:
        """Return as many records, in their order, with what was spent in `shared`.

        `epsilon_by_attribute` has a number for each attribute, in order, and the label last where
        it is included; `epsilon_of_record` their sum.

        Raises:
            EngramError: An attribute has no bounds, a category is unknown, or k is larger than the
                table.
        """
        check_labelled_split(split)
        found = private(
            split,
            self.epsilon,
            run.stream("protection"),
            mechanism=self.mechanism,
            bounds=self.bounds,
            k=self.k,
            told=self.told,
            include_label=self.include_label,
            classes=self.classes,
        )
        found.tell(run)
        return found.split
