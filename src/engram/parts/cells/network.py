"""A network of cells: the genotype's operations, in torch, for images of any size.

As the network in which DARTS evaluates a genotype: a convolution, cells one after another, the mean
over what is left of the image, and a linear layer. Group normalisation stands where DARTS has batch
normalisation, so that per-record gradients exist and a record's answer is its own.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from engram.parts.cells.genotype import INPUTS, OWN, Cell, Genotype, slot_of
from engram.parts.networks import MeanOverPixels, group_norm

Images = Float[Tensor, "b c h w"]


def reductions(cells: int) -> frozenset[int]:
    """Which cells halve the image: at one and two thirds; of two the second, of one none."""
    if cells < 3:
        return frozenset({1} if cells == 2 else ())
    return frozenset({cells // 3, 2 * cells // 3})


class CellNetwork(nn.Module):
    """Cells after one another.

    Args:
        genotype: What every normal and every reduction cell is.
        channels: Of the images.
        classes: Logits.
        width: Channels of each node in the first cell; each reduction doubles them.
        cells: How many.
    """

    def __init__(
        self, genotype: Genotype, channels: int, classes: int, width: int, cells: int
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), group_norm(width)
        )
        before, last, halved, built = width, width, False, []
        for number in range(cells):
            reduces = number in reductions(cells)
            width *= 2 if reduces else 1
            built.append(CellModule(genotype, (before, last), width, reduces, halved))
            halved, before, last = reduces, last, built[-1].channels
        self.cells = nn.ModuleList(built)
        self.head = nn.Sequential(MeanOverPixels(), nn.Linear(last, classes))

    def forward(self, images: Images) -> Float[Tensor, "b classes"]:
        """Logits of each class."""
        before = last = self.stem(images)
        for cell in self.cells:
            before, last = last, cell(before, last)
        return self.head(last)


class CellModule(nn.Module):
    """One cell.

    Args:
        genotype: Its edges.
        before: Channels of the last cell's input and output: what the last two cells gave.
        width: Channels of each node.
        reduces: Whether it halves the image.
        halved: Whether the cell before it did, so that its two inputs differ in size.
    """

    def __init__(
        self,
        genotype: Genotype,
        before: tuple[int, int],
        width: int,
        reduces: bool,
        halved: bool,
    ) -> None:
        super().__init__()
        self.cell: Cell = genotype.reduce if reduces else genotype.normal
        self.channels = width * len(self.cell.concat)
        first = Halved(before[0], width) if halved else pointwise(before[0], width)
        self.inputs = nn.ModuleList([first, pointwise(before[1], width)])
        self.edges = nn.ModuleList(
            operation(name, width, 2 if reduces and source < INPUTS else 1)
            for name, source in self.cell.pairs
        )

    def forward(
        self, before: Images, last: Float[Tensor, "b d i j"]
    ) -> Float[Tensor, "b after k l"]:
        """What the nodes of the output give, side by side."""
        nodes = [self.inputs[0](before), self.inputs[1](last)]
        for node in OWN:
            slot, sources = slot_of(node), self.cell.sources(node)
            nodes.append(
                self.edges[slot](nodes[sources[0]]) + self.edges[slot + 1](nodes[sources[1]])
            )
        return torch.cat([nodes[node] for node in self.cell.concat], dim=1)


class Halved(nn.Module):
    """Half the width and height: 1x1 convolutions of the even and of the odd pixels, side by side.

    An image of odd size is filled up with zeros, so that it is halved upwards, as by a convolution.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(before, after - after // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(before, max(after // 2, 1), 1, 2, bias=False)
        self.norm = group_norm(after)
        self.after = after

    def forward(self, images: Images) -> Float[Tensor, "b after i j"]:
        """(b, before, h, w) -> (b, after, ceil(h / 2), ceil(w / 2))."""
        inner = images.relu()
        shifted = pad(inner, (0, 1, 0, 1))[:, :, 1:, 1:]
        both = torch.cat([self.even(inner), self.odd(shifted)], dim=1)
        return self.norm(both[:, : self.after])


def operation(name: str, width: int, stride: int) -> nn.Module:
    """One of the seven operations; (b, width, h, w) -> (b, width, ceil(h / stride), ...)."""
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, padding=1)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else Halved(width, width)
    size = int(name[-1])
    if name.startswith("sep_conv"):
        return nn.Sequential(
            depthwise(width, size, stride, spread=1), depthwise(width, size, 1, spread=1)
        )
    return depthwise(width, size, stride, spread=2)


def depthwise(width: int, size: int, stride: int, spread: int) -> nn.Module:
    """ReLU, a convolution of each channel, a 1x1 convolution over channels, normalisation.

    `spread` is the distance of the pixels that it looks at: 2 for a dilated convolution.
    """
    padding = spread * (size - 1) // 2
    own = nn.Conv2d(width, width, size, stride, padding, dilation=spread, groups=width, bias=False)
    return nn.Sequential(nn.ReLU(), own, nn.Conv2d(width, width, 1, bias=False), group_norm(width))


def pointwise(before: int, after: int) -> nn.Module:
    """ReLU, a 1x1 convolution, normalisation."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(before, after, 1, bias=False), group_norm(after))
