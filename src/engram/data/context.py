"""What all records of a split share, kept in a Parquet file beside the records.

The shape of pictures, the range of a pixel or the trigger of a backdoor belong to all records at
once, so they are no column. They are written as JSON into the file's own metadata.
"""

import json
from collections.abc import Mapping

import numpy as np

from engram.core.errors import EngramError

KEY = b"engram.shared"
KINDS = "biufU"
"""Kinds of arrays that are kept: true and false, numbers, and words."""


LINEAGE = ("origins", "origin_owners")
"""What must not be lost: without it, no deletion request finds the records any more."""
GRAPH = ("edges", "node_features")
"""Nor this: nodes without their graph are other records."""


def check_nothing_is_lost(shared: Mapping[str, np.ndarray], path: str) -> None:
    """Raise where a file of a kind that holds records alone would lose where they come from."""
    if lost := [name for name in LINEAGE if name in shared]:
        raise EngramError(
            f"{path} cannot hold what the records share as {lost[0]!r}: which records they were "
            "made from",
            hint="end the name with .parquet",
        )
    if lost := [name for name in GRAPH if name in shared]:
        raise EngramError(
            f"{path} cannot hold the graph beside the records (what they share as {lost[0]!r})",
            hint="end the name with .parquet",
        )


def packed(shared: Mapping[str, np.ndarray]) -> dict[bytes, bytes]:
    """Metadata that holds these arrays; empty where there are none.

    Raises:
        EngramError: An array holds neither numbers nor words.
    """
    if not shared:
        return {}
    for name, values in shared.items():
        if np.asarray(values).dtype.kind not in KINDS:
            raise EngramError(
                f"what the records share as {name!r} holds {np.asarray(values).dtype}",
                hint="numbers and words can be written to a file",
            )
    arrays = {name: np.asarray(values) for name, values in sorted(shared.items())}
    return {
        KEY: json.dumps(
            {
                name: {
                    "type": values.dtype.str,
                    "shape": list(values.shape),
                    "values": values.reshape(-1).tolist(),
                }
                for name, values in arrays.items()
            }
        ).encode()
    }


def unpacked(metadata: Mapping[bytes, bytes] | None, origin: str) -> dict[str, np.ndarray]:
    """The arrays in a file's metadata.

    Raises:
        EngramError: They were damaged, or written by something else.
    """
    if not metadata or KEY not in metadata:
        return {}
    try:
        found = {}
        for name, each in json.loads(metadata[KEY]).items():
            kind = np.dtype(each["type"])
            if kind.kind not in KINDS:
                raise ValueError(f"an array of {kind}")
            found[str(name)] = np.array(each["values"], kind).reshape(each["shape"])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as problem:
        raise EngramError(
            f"{origin} does not say rightly what its records share ({problem})",
            hint="write it again with `engram transform`, or without its metadata",
        ) from None
    return found
