"""How often the model is right: about a record's class, or about a text's next token.

The plainest measure of use, and one whose gap between members and outsiders shows how much of
it was learnt by heart. A classifier is right where its largest logit is that of the label; a
language model where greedy decoding would have written the token that comes.

    accuracy = share of records with argmax(logits) = label          (classifiers)
    accuracy = share of tokens that greedy decoding would write      (language models)

The classifier's interval is Clopper and Pearson's exact one; the language model's resamples
records, for the tokens of one record stand or fall together.

Differs from the paper: Nowhere that we know.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram import families
from engram.core import Access, Finding, Paper, Run, Split, Target
from engram.parts.labelled import check_labelled_split
from engram.parts.record_bootstrap import ratio_interval
from engram.stats.intervals import proportion


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers on every split."""

    paper: ClassVar[Paper] = Paper(
        title="The use of confidence or fiducial limits illustrated in the case of the binomial",
        authors="Clopper and Pearson",
        year=1934,
        url="https://doi.org/10.1093/biomet/26.4.404",
    )
    needs: ClassVar[frozenset[str]] = frozenset()
    needs_one_of: ClassVar[frozenset[str]] = frozenset({"tokens", "logits"})
    access: ClassVar[Access] = "logits"

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the accuracy on each split, in the order given."""
        answers = families.find(target.family).answers
        found = []
        for name, split in splits.items():
            if "logits" in answers:
                number = self._of_classes(target, split, run)
            elif "tokens" in answers:
                number = self._of_tokens(target, split, run, name)
            else:
                reason = f"a {target.family} gives neither class logits nor tokens"
                number = Finding.missing("accuracy", reason, len(split))
            found.append(number.tagged(method="accuracy", split=name, better="higher"))
        return tuple(found)

    def _of_classes(self, target: Target, split: Split, run: Run) -> Finding:
        check_labelled_split(split)
        # An estimator's classes need not be 0, 1, 2, ...: its family knows which column is whose.
        places = getattr(families.find(target.family), "places", None)
        labels = split.matrix("label") if places is None else places(target.model, split)
        right = run.logits(target, split).argmax(axis=1) == labels
        return proportion(int(right.sum()), len(split), "accuracy")

    def _of_tokens(self, target: Target, split: Split, run: Run, name: str) -> Finding:
        what = "next-token accuracy"
        signals = run.tokens(target, split)
        lengths = signals.lengths.astype(np.float64)
        hits = signals.means(np.asarray(signals.greedy, np.float32)) * lengths
        hits, lengths = hits[lengths > 0], lengths[lengths > 0]
        if len(hits) < 2:
            reason = "fewer than two records have tokens that the model scores"
            return Finding.missing(what, reason, len(hits))
        low, high = ratio_interval(hits, lengths, run.stream("accuracy", name))
        return Finding(what, float(hits.sum() / lengths.sum()), low, high, len(hits))
