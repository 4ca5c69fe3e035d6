"""What can be told of a record without asking any model: numbers for a regression."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from engram.core import EngramError, Split
from engram.parts.labelled import features_of, labels_of

WORDS = 128
"""Columns into which the words of a text are hashed."""


@dataclass(frozen=True, eq=False)
class RecordFeatures:
    """Turns records into numbers, each record by itself; classes are those of other records.

    Attributes:
        text: Whether the records are texts; else they are features with a label.
        width: Numbers in a record's features.
        classes: The labels that have a column of their own.
    """

    text: bool
    width: int
    classes: tuple[int, ...]

    @classmethod
    def like(cls, split: Split) -> "RecordFeatures":
        """What suits the records of `split`.

        Raises:
            EngramError: They are neither texts nor features with a label.
        """
        if "text" in split.columns:
            return cls(True, 0, ())
        if not {"features", "label"} <= set(split.columns):
            raise EngramError(
                f"split {split.name!r} has neither texts nor features with a label, but "
                f"{', '.join(split.columns)}",
                hint="features of other records are not known here; leave this attack out",
            )
        classes = np.unique(labels_of(split)).tolist()
        return cls(False, features_of(split).shape[1], tuple(classes))

    def of(self, split: Split) -> Float[np.ndarray, "n columns"]:
        """One row of numbers a record."""
        if self.text:
            return text_features(split.texts)
        labels = labels_of(split)
        which = (labels[:, None] == np.array(self.classes)).astype(np.float64)
        return np.column_stack([features_of(split, self.width).astype(np.float64), which])


def text_features(texts: Sequence[str]) -> Float[np.ndarray, "n columns"]:
    """Lengths, how well zlib writes it, kinds of characters, and a bag of hashed words."""
    from sklearn.feature_extraction.text import HashingVectorizer

    if not len(texts):
        return np.zeros((0, len(_shape("")) + WORDS))
    shape = np.array([_shape(text) for text in texts], np.float64)
    bag = HashingVectorizer(n_features=WORDS, token_pattern=r"(?u)\b\w+\b").transform(texts)
    return np.column_stack([shape, bag.toarray()])


def _shape(text: str) -> list[float]:
    raw = text.encode("utf-8", "surrogatepass")
    size = max(len(text), 1)
    return [
        np.log1p(len(text)),
        np.log1p(len(text.split())),
        len(zlib.compress(raw)) / max(len(raw), 1),
        sum(c.isdigit() for c in text) / size,
        sum(c.isupper() for c in text) / size,
        sum(not (c.isalnum() or c.isspace()) for c in text) / size,
    ]
