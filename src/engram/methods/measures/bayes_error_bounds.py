"""Bound the error that no classifier trained on such records could avoid.

If a record's nearest neighbour is often of another class, then classes lie on top of one another,
and nobody can tell them apart. The error of the nearest neighbour, each record left out in turn,
bounds the Bayes error beta on both sides, whatever the distributions:

    (C - 1)/C * (1 - sqrt(1 - C/(C - 1) * e_NN)) <= beta <= e_NN

with C classes. Of data that was protected it says whether the pictures themselves tell less, or
whether they only carry a pattern that a network prefers to them.

Differs from the paper: the bounds are those of endlessly many records, read off a finite split;
intervals are those of e_NN on these records, carried through the formula.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from engram.core import Access, Finding, Paper, Run, Split, Target
from engram.parts.labelled import check_labelled_split, features_of, labels_of
from engram.parts.training import check_one_of
from engram.stats.cover_hart import cover_hart, neighbour_errors
from engram.stats.intervals import mean_finding

METHOD, NAME = "bayes-error-bounds", "least Bayes error"


@dataclass(frozen=True)
class BayesErrorBounds:
    """Cover and Hart's bounds on the Bayes error of each split."""

    paper: ClassVar[Paper] = Paper(
        title="Nearest Neighbor Pattern Classification",
        authors="Cover and Hart",
        year=1967,
        url="https://doi.org/10.1109/TIT.1967.1053964",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    access: ClassVar[Access] = "logits"

    space: Literal["features", "logits"] = "features"
    """Where records are near: in their features, or in what the target answers."""

    def __post_init__(self) -> None:
        check_one_of("space", self.space, ("features", "logits"))

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the nearest neighbour's error (the upper bound) and the lower bound."""
        found: list[Finding] = []
        for name, split in splits.items():
            check_labelled_split(split)
            labels = labels_of(split)
            classes = len(np.unique(labels))
            if classes < 2:
                why = f"its {len(split)} records are not of two classes at least"
                found.append(
                    Finding.missing(NAME, why, len(split)).tagged(method=METHOD, split=name)
                )
                continue
            points = features_of(split)
            if self.space == "logits":
                points = run.logits(target, split)
            found += self._bounds(neighbour_errors(points, labels), classes, name, run)
        return tuple(found)

    def _bounds(self, wrong: np.ndarray, classes: int, name: str, run: Run) -> list[Finding]:
        upper = mean_finding(wrong, "nearest-neighbour error", "", run.stream(METHOD, name))
        ends = [cover_hart(float(x), classes)[0] for x in (upper.value, upper.low, upper.high)]
        lower = Finding(NAME, *ends, len(wrong))
        return [each.tagged(method=METHOD, split=name) for each in (upper, lower)]
