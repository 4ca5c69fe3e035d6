"""Attributes of a table of features: a number is one column, a category one column for each word.

The split's `feature_names` say which columns belong together: `work=Private`, `work=State`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from engram.core import EngramError, Split, nearest

NAMES = "feature_names"


@dataclass(frozen=True)
class Attribute:
    """What one thing that is known of a record takes in the table.

    Attributes:
        name: As the table calls it; else the column's number.
        columns: Where it stands.
        words: The categories, in order of the columns; empty for a number.
    """

    name: str
    columns: tuple[int, ...]
    words: tuple[str, ...] = ()

    def codes(
        self, features: Float[np.ndarray, "n features"], split: Split
    ) -> Int[np.ndarray, " n"]:
        """The category of each record.

        Raises:
            EngramError: A record has none of them, or several.
        """
        block = features[:, self.columns]
        good = ((block == 0) | (block == 1)).all(1) & (block.sum(1) == 1)
        if not good.all():
            bad = split.ids[int(np.argmin(good))]
            raise EngramError(
                f"record {bad!r} of split {split.name!r} has none of the {len(self.words)} known "
                f"categories of {self.name!r}",
                hint="categories are fixed beforehand: encode the table with all that may come",
            )
        return block.argmax(1)


def attributes_of(split: Split, width: int) -> tuple[Attribute, ...]:
    """The attributes of a split whose records have `width` features, in order of columns."""
    names = [str(name) for name in split.shared.get(NAMES, ())]
    if len(names) != width:
        names = [str(i) for i in range(width)]
    places: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        before, equals, _ = name.partition("=")
        places.setdefault(before if equals else name, []).append(i)
    return tuple(_attribute(name, columns, names) for name, columns in places.items())


def _attribute(name: str, columns: list[int], names: list[str]) -> Attribute:
    words = tuple(names[i].partition("=")[2] for i in columns if "=" in names[i])
    return Attribute(name, tuple(columns), words)


def chosen(
    attributes: Sequence[Attribute], patterns: Sequence[str], what: str
) -> tuple[Attribute, ...]:
    """Those whose names fit any of the patterns; all where there are none.

    Raises:
        EngramError: A pattern fits no attribute.
    """
    names = [a.name for a in attributes]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise EngramError(
                f"{what} {pattern!r} fits no attribute of the table",
                hint=nearest(pattern, names, f"there are {', '.join(names[:20])}"),
            )
    return tuple(
        a for a in attributes if not patterns or any(fnmatchcase(a.name, p) for p in patterns)
    )


def bounds_of(attributes: Sequence[Attribute], stated: Sequence[str]) -> Float[np.ndarray, "2 d"]:
    """The bounds of attributes from entries `name=low:high`; the first that fits counts.

    Raises:
        EngramError: An entry cannot be read, or an attribute has none.
    """
    entries = [parsed_bound(entry) for entry in stated]
    found = []
    for attribute in attributes:
        fits = [ends for pattern, ends in entries if fnmatchcase(attribute.name, pattern)]
        if not fits:
            raise EngramError(
                f"attribute {attribute.name!r} has no bounds",
                hint=f"give them beforehand, not from the data: --bounds {attribute.name}=0:100; "
                "*=0:1 fits all attributes",
            )
        found.append(fits[0])
    return np.array(found, np.float64).reshape(-1, 2).T


def parsed_bound(entry: str) -> tuple[str, tuple[float, float]]:
    """A pattern of names with its lower and upper bound.

    Raises:
        EngramError: The entry is not of the form `name=low:high` with low < high.
    """
    name, _, ends = entry.rpartition("=")
    try:
        low, high = (float(end) for end in ends.split(":"))
    except ValueError:
        low, high = np.nan, np.nan
    if not name or not low < high or not np.isfinite([low, high]).all():
        raise EngramError(
            f"bounds {entry!r} are not of the form name=low:high with low below high",
            hint="for example age=0:120, or *=0:1 for all attributes",
        )
    return name, (low, high)


def with_features(
    split: Split,
    features: Float[np.ndarray, "n features"],
    labels: Int[np.ndarray, " n"],
    shared: dict[str, np.ndarray],
    name: str,
) -> Split:
    """Records of other features: nothing but these and the labels, with ids of their own content.

    The ids, the owners and all other columns of the given records would lead back to them.
    """
    flat = pa.array(np.ascontiguousarray(features, np.float32).reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(flat, features.shape[1])
    table = pa.table({"features": lists, "label": pa.array(labels, pa.int64())})
    return Split.from_table(name, table, shared={**split.shared, **shared})
