"""Small graph neural networks by name, of PyTorch Geometric's layers."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram.core import EngramError, nearest
from engram.parts.networks import LARGEST

Scaling = Literal["rows", "columns", "none"]
SCALINGS = ("rows", "columns", "none")
TINY = 1e-12


@dataclass(frozen=True)
class GraphLayout:
    """What a graph network is made from.

    Attributes:
        architecture: A name in `ARCHITECTURES`.
        features: Numbers of one node.
        classes: How many.
        width: Hidden numbers of a node.
        layers: Of message passing: how many edges away a node is still seen (mlp: none).
        heads: Of attention (gat).
        dropout: Share of hidden numbers that training leaves out, in [0, 1).
        scaling: rows: each node's features have length 1; columns: each feature has mean 0 and
            deviation 1; none: as they are.
    """

    architecture: str
    features: int
    classes: int
    width: int = 32
    layers: int = 2
    heads: int = 4
    dropout: float = 0.5
    scaling: str = "rows"

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise EngramError(
                f"there is no graph architecture {self.architecture!r}",
                hint=nearest(
                    self.architecture, ARCHITECTURES, f"known: {', '.join(ARCHITECTURES)}"
                ),
            )
        for name in ("features", "classes", "width", "layers", "heads"):
            size = getattr(self, name)
            if not (isinstance(size, int) and 1 <= size <= LARGEST):
                raise EngramError(
                    f"{name} is {size}, but must be a whole number from 1 to {LARGEST}",
                    hint="32 and 2 are usual for width and layers",
                )
        if self.architecture == "gat" and self.width % self.heads:
            raise EngramError(
                f"width is {self.width}, which {self.heads} heads cannot share",
                hint=f"take --width {self.heads * max(1, self.width // self.heads)}",
            )
        if not 0 <= self.dropout < 1:
            raise EngramError(
                f"dropout is {self.dropout}, but must be in [0, 1)", hint="0.5 is usual for graphs"
            )
        if self.scaling not in SCALINGS:
            raise EngramError(
                f"scaling is {self.scaling!r}, but must be one of {', '.join(SCALINGS)}",
                hint="rows suits counts of words, columns suits measurements",
            )

    def build(self) -> "GraphNetwork":
        """The network, with weights from torch's global generator.

        Raises:
            EngramError: PyTorch Geometric is not installed.
        """
        return GraphNetwork(self)


class GraphNetwork(nn.Module):
    """Scales the features of every node, then computes class logits along the edges."""

    mean: Tensor
    scale: Tensor

    def __init__(self, layout: GraphLayout) -> None:
        super().__init__()
        self.layout = layout
        self.register_buffer("mean", torch.zeros(layout.features))
        self.register_buffer("scale", torch.ones(layout.features))
        self.body = nn.ModuleList(ARCHITECTURES[layout.architecture](layout))
        self.dropout = nn.Dropout(layout.dropout)

    def forward(
        self, features: Float[Tensor, "nodes features"], arcs: Int[Tensor, "2 arcs"]
    ) -> Float[Tensor, "nodes classes"]:
        """Logits of each class at every node; an arc carries what its first end says."""
        return self.passed(self.scaled(features), *self.prepared(arcs, len(features)))

    def passed(
        self,
        hidden: Float[Tensor, "nodes features"],
        arcs: Int[Tensor, "2 arcs"],
        weights: Float[Tensor, " arcs"] | None,
    ) -> Float[Tensor, "nodes classes"]:
        """The layers alone, of features that are scaled and arcs that are prepared."""
        more = () if weights is None else (weights,)
        for number, layer in enumerate(self.body):
            linear = isinstance(layer, nn.Linear)
            hidden = layer(hidden) if linear else layer(hidden, arcs, *more)
            if number + 1 < len(self.body):
                hidden = self.dropout(torch.relu(hidden))
        return hidden

    def prepared(
        self, arcs: Int[Tensor, "2 arcs"], nodes: int
    ) -> tuple[Int[Tensor, "2 more"], Float[Tensor, " more"] | None]:
        """The arcs as the layers take them; once for all layers and steps.

        Graph convolutions: with an arc from every node to itself, and weighed by 1 / sqrt(d_u d_v),
        the degrees counting what each end hears, itself included.
        """
        if self.layout.architecture != "gcn":
            return arcs, None
        loops = torch.arange(nodes, device=arcs.device).expand(2, nodes)
        arcs = torch.cat([arcs, loops], 1)
        root = torch.bincount(arcs[1], minlength=nodes).float().rsqrt()
        return arcs, root[arcs[0]] * root[arcs[1]]

    def scaled(self, features: Float[Tensor, "nodes features"]) -> Float[Tensor, "nodes features"]:
        """The features as the first layer sees them."""
        if self.layout.scaling == "columns":
            return (features - self.mean) / self.scale
        if self.layout.scaling == "rows":
            return features / features.norm(dim=1, keepdim=True).clamp(min=TINY)
        return features


def geometric() -> Any:
    """The layers of PyTorch Geometric.

    Raises:
        EngramError: It is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it scripts functions that torch calls old
            import torch_geometric.nn as layers
    except ImportError:
        raise EngramError(
            "graph networks need PyTorch Geometric, which is not installed",
            hint="pip install 'engram[graph]'",
        ) from None
    return layers


def sizes(layout: GraphLayout) -> list[tuple[int, int]]:
    """What each layer takes and gives."""
    widths = [layout.features, *[layout.width] * (layout.layers - 1), layout.classes]
    return list(pairwise(widths))


def gcn(layout: GraphLayout) -> list[nn.Module]:
    """Graph convolutions (Kipf and Welling, 2017); the arcs come with their weights."""
    kind = geometric().GCNConv
    return [kind(before, after, normalize=False) for before, after in sizes(layout)]


def gat(layout: GraphLayout) -> list[nn.Module]:
    """Graph attention (Velickovic et al., 2018); the last layer has one head."""
    kind = geometric().GATConv
    *inner, (before, classes) = sizes(layout)
    hidden = [kind(a, b // layout.heads, heads=layout.heads) for a, b in inner]
    return [*hidden, kind(before, classes, heads=1)]


def sage(layout: GraphLayout) -> list[nn.Module]:
    """GraphSAGE (Hamilton et al., 2017): a node beside the mean of its neighbours."""
    kind = geometric().SAGEConv
    return [kind(before, after) for before, after in sizes(layout)]


def gin(layout: GraphLayout) -> list[nn.Module]:
    """Graph isomorphism layers (Xu et al., 2019): two linear layers on a sum."""
    kind = geometric().GINConv

    def one(before: int, after: int) -> nn.Module:
        inner = nn.Sequential(
            nn.Linear(before, layout.width), nn.ReLU(), nn.Linear(layout.width, after)
        )
        return kind(inner)

    return [one(before, after) for before, after in sizes(layout)]


def mlp(layout: GraphLayout) -> list[nn.Module]:
    """Fully connected layers, which look at no edge."""
    return [nn.Linear(before, after) for before, after in sizes(layout)]


ARCHITECTURES: dict[str, Callable[[GraphLayout], list[nn.Module]]] = {
    "gcn": gcn,
    "gat": gat,
    "sage": sage,
    "gin": gin,
    "mlp": mlp,
}
