"""Small networks by name. None has batch normalisation, so that per-record gradients exist.

Modules of other people take part too: an installed package names a builder in the entry-point group
`engram.architectures`, and its network is called `module:NAME`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from itertools import pairwise
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram.core import EngramError, nearest
from engram.parts.cells.genotype import genotype_of

LARGEST = 2**16
"""No size in a configuration may exceed this: it may come from outside."""
IMAGES = ("cnn", "convnet", "resnet")
"""Architectures for images."""
CELLS = "cells:"
"""What the name of a network of cells begins with; a genotype follows."""
MODULE = "module:"
"""What the name of a module of somebody else begins with."""
GROUP = "engram.architectures"


@dataclass(frozen=True)
class Layout:
    """What a classifier network is made from.

    Attributes:
        architecture: A name in `ARCHITECTURES`, `cells:GENOTYPE` for searched cells, or
            `module:NAME` for a module of somebody else.
        shape: Of one record: (features,), or (channels, height, width) for images.
        classes: How many.
        width: Hidden numbers (mlp), channels of the first block (cnn, resnet), of all blocks
            (convnet), or of the first cell.
        layers: Hidden layers (mlp), blocks (cnn, convnet, resnet) or cells.
        colours_last: Whether the features of an image run over its rows, then its columns, and
            its channels last; else over channels first, as `shape` does.
    """

    architecture: str
    shape: tuple[int, ...]
    classes: int
    width: int = 64
    layers: int = 2
    colours_last: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.architecture, str) or not isinstance(self.colours_last, bool):
            raise EngramError(
                f"architecture is {self.architecture!r} and colours_last is {self.colours_last!r}",
                hint="the one is a name, the other true or false",
            )
        if self.is_cells:
            genotype_of(self.architecture.removeprefix(CELLS))
        elif self.architecture not in ARCHITECTURES and not self.is_module:
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
        if self.of_images:
            self._check_images()
        if self.colours_last and len(self.shape) != 3:
            raise EngramError(
                f"records of shape {self.shape} have no colours that could come last",
                hint="give channels, height and width",
            )

    def _check_images(self) -> None:
        if len(self.shape) != 3:
            raise EngramError(
                f"a {self.architecture[:40]} needs images, but records have the shape {self.shape}",
                hint="give --shape CHANNELS HEIGHT WIDTH, or use --architecture mlp",
            )
        if self.is_cells and (self.layers > 32 or self.width > 1024):
            raise EngramError(
                f"{self.layers} cells of {self.width} channels are more than 32 of 1024",
                hint="the paper has 5 cells of 16 channels",
            )
        if self.is_cells:
            return
        if self.layers > 16 or self.width * 2 ** (self.layers - 1) > LARGEST:
            raise EngramError(
                f"{self.layers} blocks from {self.width} channels on, each with twice as many as "
                f"the one before, end in more than {LARGEST}",
                hint="2 to 4 layers suit small images",
            )

    @property
    def of_images(self) -> bool:
        """Whether the network takes images alone."""
        return self.architecture in IMAGES or self.is_cells

    @property
    def is_cells(self) -> bool:
        """Whether it is a network of searched cells."""
        return self.architecture.startswith(CELLS)

    @property
    def is_module(self) -> bool:
        """Whether the network is a module of somebody else."""
        return self.architecture.startswith(MODULE)

    def facts(self) -> dict[str, Any]:
        """A plain dictionary; what was added later stands in it only where it matters."""
        found = asdict(self)
        if not self.colours_last:
            found.pop("colours_last")
        return found

    def build(self, builder: "Builder | None" = None) -> "Network":
        """The network, with weights from torch's global generator.

        Args:
            builder: Makes the module, for an architecture `module:NAME`; else an installed
                package must have named one.
        """
        return Network(self, builder)


class Network(nn.Module):
    """Standardises its input by numbers that it stores, then computes class logits."""

    mean: Tensor
    scale: Tensor

    def __init__(self, layout: Layout, builder: "Builder | None" = None) -> None:
        super().__init__()
        self.layout = layout
        self.register_buffer("mean", torch.zeros(prod(layout.shape)))
        self.register_buffer("scale", torch.ones(prod(layout.shape)))
        self.body = (builder or builder_of(layout.architecture))(layout)

    def forward(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch classes"]:
        """Logits of each class."""
        return self.body(self.shaped(features))

    def shaped(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch ..."]:
        """What goes into the module: standardised, in the shape of a record, channels first."""
        standard = (features - self.mean) / self.scale
        if not self.layout.colours_last:
            return standard.reshape(-1, *self.layout.shape)
        channels, height, width = self.layout.shape
        return standard.reshape(-1, height, width, channels).permute(0, 3, 1, 2)


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
        blocks += [nn.Conv2d(before, after, 3, padding=1), group_norm(after), nn.ReLU()]
        before = after
    return nn.Sequential(*blocks, MeanOverPixels(), nn.Linear(before, layout.classes))


def convnet(layout: Layout) -> nn.Module:
    """The network that distillation is mostly tried on: it knows where in a picture something is.

    Blocks of 3x3 convolution, normalisation of each channel of each picture, ReLU and the mean of
    2 x 2 pixels, as long as a picture is at least 4 pixels wide and high; all have as many
    channels. What is left of every place goes into the last layer, not its mean over places.
    """
    channels, height, across = layout.shape
    blocks: list[nn.Module] = []
    for _ in range(layout.layers):
        convolution = nn.Conv2d(channels, layout.width, 3, padding=1)
        blocks += [convolution, nn.GroupNorm(layout.width, layout.width), nn.ReLU()]
        channels = layout.width
        if min(height, across) >= 4:
            blocks.append(nn.AvgPool2d(2))
            height, across = height // 2, across // 2
    last = nn.Linear(channels * height * across, layout.classes)
    return nn.Sequential(*blocks, nn.Flatten(), last)


class Residual(nn.Module):
    """Two 3x3 convolutions beside a way past them; group normalisation throughout."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.first_norm = group_norm(after)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.second_norm = group_norm(after)
        same = before == after and stride == 1
        way = nn.Conv2d(before, after, 1, stride, bias=False)
        self.past = nn.Identity() if same else nn.Sequential(way, group_norm(after))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """What the convolutions add to what goes past them."""
        inner = self.first_norm(self.first(images)).relu()
        return (self.second_norm(self.second(inner)) + self.past(images)).relu()


