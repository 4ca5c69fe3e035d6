"""Add patches of noise that a straight line can tell apart by class: no network is needed.

Noise made by far costlier methods turns out to be linearly separable, class by class; so separable
noise may as well be drawn. Every class has a random point, every record a random point near that
of its class, and the coordinates are laid over the picture as square patches.

    z_i = side * v(y_i) + g_i,   v(c) a random corner of {-1, 1}^k,  g_i ~ N(0, I),
    delta_i = z_i written into patches, stretched to the whole budget

(linf: divided by the largest entry; l2: by the length).

Differs from the paper: 1. Class centres are corners of a cube drawn at random, as scikit-learn's
make_classification places them, but its other options are not used. 2. Noise is stretched to the
budget for each record, in linf too.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from engram.core import Paper, Run, Split
from engram.parts.perturbing import perturbed
from engram.parts.protection import Protection, check_above_zero
from engram.parts.training import check_at_least


@dataclass(frozen=True)
class LinearShortcut(Protection):
    """Linearly separable noise in patches."""

    paper: ClassVar[Paper] = Paper(
        title="Availability Attacks Create Shortcuts",
        authors="Yu et al.",
        year=2022,
        url="https://arxiv.org/abs/2111.00898",
    )

    patch: int = 8
    """Side of a patch, in pixels; the last ones are cut off. The paper takes 8 of 32."""
    side: float = 5.0
    """How far the centre of a class lies from 0 in each coordinate, in its deviations."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("patch", self.patch, 1, "a quarter of the picture's side is usual")
        check_above_zero("side", self.side)

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the records with their patches."""
        pictures = self.pictures(split)
        channels, height, width = pictures.layout.shape
        grid = (channels, -(-height // self.patch), -(-width // self.patch))
        labels, rng = pictures.labels, run.stream("patches")
        points = class_points(labels, int(np.prod(grid)), self.side, rng)
        patches = torch.from_numpy(points).reshape(-1, *grid)
        laid = nn.functional.interpolate(patches, scale_factor=self.patch, mode="nearest")
        flat = pictures.flat(laid[:, :, :height, :width])
        order = float("inf") if self.norm == "linf" else 2
        size = torch.linalg.vector_norm(flat, ord=order, dim=1, keepdim=True)
        change = self.epsilon * flat / size.clamp_min(1e-12)
        return self.published(
            pictures, perturbed(pictures.clean, change, torch.arange(len(pictures)))
        )


def class_points(
    labels: Int[np.ndarray, " n"], size: int, side: float, rng: np.random.Generator
) -> Float[np.ndarray, "n size"]:
    """A point for each record, near the corner of its class; float32."""
    corners = rng.choice([-side, side], (int(labels.max()) + 1, size))
    return (corners[labels] + rng.normal(size=(len(labels), size))).astype(np.float32)
