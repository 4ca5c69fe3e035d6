"""Weights of the shards by which they answer best together (Chen et al., 2022, equation 3).

    min over alpha of  mean over w in G0 of CE( sum_i alpha_i P_i(w), y_w )  +  lambda ||alpha||_2
    with alpha_i >= 0 and sum_i alpha_i = 1

P_i are probabilities. Their weighted mean is one too, so its cross-entropy is minus the logarithm
of what it gives the true class, and nothing has to be sent through a softmax again.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from engram.core import EngramError, seed_of

LEAST = 1e-12


def lots(ids: Sequence[str], seed: int, count: int) -> Int[np.ndarray, " chosen"]:
    """The rows of the `count` records with the lowest lots, the lowest first.

    A lot depends on the seed and the record's id alone. So a sample without one of its records is
    the old one and the record that is next, whoever else was there.
    """
    drawn = np.array([seed_of(seed, "aggregation sample", each) >> 65 for each in ids], np.uint64)
    return np.argsort(drawn, kind="stable")[:count]


def true_class(
    posteriors: Float[np.ndarray, "shards n classes"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "shards n"]:
    """What each shard gives the true class of each record.

    Raises:
        EngramError: They are no probabilities: those of a record do not sum to 1.
    """
    if posteriors.size and not np.allclose(posteriors.sum(-1), 1.0, atol=1e-4):
        raise EngramError(
            "what the shards say of a record does not sum to 1, so it is no probability",
            hint="aggregate softmax(logits), not logits and not log-probabilities",
        )
    return posteriors[:, np.arange(len(labels)), labels]


def objective(
    alpha: Float[np.ndarray, " shards"], true: Float[np.ndarray, "shards n"], penalty: float
) -> float:
    """Mean cross-entropy of the weighted mean, in nats, and `penalty` times the length of alpha."""
    told = np.maximum(alpha @ true, LEAST)
    return float(-np.log(told).mean() + penalty * np.sqrt((alpha**2).sum()))


def learned_weights(
    true: Float[np.ndarray, "shards n"],
    rng: np.random.Generator,
    *,
    penalty: float = 0.1,
    epochs: int = 50,
    batch: int = 32,
    learning_rate: float = 1e-3,
) -> Float[np.ndarray, " shards"]:
    """Alpha by Adam on batches of records, put back among the weights after every step.

    Args:
        true: What each shard gives the true class of each record of G0 (`true_class`).
        rng: Order of the records.
        penalty: lambda; the larger, the more alike are the weights.
        epochs: Times that each record is seen.
        batch: Records in a step.
        learning_rate: Of Adam.

    Returns:
        Weights of at least 0 that sum to 1; all alike where there is no record to learn from.
    """
    shards, n = true.shape
    alpha = np.full(shards, 1 / shards)
    if shards == 1:
        return alpha
    first, second, step = np.zeros(shards), np.zeros(shards), 0
    for _ in range(epochs if n else 0):
        drawn = true[:, rng.permutation(n)]
        for start in range(0, n, batch):
            step += 1
            slope = gradient(alpha, drawn[:, start : start + batch], penalty)
            slope -= slope.sum() / shards  # what moves all weights alike is undone by their sum
            first = 0.9 * first + 0.1 * slope
            second = 0.999 * second + 0.001 * (slope * slope)
            root = np.sqrt(second / (1 - 0.999**step)) + 1e-8
            alpha = np.maximum(alpha - learning_rate / (1 - 0.9**step) * first / root, 0.0)
            alpha /= max(float(alpha.sum()), LEAST)
    return alpha


def gradient(
    alpha: Float[np.ndarray, " shards"], true: Float[np.ndarray, "shards n"], penalty: float
) -> Float[np.ndarray, " shards"]:
    """Of the objective, by alpha."""
    told = np.maximum(alpha @ true, LEAST)
    length = max(float(alpha @ alpha) ** 0.5, LEAST)
    return penalty / length * alpha - true @ (1 / told) / len(told)
