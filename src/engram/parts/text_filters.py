"""Filters of texts: a number for each, the higher the more it looks like what is forbidden.

A filter is made from examples of what is forbidden and of what is permitted. When it blocks is
another matter: its threshold is set on permitted texts that it was not made from, so that a given
share of such texts is blocked, and has to be judged on others again.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from engram.core import EngramError
from engram.stats.checks import check_finite

BUCKETS = 1024
"""Places that words and pairs of words are hashed to."""


@runtime_checkable
class TextFilter(Protocol):
    """Gives each text a number."""

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, " n"]:
        """One number a text; higher: more like what is forbidden."""
        ...


@runtime_checkable
class Features(Protocol):
    """Turns each text into a vector."""

    def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, "n width"]:
        """One row a text."""
        ...


def threshold_at(benign: Float[np.ndarray, " n"], rate: float) -> float:
    """The least score of these that at most a share `rate` of them is above.

    A text is blocked where its score is above the threshold.

    Args:
        benign: Scores of permitted texts that the filter was not made from.
        rate: The share of them that may be blocked, in [0, 1).

    Raises:
        EngramError: There are no such scores, one is NaN, or the rate is out of range.
    """
    if not len(benign):
        raise EngramError(
            "a filter's threshold needs permitted texts that it was not made from, and there are "
            "none",
            hint="give more records to keep, or benign records of their own",
        )
    if not 0 <= rate < 1:
        raise EngramError(
            f"the rate of false alarms is {rate}, but must be in [0, 1)", hint="0.02 is usual"
        )
    check_finite(benign, "score")
    ordered = np.sort(benign)
    return float(ordered[len(ordered) - 1 - int(rate * len(ordered) + 1e-9)])


def words_of(text: str) -> list[str]:
    """Words in small letters."""
    return re.findall(r"\w+", text.lower())


def mark(salt: str, words: Sequence[str]) -> bytes:
    """A salted hash of a run of words."""
    return hashlib.sha256(f"{salt} {' '.join(words)}".encode()).digest()


@dataclass(frozen=True)
class HashedWords:
    """TF-IDF of words and pairs of words, hashed to a fixed number of places.

    Attributes:
        salt: Mixed into every hash.
        weights: Inverse document frequency of each place, over the texts it was made from.
    """

    salt: str
    weights: tuple[float, ...]

    @classmethod
    def of(cls, texts: Sequence[str], salt: str, buckets: int = BUCKETS) -> "HashedWords":
        """Weights by how many of the texts have each place: ln((1 + n) / (1 + df)) + 1."""
        bare = cls(salt, (1.0,) * buckets)
        present = (bare._counts(texts) > 0).sum(0)
        weights = np.log((1 + len(texts)) / (1 + present)) + 1
        return cls(salt, tuple(float(f"{weight:.6g}") for weight in weights))

    def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, "n width"]:
        """Weighted counts, each row of length 1 (0 where a text has no words)."""
        found = self._counts(texts) * np.array(self.weights)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return found / np.where(lengths > 0, lengths, 1)

    def _counts(self, texts: Sequence[str]) -> Float[np.ndarray, "n width"]:
        found = np.zeros((len(texts), len(self.weights)))
        for row, text in enumerate(texts):
            words = words_of(text)
            for run in (*((word,) for word in words), *pairwise(words)):
                place = int.from_bytes(mark(self.salt, run)[:8], "big") % len(self.weights)
                found[row, place] += 1
        return found


@dataclass(frozen=True)
class LinearFilter:
    """A linear classifier of a text's features: its log-odds.

    Attributes:
        features: Of a text.
        weights: Of each feature.
        bias: Added.
    """

    features: Any
    weights: tuple[float, ...]
    bias: float

    @classmethod
    def of(
        cls, features: Features, forbidden: Sequence[str], permitted: Sequence[str]
    ) -> "LinearFilter":
        """Logistic regression with both classes weighing the same."""
        from sklearn.linear_model import LogisticRegression

        table = features([*forbidden, *permitted])
        is_forbidden = np.arange(len(table)) < len(forbidden)
        fitted = LogisticRegression(C=10.0, class_weight="balanced", max_iter=2000)
        fitted.fit(table, is_forbidden)
        weights = tuple(float(f"{weight:.6g}") for weight in fitted.coef_[0])
        return cls(features, weights, float(f"{fitted.intercept_[0]:.6g}"))

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, " n"]:
        """Log-odds that it is forbidden."""
        return self.features(texts) @ np.array(self.weights) + self.bias


@dataclass(frozen=True, eq=False)
class NeighbourFilter:
    """How near a text is to forbidden examples, beside permitted ones.

    Attributes:
        features: Of a text.
        forbidden: Features of forbidden examples, each row of length 1.
        permitted: Of permitted ones.
        k: How many nearest ones of each side count.
    """

    features: Any
    forbidden: Float[np.ndarray, "m width"]
    permitted: Float[np.ndarray, "p width"]
    k: int = 3

    @classmethod
    def of(
        cls, features: Features, forbidden: Sequence[str], permitted: Sequence[str], k: int = 3
    ) -> "NeighbourFilter":
        """Keep the features of both sides, rounded as they are saved."""
        sides = (np.round(unit(features(side)), 6) for side in (forbidden, permitted))
        return cls(features, *sides, k)

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, " n"]:
        """Mean cosine with the k nearest forbidden, less that with the k nearest permitted."""
        own = unit(self.features(texts))
        near, far = (
            np.sort(own @ side.T, axis=1)[:, -self.k :].mean(1)
            for side in (self.forbidden, self.permitted)
        )
        return near - far


def unit(rows: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n width"]:
    """Rows of length 1; those of length 0 stay so."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def check_sides(forbidden: Sequence[str], permitted: Sequence[str]) -> None:
    """Refuse to make a filter where a side is empty, or both are the same.

    Raises:
        EngramError: What is lacking.
    """
    for side, what in ((forbidden, "forbidden"), (permitted, "permitted")):
        if not any(words_of(text) for text in side):
            raise EngramError(
                f"a filter needs {what} texts, and there are none with words in them",
                hint="name records to forget and records to keep",
            )
    if {*map(tuple, map(words_of, forbidden))} <= {*map(tuple, map(words_of, permitted))}:
        raise EngramError(
            "every forbidden text is among the permitted ones too, so that a filter cannot tell "
            "them apart",
            hint="give other records to keep",
        )


def blocked(scores: Float[np.ndarray, " n"], threshold: float) -> Bool[np.ndarray, " n"]:
    """Which texts are blocked: those above the threshold."""
    return scores > threshold
