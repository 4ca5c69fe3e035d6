"""Can something be read off hidden states by a linear classifier, at each layer on its own?

A logistic regression learns from the states of some records and is asked about others, for a probe
that is tested on what it learnt from finds anything in anything. States are standardised by those
that it learns from.

    z = (h - mean) / deviation,   p(c | z) = softmax(W z + b)_c,
    minimise  sum of -log p(label | z)  +  |W|^2 / (2 strength)
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from engram.core import EngramError

STEPS = 500
"""The most steps of the solver."""


def probe_hits(
    states_train: Float[np.ndarray, "layers m width"],
    labels_train: Sequence[Any] | np.ndarray,
    states_test: Float[np.ndarray, "layers n width"],
    labels_test: Sequence[Any] | np.ndarray,
    *,
    strength: float = 1.0,
) -> Bool[np.ndarray, "layers n"]:
    """Which of the test records a linear probe gets right, at each layer.

    Args:
        states_train: Hidden states to learn from, as `layer_states` gives them.
        labels_train: What is to be read off each; (m,), of texts or of whole numbers.
        states_test: Hidden states of other records.
        labels_test: The truth about those; (n,). One that no record to learn from has is a miss.
        strength: The inverse of the penalty on the weights.

    Raises:
        EngramError: Nothing to learn from, other layers or widths, or labels of another number.
    """
    layers, m, width = states_train.shape
    n = states_test.shape[1]
    if (layers, width) != (len(states_test), states_test.shape[2]):
        raise EngramError(
            f"the states to learn from are {layers} layers of {width} numbers, those to test "
            f"{len(states_test)} of {states_test.shape[2]}",
            hint="both must be of models of one architecture",
        )
    for what, labels, count in (("learn from", labels_train, m), ("test", labels_test, n)):
        if len(labels) != count:
            raise EngramError(f"{len(labels)} labels for {count} records to {what}")
    if not m:
        raise EngramError("a probe has no records to learn from", hint="give it at least one")
    if not 0 < strength < np.inf:
        raise EngramError(f"strength is {strength}, but must be above 0", hint="1 is usual")
    # One type of label, so that a label of the one side equals the same one of the other.
    names = {label: number for number, label in enumerate(dict.fromkeys(_plain(labels_train)))}
    train = np.array([names[label] for label in _plain(labels_train)])
    test = np.array([names.get(label, -1) for label in _plain(labels_test)])
    said = [
        _predicted(*pair, train, strength) for pair in zip(states_train, states_test, strict=True)
    ]
    return np.array(said, np.int64).reshape(layers, n) == test


def _predicted(
    train: Float[np.ndarray, "m width"],
    test: Float[np.ndarray, "n width"],
    labels: np.ndarray,
    strength: float,
) -> np.ndarray:
    """The class that a probe of one layer sees in each test record."""
    from sklearn.linear_model import LogisticRegression

    if not len(test):
        return np.empty(0, np.int64)
    if labels.min() == labels.max():
        return np.full(len(test), labels[0])
    mean, spread = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    spread = np.where(spread > 0, spread, 1.0)
    probe = LogisticRegression(C=strength, max_iter=STEPS)
    # A probe that is not quite at its best is a probe, and so is one of many classes.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        probe.fit((train - mean) / spread, labels)
    return probe.predict((test - mean) / spread)


def _plain(labels: Sequence[Any] | np.ndarray) -> list[Any]:
    return labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
