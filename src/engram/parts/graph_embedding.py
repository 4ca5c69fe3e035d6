"""Embeddings of nodes that look at features and edges, and never at a label.

Neighbours are to lie close to each other and far from nodes drawn by lot (GraphSAGE's unsupervised
loss, Hamilton et al., 2017, equation 1, with edges for random walks):

    L = - log sigmoid(z_u . z_v)  -  Q log sigmoid(- z_u . z_w)      edge (u, v), w by lot

Embeddings that had seen labels would put one class into a cluster, and a shard of one class teaches
nothing about the others.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize

from engram.core import torch_seeded
from engram.parts.graph import Graph


class MeanEncoder(nn.Module):
    """Two layers, each a node's own numbers beside the mean of its neighbours'."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        sizes = [(features, width), (width, width)]
        self.own = nn.ModuleList(nn.Linear(a, b) for a, b in sizes)
        self.others = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in sizes)

    def forward(
        self, features: Float[Tensor, "nodes features"], mean_of: Tensor
    ) -> Float[Tensor, "nodes width"]:
        """An embedding of length 1 of each node."""
        hidden = features
        for place, (own, others) in enumerate(zip(self.own, self.others, strict=True)):
            # A mean of products is the product of the mean, and the product is the smaller one.
            hidden = own(hidden) + torch.sparse.mm(mean_of, others(hidden))
            hidden = torch.relu(hidden) if place == 0 else normalize(hidden)
        return hidden


def averaging(graph: Graph) -> Tensor:
    """The sparse matrix that takes the mean over each node's neighbours."""
    weights = 1.0 / graph.degrees[graph.directed[0]]
    return torch.sparse_coo_tensor(
        torch.from_numpy(graph.directed),
        torch.from_numpy(weights.astype(np.float32)),
        (graph.nodes, graph.nodes),
        is_coalesced=True,
        check_invariants=False,
    )


def embed(
    graph: Graph,
    features: Float[np.ndarray, "nodes features"],
    seed: int,
    *,
    width: int = 32,
    steps: int = 40,
    negatives: int = 4,
    temperature: float = 0.2,
    learning_rate: float = 0.01,
) -> Float[np.ndarray, "nodes width"]:
    """An embedding of length 1 of each node, learnt on this graph.

    Args:
        graph: Of the nodes.
        features: Of each of them; scaled here to length 1.
        seed: Root of weights and of the nodes drawn by lot.
        width: Numbers of an embedding.
        steps: Of Adam, each over all edges.
        negatives: Q: nodes by lot for each edge.
        temperature: By which dot products are divided: those of vectors of length 1 are small.
        learning_rate: Of Adam.
    """
    scaled = normalize(torch.from_numpy(np.asarray(features, np.float32)))
    mean_of = averaging(graph)
    ends = torch.from_numpy(graph.edges)
    with torch_seeded(seed, "graph embedding"):
        encoder = MeanEncoder(scaled.shape[1], width)
        optimiser = torch.optim.Adam(encoder.parameters(), lr=learning_rate)
        for _ in range(steps if ends.shape[1] else 0):
            optimiser.zero_grad()
            z = encoder(scaled, mean_of)
            near = (z[ends[0]] * z[ends[1]]).sum(1)
            drawn = torch.randint(graph.nodes, (negatives, ends.shape[1]))
            far = (z[ends[0]] * z[drawn]).sum(-1)
            loss = neighbour_loss(near / temperature, far / temperature)
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            return encoder(scaled, mean_of).double().numpy()


def neighbour_loss(
    near: Float[Tensor, " edges"], far: Float[Tensor, "negatives edges"]
) -> Float[Tensor, ""]:
    """The mean over edges of - log sigmoid(near) - the sum over negatives of log sigmoid(-far)."""
    return -(logsigmoid(near) + logsigmoid(-far).sum(0)).mean()