def resnet(layout: Layout) -> nn.Module:
    """A residual network (He et al., 2016): a convolution, then blocks of two with a way past them.

    Each block but the first doubles the channels and halves the image, as long as that is at least
    4 pixels wide and high. Group normalisation stands where the paper's has batch normalisation.
    """
    width, side = layout.width, min(layout.shape[1:])
    blocks: list[nn.Module] = [
        nn.Conv2d(layout.shape[0], width, 3, padding=1, bias=False), group_norm(width), nn.ReLU()
    ]  # fmt: skip
    before = width
    for block in range(layout.layers):
        after, stride = width * 2**block, 2 if block and side >= 4 else 1
        blocks.append(Residual(before, after, stride))
        before, side = after, -(-side // stride)
    return nn.Sequential(*blocks, MeanOverPixels(), nn.Linear(before, layout.classes))


def cells(layout: Layout) -> nn.Module:
    """Searched cells one after another (Liu, Simonyan and Yang, 2019), as the name says."""
    from engram.parts.cells.network import CellNetwork, reductions

    channels, *sides = layout.shape
    times = len(reductions(layout.layers))
    if prod(-(-side // 2**times) for side in sides) < 2:
        raise EngramError(
            f"{layout.layers} cells leave one pixel of an image of {sides[0]} x {sides[1]}, which "
            "normalisation then makes 0",
            hint="use fewer --layers: cells halve an image at one and two thirds of them",
        )
    genotype = genotype_of(layout.architecture.removeprefix(CELLS))
    return CellNetwork(genotype, channels, layout.classes, layout.width, layout.layers)


def group_norm(channels: int) -> nn.GroupNorm:
    """Normalisation over the most of 8, 4, 2 or 1 groups that divide the channels."""
    return nn.GroupNorm(next(g for g in (8, 4, 2, 1) if channels % g == 0), channels)


Builder = Callable[[Layout], nn.Module]
"""Makes a module from images (batch, channels, height, width), or flat records, to class logits."""
ARCHITECTURES: dict[str, Builder] = {
    "mlp": mlp,
    "cnn": cnn,
    "convnet": convnet,
    "resnet": resnet,
}


def builder_of(architecture: str) -> Builder:
    """What makes the module of this architecture.

    Raises:
        EngramError: It is a module of somebody else, whose builder no installed package names.
    """
    if architecture in ARCHITECTURES:
        return ARCHITECTURES[architecture]
    if architecture.startswith(CELLS):
        return cells
    name = architecture.removeprefix(MODULE)
    for point in entry_points(group=GROUP):
        if point.name == name:
            return point.load()
    raise EngramError(
        f"the network is a module called {name!r}, whose code is not here: a folder holds weights "
        "alone",
        hint="open it in Python with classifier.FAMILY.load(folder, builder=...), or install the "
        f"package that names {name!r} in the entry-point group {GROUP}",
    )
