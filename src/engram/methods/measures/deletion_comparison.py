"""Whether comparing a model before and after a deletion gives away what was deleted.

Whoever keeps the model of yesterday can ask it and that of today the same question. For a record
that was deleted in between, the answers differ more than for others: a deletion may tell more about
a record than the model ever did. So the attack is measured on the pair of models: deleted records
against records that neither model saw.

    distance(x) = || p_before(x) - p_after(x) ||_2
    drop(x)     = log p_before(y | x) - log p_after(y | x)

An AUC of 0.5 gives nothing away. Beside it stands the attack on the model of yesterday alone, by
its loss: what the pair gives away beyond that is the price of the deletion.

Differs from the paper: 1. Scores without a trained attack model: the paper's Euclidean distance,
and the drop in confidence. 2. Many records may have been deleted at once; the paper's are deleted
one at a time, which gives the most away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.labelled import labels_of
from engram.parts.retrained import forgotten_of
from engram.stats import auc

NAMES = (
    "AUC of deleted records by distance",
    "AUC of deleted records by drop",
    "AUC of deleted records before",
)
FEWEST = 2


@dataclass(frozen=True)
class DeletionComparison:
    """What answers before and after a deletion give away together."""

    paper: ClassVar[Paper] = Paper(
        title="When Machine Unlearning Jeopardizes Privacy",
        authors="Chen et al.",
        year=2021,
        url="https://arxiv.org/abs/2005.02205",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    access: ClassVar[Access] = "logits"

    before: str = ""
    """The model as it was before the deletion: a target's folder."""

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the AUCs of deleted records against outsiders; missing without both models."""
        name, deleted = forgotten_of(splits)
        outsiders = splits.get("outsiders")
        tags = {"method": "deletion-comparison", "split": f"{name}, outsiders"}
        if reason := self._missing(deleted, outsiders):
            return tuple(Finding.missing(n, reason, len(deleted)).tagged(**tags) for n in NAMES)
        other = run.target(self.before)
        if other.family != target.family:
            raise EngramError(
                f"the model {self.before!r} is a {other.family}, but the target a {target.family}",
                hint="name the model that the target was made from",
            )
        everyone = deleted.joined(outsiders, "asked")  # type: ignore[arg-type]
        then, now = (logprobs(run.logits(model, everyone)) for model in (other, target))
        labels = labels_of(everyone, then.shape[1])
        rows, gone = np.arange(len(everyone)), np.arange(len(everyone)) < len(deleted)
        told = then[rows, labels]
        scores = (distance(then, now), told - now[rows, labels], told)
        return tuple(
            _found(each, score, gone, run).tagged(**tags)
            for each, score in zip(NAMES, scores, strict=True)
        )

    def _missing(self, deleted: Split, outsiders: Split | None) -> str:
        if not self.before:
            return "name the model before the deletion with --before"
        if outsiders is None or min(len(deleted), len(outsiders)) < FEWEST:
            return "it takes two deleted and two held-out records"
        return ""


def logprobs(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    """Log-probabilities of the classes, in nats."""
    from scipy.special import log_softmax

    return log_softmax(np.asarray(logits, np.float64), axis=1)


def distance(
    then: Float[np.ndarray, "n classes"], now: Float[np.ndarray, "n classes"]
) -> Float[np.ndarray, " n"]:
    """Euclidean distance of the probabilities, from log-probabilities."""
    return np.sqrt(((np.exp(then) - np.exp(now)) ** 2).sum(1))


def _found(name: str, scores: np.ndarray, gone: np.ndarray, run: Run) -> Finding:
    area = auc(scores, gone, run.stream("deletion-comparison", name))
    return Finding(name, area.value, area.low, area.high, area.n, note="0.5 gives nothing away")
