"""Score a record by how much noise its predicted label survives, without seeing any confidence.

A model that only says which class it predicts seems to give little away. But training pushes
the border between classes away from the records that it trains on; so add noise to a record
again and again and count how often the label stays right. A record whose label is wrong even
without noise was probably not trained on: it scores below all whose label is right.

    share(x) = share of the noisy copies x + strength * spread * N(0, 1) that are given label y
    score(x) = share(x)       where the label of x itself is y
    score(x) = share(x) - 2   where it is not

`spread` is the standard deviation of each feature: over the population that is named, else over
the audited records, members and outsiders alike. The model is asked for the copies of all
records at once, and of its answers nothing but the label is looked at.

Differs from the paper: 1. The paper tunes one strength on a shadow model; we average over
several. 2. It flips binary features at random; we add noise to all numbers alike. 3. It also
measures the distance to the border by an adversarial search, which we leave out.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from engram.core import Access, EngramError, Paper, Run, Scores, Split, Target
from engram.parts.labelled import features_of, labels_of
from engram.parts.outside_records import outside_records

MOST = 2**28
"""Numbers in all noisy copies together: 1 GiB."""


@dataclass(frozen=True)
class LabelOnly:
    """Share of noisy copies that keep the true label."""

    paper: ClassVar[Paper] = Paper(
        title="Label-Only Membership Inference Attacks",
        authors="Choquette-Choo et al.",
        year=2021,
        url="https://arxiv.org/abs/2007.14321",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    access: ClassVar[Access] = "text"
    relative: ClassVar[bool] = True

    queries: int = 25
    """Noisy copies of a record at each strength; the paper uses up to 10,000 in all."""
    strengths: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0)
    """Standard deviations of the noise, in units of each feature's spread."""
    population: str = ""
    """Records to take the spread of each feature from, none of them audited: a file or a data
    set. Empty: the audited records."""

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise EngramError(
                f"queries is {self.queries}, but must be at least 1", hint="25 is a good start"
            )
        numbers = [s for s in self.strengths if isinstance(s, int | float)]
        bad = len(numbers) < len(self.strengths) or not all(0 < s < math.inf for s in numbers)
        if bad or not numbers:
            raise EngramError(
                f"strengths are {self.strengths!r}, but must be one or more numbers above 0",
                hint="0.1 adds a tenth of each feature's standard deviation",
            )

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return the share of copies that keep the label; 2 less where the label is wrong."""
        if not len(split):
            return Scores(split.ids, np.zeros(0), unit="share of queries")
        own = right(target, split, run)
        answers = right(target, self.copies(target, split, run), run)
        share = answers.reshape(len(split), -1).mean(axis=1)
        return Scores(split.ids, scored(own, share), unit="share of queries")

    def copies(self, target: Target, split: Split, run: Run) -> Split:
        """All noisy copies of all records, one record after another, as one split.

        Raises:
            EngramError: There would be too many, or no feature varies.
        """
        features = features_of(split)
        n, width = features.shape
        each = self.queries * len(self.strengths)
        if n * each * width > MOST:
            raise EngramError(
                f"{each} noisy copies of {n} records with {width} features are more than fit into "
                "memory",
                hint=f"at most {max(1, MOST // (n * width * len(self.strengths)))} queries do, or "
                "audit fewer records",
            )
        spread = self._spread(target, split, run)
        strength = np.repeat(self.strengths, self.queries)[:, None]
        noisy = np.empty((n, each, width), np.float32)
        for row, record in enumerate(split.ids):
            noise = run.stream("label-only", record).normal(size=(each, width))
            noisy[row] = features[row] + strength * spread * noise
        values = pa.FixedSizeListArray.from_arrays(pa.array(noisy.reshape(-1)), width)
        ids = tuple(f"{record}~l{k}" for record in split.ids for k in range(each))
        copied = split.records.take(pa.array(np.repeat(np.arange(n), each)))
        place = copied.column_names.index("features")
        copied = copied.set_column(place, "features", values)
        return Split(f"{split.name}-noisy", copied, ids, shared=split.shared)

    def _spread(self, target: Target, split: Split, run: Run) -> Float[np.ndarray, " features"]:
        """The standard deviation of each feature; 1 where a single record tells nothing."""
        source = split
        if self.population:
            source = outside_records(self.population, split, target, run, least=2)
        features = features_of(source, features_of(split).shape[1]).astype(np.float64)
        if len(features) == 1:
            return np.ones(features.shape[1])
        spread = features.std(axis=0)
        if not spread.any():
            raise EngramError(
                f"no feature varies among the {len(features)} records, so noise has no scale",
                hint="name other records of the kind with --population F",
            )
        return spread


def scored(own: Bool[np.ndarray, " n"], share: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Robustness, with the gap attack first: who is wrong without noise is below all others."""
    return np.where(own, share, share - 2)


def right(target: Target, split: Split, run: Run) -> Bool[np.ndarray, " n"]:
    """Whether the model gives each record its own label."""
    said, known = labels_of_answers(target, split, run)
    labels = labels_of(split)
    if strange := sorted(set(labels.tolist()) - set(known.tolist())):
        raise EngramError(
            f"split {split.name!r} has the label {strange[0]}, but target {target.name!r} knows "
            f"only {', '.join(map(str, known[:20]))}",
            hint="give records of the kind that the model was trained on",
        )
    return said == labels


def labels_of_answers(
    target: Target, split: Split, run: Run
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " classes"]]:
    """The label that the model gives each record, and the labels that it knows.

    The one place that sees more of an answer than its label, and it lets nothing else out.
    """
    logits = run.logits(target, split)
    known = np.arange(logits.shape[1])
    model = getattr(target.model, "deployed", target.model)
    if hasattr(model, "arrays"):  # an estimator, whose classes may be any whole numbers
        known = np.asarray(model.arrays["classes"]).astype(np.int64)
    return known[logits.argmax(axis=1)], known
