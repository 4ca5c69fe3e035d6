"""Decision trees as flat arrays: the nodes of all of them, one after another."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

LEAF = -1
"""What scikit-learn writes for the children of a leaf."""


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
    """For each tree, the leaf that each record falls into."""
    features = features.astype(np.float32)  # scikit-learn compares these with float64 thresholds
    rows = np.arange(len(features))
    for root in arrays["root"]:
        node = np.full(len(features), root)
        while (inner := arrays["left"][node] != LEAF).any():
            at = node[inner]
            below = features[rows[inner], arrays["feature"][at]] <= arrays["threshold"][at]
            node[inner] = np.where(below, arrays["left"][at], arrays["right"][at])
        yield node
