"""Paraphrases of many records as one split, so that a model is asked about all of them at once."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from engram.core import Split
from engram.parts.paraphrasers.fillers import Made


@dataclass(frozen=True, eq=False)
class Paraphrases:
    """Changed texts, and which record each of them belongs to."""

    split: Split
    owner_row: Int[np.ndarray, " texts"]

    @classmethod
    def of(cls, split: Split, made: Made, name: str) -> "Paraphrases":
        """One record a paraphrase, with the id of its own record before the first letter of `name`.

        The id is `<record>~<letter><number>`.
        """
        ids = tuple(f"{split.ids[row]}~{name[0]}{number}" for row, number, _ in made)
        texts = pa.array([text for _, _, text in made], pa.string())
        derived = Split(f"{split.name}-{name}", pa.table({"text": texts}), ids)
        return cls(derived, np.array([row for row, _, _ in made], np.int64))


def mean_by_row(
    values: Float[np.ndarray, " texts"], rows: Int[np.ndarray, " texts"], n: int
) -> Float[np.ndarray, " n"]:
    """The mean of the values of each row; NaN where it has none."""
    count = np.bincount(rows, minlength=n).astype(np.float64)
    total = np.bincount(rows, weights=values, minlength=n)
    return np.divide(total, count, out=np.full(n, np.nan), where=count > 0)
