"""What the loaders of named sets share: checked bytes -> tables and splits."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from engram.core.split import Split
from engram.data.columns import Wanted, to_split
from engram.data.files import reader_of
from engram.data.sources import Limits
from engram.data.tabular import feature_table


def rows_of(raw: bytes, name: str) -> pa.Table:
    """The table in the content of a file of this name."""
    return reader_of(name)[0](io.BytesIO(raw), name, Limits(), None).table


def arrays_of(raw: bytes) -> dict[str, np.ndarray]:
    """The arrays of an npz file; objects (pickles) in it are an error."""
    with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def table_split(name: str, raw: bytes, file: str, label: str) -> Split:
    """A classifier's split from a table with a header."""
    limits = Limits()
    rows = reader_of(file)[0](io.BytesIO(raw), file, limits, None)
    return to_split(rows, name, Wanted(label=label), limits)


def feature_split(
    name: str,
    features: Float32[np.ndarray, "n width"],
    labels: Int64[np.ndarray, " n"],
    shared: Mapping[str, np.ndarray] | None = None,
) -> Split:
    """A classifier's split from arrays; ids are row numbers."""
    ids = pa.array([f"{name}-{row:05d}" for row in range(len(labels))])
    table = feature_table(features, labels).append_column("id", ids)
    return Split.from_table(name, table, shared=shared)


def classes_of(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Class names as shared context."""
    return {"classes": np.array(list(names))}


def grouped(pieces: Sequence[str], size: int, between: str) -> list[str]:
    """Pieces that follow each other, joined `size` at a time; the last group may be shorter."""
    return [between.join(pieces[i : i + size]) for i in range(0, len(pieces), size)]
