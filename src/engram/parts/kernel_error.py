"""The error that no classifier can avoid, estimated from records by kernels, each record left out.

With p(x, y) written as a sum of Gaussian bumps of width h over the records of class y, the chance
of each class at a record, by all records but itself, is

    q_i(c) = sum_{j != i, y_j = c} exp(-|f_i - f_j|^2 / 2 h^2) / sum_{j != i} (the same)

and the Bayes error, beta = E[1 - max_c p(c | x)], is estimated by the mean of 1 - max_c q_i(c).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram.core import EngramError

Points = Float[Tensor, "n k"]
Embedding = Callable[[Float[Tensor, "n d"]], Points]
Lost = Callable[[Float[Tensor, "m classes"], Int[Tensor, " m"]], Float[Tensor, " m"]]
"""What is lost at records, from their q and their labels."""
BLOCK = 1024
"""Records whose distances to all others are held at a time."""
WIDTHS = tuple(2.0**power for power in range(-4, 2))
"""Widths that are tried, as multiples of the median distance."""


def squared_distances(
    some: Float[Tensor, "m k"], points: Float[Tensor, "n k"]
) -> Float[Tensor, "m n"]:
    """|a - b|^2 of each pair; never below 0, whatever rounding says."""
    squares = some.square().sum(1)[:, None] + points.square().sum(1)[None, :]
    return (squares - 2 * some @ points.T).clamp_min(0.0)


def posteriors(
    points: Points,
    rows: Int[np.ndarray, " m"],
    labels: Int[Tensor, " n"],
    classes: int,
    width: float,
    whose: Int[Tensor, " n"] | None = None,
    weights: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "m classes"]:
    """q_i(c) for the records of these rows: the record itself has no say.

    Args:
        points: Where the records stand.
        rows: Which of them are asked about.
        labels: Their classes.
        classes: How many there are.
        width: h.
        whose: Points of one number are versions of one record, and leave one another out too.
        weights: How much each has to say; None: all the same.
    """
    place = torch.from_numpy(rows)
    whose = torch.arange(len(points)) if whose is None else whose
    near = -squared_distances(points[place], points) / (2 * width**2)
    if weights is not None:
        near = near + weights.log()
    near = near.masked_fill(whose[place][:, None] == whose[None, :], -torch.inf)
    return near.softmax(1) @ nn.functional.one_hot(labels, classes).to(near.dtype)


def smooth_maximum(shares: Float[Tensor, "m classes"], heat: float) -> Float[Tensor, " m"]:
    """sum_c softmax(q / heat)_c q_c, which tends to max_c q as the heat falls to 0."""
    return ((shares / heat).softmax(1) * shares).sum(1)


@dataclass(frozen=True, eq=False)
class KernelEstimate:
    """The estimated Bayes error of moved records, alone or mixed with what they were.

    Attributes:
        clean: The records as they were.
        labels: Their classes.
        classes: How many there are.
        embed: Where distances are taken.
        width: h.
        share: Of the moved records in the mixture, in (0, 1]; 1: they are alone. A record and its
            moved version never speak of one another.
    """

    clean: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]
    classes: int
    embed: Embedding
    width: float
    share: float = 1.0

    @cached_property
    def _clean_points(self) -> Points:
        with torch.no_grad():
            return self.embed(self.clean)

    @property
    def _sides(self) -> int:
        return 1 if self.share == 1 else 2

    @cached_property
    def _weights(self) -> Float[Tensor, " m"]:
        parts = [torch.full((len(self.clean),), w) for w in (self.share, 1 - self.share)]
        return torch.cat(parts[: self._sides]) / len(self.clean)

    def _mixture(self, points: Float[Tensor, "n k"]) -> Float[Tensor, "m k"]:
        return points if self._sides == 1 else torch.cat([points, self._clean_points])

    def _blocks(self, points: Points) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """q, labels and weights of some records after others."""
        mixed = self._mixture(points)
        labels = self.labels.repeat(self._sides)
        whose = torch.arange(len(self.clean)).repeat(self._sides)
        for first in range(0, len(mixed), BLOCK):
            rows = np.arange(first, min(first + BLOCK, len(mixed)))
            shares = posteriors(mixed, rows, labels, self.classes, self.width, whose, self._weights)
            place = torch.from_numpy(rows)
            yield shares, labels[place], self._weights[place]

    def error(self, images: Float[Tensor, "n d"], *, own: bool = False) -> float:
        """The mean of 1 - max_c q_i(c); with `own`, of 1 - q_i(y_i), which is never below it."""
        total = 0.0
        with torch.no_grad():
            for shares, labels, weights in self._blocks(self.embed(images)):
                kept = shares[torch.arange(len(shares)), labels] if own else shares.amax(1)
                total += float(((1 - kept.double()) * weights.double()).sum())
        return total

    def slope(self, images: Float[Tensor, "n d"], lost: Lost) -> Float[Tensor, "n d"]:
        """The gradient of the mean of `lost(q, labels)`; memory holds `BLOCK` rows of distances.

        Records pull on their neighbours as well as on themselves.
        """
        images = images.detach().requires_grad_()
        points = self.embed(images)
        held = points.detach().requires_grad_()
        for shares, labels, weights in self._blocks(held):
            (lost(shares, labels) * weights).sum().backward()
        points.backward(held.grad)
        return images.grad


def likeliest_width(
    points: Points, labels: Int[Tensor, " n"], classes: int, rng: np.random.Generator
) -> float:
    """The width, of a few around the median distance, that makes the labels likeliest.

    Much narrower bumps have no slope, much wider ones say 1 - 1/classes from the start. It is
    found on 1,000 records at most.

    Raises:
        EngramError: All records are the same.
    """
    if len(points) > 1000:
        rows = torch.from_numpy(np.sort(rng.choice(len(points), 1000, replace=False)))
        points, labels = points[rows], labels[rows]
    distances = squared_distances(points, points)
    off = ~torch.eye(len(points), dtype=torch.bool)
    middle = float(distances[off].median().sqrt())
    if not middle > 0:
        raise EngramError(
            "most records are equal, so that no width of a kernel tells them apart",
            hint="take copies out, or give --bandwidth",
        )
    rows, place = np.arange(len(points)), torch.arange(len(points))
    fits = []
    for factor in WIDTHS:
        shares = posteriors(points, rows, labels, classes, factor * middle)
        fits.append(float(shares[place, labels].clamp_min(1e-6).log().mean()))
    return WIDTHS[int(np.argmax(fits))] * middle


def mixture_bound(share: float, clean: float, protected: float) -> float:
    """The least Bayes error of a mixture, from those of its parts, with the same labels.

    The largest of sums is at most the sum of the largest (max is convex):

        beta((1 - rho) D + rho D') >= (1 - rho) beta(D) + rho beta(D')
    """
    return (1 - share) * clean + share * protected


def grid_error(joint: Float[np.ndarray, "classes points"], cell: float) -> float:
    """1 - the integral of max_c p(x, c) on a grid, whose points each stand for `cell`."""
    return 1.0 - float(joint.max(0).sum() * cell)
