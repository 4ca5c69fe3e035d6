"""Small networks by name. None has batch normalisation, so that per-record gradients exist."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram.core import EngramError, nearest

LARGEST = 2**16
"""No size in a configuration may exceed this: it may come from outside."""


@dataclass(frozen=True)
class Layout:
    """What a classifier network is made from.

    Attributes:
        architecture: A name in `ARCHITECTURES`.
        shape: Of one record: (features,), or (channels, height, width) for images.
        classes: How many.
        width: Hidden numbers (mlp) or channels of the first block (cnn).
        layers: Hidden layers (mlp) or blocks (cnn).
    """

    architecture: str
    shape: tuple[int, ...]
    classes: int
    width: int = 64
    layers: int = 2

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise EngramError(
                f"there is no architecture {self.architecture!r}",
                hint=nearest(
                    self.architecture, ARCHITECTURES, f"known: {', '.join(ARCHITECTURES)}"
                ),
            )
        sizes = {"classes": self.classes, "width": self.width, "layers": self.layers}
        sizes |= {f"shape[{i}]": size for i, size in enumerate(self.shape)}
        for name, size in sizes.items():
            if not (isinstance(size, int) and 1 <= size <= LARGEST):
                raise EngramError(
                    f"{name} is {size}, but must be a whole number from 1 to {LARGEST}",
                    hint="64 and 2 are usual for width and layers",
                )
        if self.architecture == "cnn" and len(self.shape) != 3:
            raise EngramError(
                f"a cnn needs images, but records have the shape {self.shape}",
                hint="give --shape CHANNELS HEIGHT WIDTH, or use --architecture mlp",
            )

    def build(self) -> "Network":
        """The network, with weights from torch's global generator."""
        return Network(self)


class Network(nn.Module):
    """Standardises its input by numbers that it stores, then computes class logits."""

    mean: Tensor
    scale: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.register_buffer("mean", torch.zeros(prod(layout.shape)))
        self.register_buffer("scale", torch.ones(prod(layout.shape)))
        self.body = ARCHITECTURES[layout.architecture](layout)

    def forward(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch classes"]:
        """Logits of each class."""
        standard = (features - self.mean) / self.scale
        return self.body(standard.reshape(-1, *self.layout.shape))


class MeanOverPixels(nn.Module):
    """(batch, channels, height, width) -> (batch, channels)."""

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c"]:
        """The mean of each channel."""
        return images.mean((2, 3))


def mlp(layout: Layout) -> nn.Module:
    """Fully connected layers with GELU."""
    sizes = [prod(layout.shape), *[layout.width] * layout.layers]
    hidden: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        hidden += [nn.Linear(before, after), nn.GELU()]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], layout.classes))


def cnn(layout: Layout) -> nn.Module:
    """Blocks of 3x3 convolution, group normalisation and ReLU; each doubles the channels.

    Each block but the first halves the image, as long as it is at least 4 pixels wide and high.
    """
    blocks: list[nn.Module] = []
    before, side = layout.shape[0], min(layout.shape[1:])
    for block in range(layout.layers):
        after = layout.width * 2**block
        if block and side >= 4:
            blocks.append(nn.MaxPool2d(2))
            side //= 2
        groups = next(g for g in (8, 4, 2, 1) if after % g == 0)
        blocks += [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(groups, after), nn.ReLU()]
        before = after
    return nn.Sequential(*blocks, MeanOverPixels(), nn.Linear(before, layout.classes))


ARCHITECTURES: dict[str, Callable[[Layout], Any]] = {"mlp": mlp, "cnn": cnn}
