"""Bounds on the error that no classifier can avoid, from that of the nearest neighbour."""

import math

import numpy as np
from jaxtyping import Float, Int

BLOCK = 1024


def cover_hart(error: float, classes: int) -> tuple[float, float]:
    """The least and the most that the Bayes error can be (Cover and Hart, 1967, theorem 1).

        (C - 1)/C * (1 - sqrt(1 - C/(C - 1) * error)) <= beta <= error

    True of the error with endlessly many records; an error beyond (C - 1)/C is read as that.

    Args:
        error: Of the nearest neighbour, in [0, 1].
        classes: C, at least 2.
    """
    chance = (classes - 1) / classes
    inside = max(0.0, 1 - min(error, chance) / chance)
    return chance * (1 - math.sqrt(inside)), error


def neighbour_errors(
    points: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Whether each record's nearest other record is of another class: 0 or 1.

    Where several are equally near, it is the share of them that are.

    Args:
        points: At least two records.
        labels: Their classes.
    """
    points = points.astype(np.float64)
    squares = (points**2).sum(1)
    found = np.empty(len(points))
    for first in range(0, len(points), BLOCK):
        rows = np.arange(first, min(first + BLOCK, len(points)))
        distance = squares[rows, None] + squares[None, :] - 2 * points[rows] @ points.T
        distance[np.arange(len(rows)), rows] = np.inf
        # Copies of one another differ by rounding alone.
        slack = 1e-12 * (squares[rows, None] + 1)
        nearest = distance <= distance.min(1, keepdims=True) + slack
        wrong = labels[rows, None] != labels[None, :]
        found[rows] = (nearest & wrong).sum(1) / nearest.sum(1)
    return found
