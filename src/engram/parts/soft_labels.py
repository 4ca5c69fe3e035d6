"""Labels in shares: a column `soft_label` of one number for each output of a network.

A distilled record is often not one class but a little of several, and what a teacher says of a
picture is a list of numbers altogether. Where all rows are shares (at least 0, with the sum 1) a
network learns them by cross-entropy, else by squared error. The column `label` stays beside it, as
the number of the largest share: who knows nothing of soft labels still knows the class.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from engram.core import EngramError, Split

SOFT = "soft_label"
CLOSE = 1e-4
"""How far from 1 a sum of shares may be."""


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """What a network is to say of each record.

    Attributes:
        values: One row a record.
        shares: Whether every row holds probabilities.
    """

    values: Float[np.ndarray, "n outputs"]
    shares: bool

    def losses(
        self, logits: Float[Tensor, "rows outputs"], rows: np.ndarray
    ) -> Float[Tensor, " rows"]:
        """Cross-entropy in nats where they are shares, else the mean squared error."""
        wanted = torch.from_numpy(self.values[rows]).to(logits.device)
        if self.shares:
            return -(wanted * logits.log_softmax(1)).sum(1)
        return (logits - wanted).square().mean(1)


def soft_labels_of(split: Split, outputs: int | None = None) -> SoftLabels | None:
    """The soft labels of all records; None where the split has none.

    Args:
        split: The records.
        outputs: How many numbers the network gives.

    Raises:
        EngramError: They are no numbers, not equally many, not finite, or more or fewer than the
            network gives.
    """
    if SOFT not in split.columns:
        return None
    column, what = split.column(SOFT), f"column {SOFT!r} of split {split.name!r}"
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not (
        pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
    ):
        raise EngramError(
            f"{what} holds {kind}, not lists of numbers",
            hint="it says how much a record is of each class; call a column of your own otherwise",
        )
    values = _array(column, what)
    if outputs is not None and values.shape[1] != outputs:
        raise EngramError(
            f"{what} has {values.shape[1]} numbers a record, but the model gives {outputs}",
            hint=f"drop the column {SOFT!r}, or use a model of as many outputs",
        )
    shares = bool((values >= 0).all() and (np.abs(values.sum(1) - 1) <= CLOSE).all())
    return SoftLabels(values, shares)


def outputs_of(split: Split, classes: int) -> int:
    """How many numbers a network for these records gives: of soft labels, else as many classes."""
    soft = soft_labels_of(split)
    return classes if soft is None else soft.values.shape[1]


def refuse_soft_labels(split: Split, who: str) -> None:
    """Raise where records have soft labels and `who` would pass them over."""
    if SOFT in split.columns:
        raise EngramError(
            f"split {split.name!r} has a column {SOFT!r}, but {who} knows hard labels alone",
            hint="train-classifier, finetune-classifier and sisa learn soft labels; or drop the "
            "column: `label` says the class",
        )


def with_soft_labels(split: Split, values: Float[np.ndarray, "n outputs"]) -> Split:
    """The same records with these soft labels; ids stay."""
    flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    table = split.records.drop_columns([c for c in (SOFT,) if c in split.columns])
    table = table.append_column(SOFT, column)
    return Split(split.name, table, split.ids, split.owners, split.canaries, split.shared)


def _array(column: pa.ChunkedArray, what: str) -> Float[np.ndarray, "n outputs"]:
    rows = column.to_pylist()
    sizes = {len(row) if row is not None else 0 for row in rows}
    if len(sizes) > 1 or 0 in sizes:
        raise EngramError(
            f"{what} has rows of {', '.join(map(str, sorted(sizes)))} numbers",
            hint="give every record as many",
        )
    values = np.array(rows, np.float64).reshape(len(rows), sizes.pop() if sizes else 0)
    if not np.isfinite(values).all():
        raise EngramError(f"{what} has a number that is not finite", hint="leave that record out")
    return values.astype(np.float32)
