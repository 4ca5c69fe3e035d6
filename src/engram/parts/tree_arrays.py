"""Decision trees as flat arrays: the nodes of all of them, one after another."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

LEAF = -1
"""What scikit-learn writes for the children of a leaf."""
TOGETHER = 1 << 16
"""Records times trees that go down at once: their places stay in the processor's cache."""


def packed(trees: Sequence[Any]) -> dict[str, np.ndarray]:
    """Roots, children, features and thresholds of scikit-learn's trees (their `tree_`)."""
    root = np.cumsum([0, *[t.node_count for t in trees]])[:-1]

    def moved(name: str) -> np.ndarray:
        pairs = zip(trees, root, strict=True)
        parts = [np.where(getattr(t, name) < 0, LEAF, getattr(t, name) + r) for t, r in pairs]
        return np.concatenate(parts).astype(np.int64)

    return {
        "root": root.astype(np.int64),
        "left": moved("children_left"),
        "right": moved("children_right"),
        "feature": np.concatenate([t.feature for t in trees]).astype(np.int64),
        "threshold": np.concatenate([t.threshold for t in trees]),
    }


def leaves_of(
    arrays: Mapping[str, np.ndarray], features: Float[np.ndarray, "n features"]
) -> Iterator[Int[np.ndarray, " n"]]:
    """For each tree, the leaf that each record falls into.

    Many trees go down together, so that small tables do not wait for the interpreter.
    """
    features = features.astype(np.float32)  # scikit-learn compares these with float64 thresholds
    places, width = np.arange(len(arrays["left"])), features.shape[1]
    inner = arrays["left"] != LEAF
    # A leaf leads to itself on both sides: a record that has arrived stays.
    left, right = (np.where(inner, arrays[side], places) for side in ("left", "right"))
    asked, flat = np.where(inner, arrays["feature"], 0), features.reshape(-1)
    rows = np.arange(len(features)) * width
    together = max(1, TOGETHER // max(len(features), 1))
    for first in range(0, len(arrays["root"]), together):
        roots = arrays["root"][first : first + together]
        node = np.repeat(roots[:, None], len(features), axis=1)
        while inner[node].any():
            below = flat[rows + asked[node]] <= arrays["threshold"][node]
            node = np.where(below, left[node], right[node])
        yield from node
