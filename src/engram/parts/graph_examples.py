"""Nodes of a graph beside the network that is to answer for them, learn or forget them.

A record brings features of its own, and the graph has some for its node. They are usually the same.
Where they differ (a noisy copy, say) the record is asked about as a node that stands beside its
original: it hears the same neighbours, and they hear of the original only. So what is said of a
record depends on the graph and on that record, and on no other record that is asked about.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram.core import EngramError, Split
from engram.parts.graph import OUTSIDE, Graph, graph_beside, nodes_of
from engram.parts.graph_networks import GraphNetwork
from engram.parts.labelled import features_of, labels_of
from engram.parts.predictions import Predictions
from engram.parts.training import shuffled_batches

FEW = 4
"""A batch is read with its surroundings alone where these are less than 1 / FEW of the graph."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A graph in which every record that is asked about has a row.

    Attributes:
        graph: Among the first `graph.nodes` rows.
        features: Of each row: the graph's nodes, then records that stand beside them.
        beside: Of each further row, whose neighbours it hears; `OUTSIDE`: nobody's.
        rows: The row of each record.
    """

    graph: Graph
    features: Float[np.ndarray, "rows features"]
    beside: Int[np.ndarray, " further"]
    rows: Int[np.ndarray, " n"]

    @classmethod
    def of(cls, split: Split, width: int) -> "Asked":
        """The records of a split in the graph that it carries.

        Args:
            split: With the columns `features` and `node`.
            width: How many features the model takes.

        Raises:
            EngramError: A node does not exist, or features are not so many.
        """
        graph, known = graph_beside(split)
        nodes, own = nodes_of(split, graph.nodes), features_of(split, width)
        rows = nodes.copy()
        other = nodes == OUTSIDE
        there = np.flatnonzero(~other)
        if known.shape[1] != width:
            raise EngramError(
                f"the nodes of the graph beside split {split.name!r} have {known.shape[1]} "
                f"features, but the model takes {width}",
                hint="give a graph of the kind that the model was trained on",
            )
        other[there] = (known[nodes[there]] != own[there]).any(1)
        rows[other] = graph.nodes + np.arange(other.sum())
        features = np.concatenate([known, own[other].reshape(-1, known.shape[1])])
        return cls(graph, features, nodes[other], rows)

    @classmethod
    def cut_out(cls, split: Split) -> "Asked":
        """The records of a split that was cut out: every node is a record, and brings its own."""
        graph, features = graph_beside(split)
        return cls(graph, features, np.zeros(0, np.int64), np.arange(graph.nodes))

    @property
    def arcs(self) -> Int[np.ndarray, "2 arcs"]:
        """Who hears whom: the edges in both directions, and those to rows that stand beside."""
        graph = self.graph
        counts = np.append(graph.degrees, 0)[self.beside]  # the last entry is that of OUTSIDE
        first = graph.starts[self.beside]
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        said = graph.directed[1][np.repeat(first, counts) + inside]
        heard = graph.nodes + np.repeat(np.arange(len(counts)), counts)
        return np.concatenate([graph.directed, np.stack([said, heard])], axis=1)

    def near(self, rows: np.ndarray, hops: int) -> "Asked":
        """The same for these records alone, and no more of the graph than they can hear of.

        Args:
            rows: Which records.
            hops: How far a network sees, and one more: so that the degrees of all that it sees
                are right.
        """
        places = self.rows[rows]
        inside = places[places < self.graph.nodes]
        further, back = np.unique(places[places >= self.graph.nodes], return_inverse=True)
        further = further - self.graph.nodes
        whose = self.beside[further]
        kept = self.graph.around(np.concatenate([inside, whose[whose != OUTSIDE]]), hops)
        place = np.full(self.graph.nodes + 1, OUTSIDE, np.int64)
        place[kept] = np.arange(len(kept))
        place[OUTSIDE] = OUTSIDE
        found = np.empty(len(places), np.int64)
        found[places < self.graph.nodes] = place[inside]
        found[places >= self.graph.nodes] = len(kept) + back
        chosen = np.concatenate([kept, self.graph.nodes + further])
        return Asked(self.graph.induced(kept), self.features[chosen], place[whose], found)


@dataclass(frozen=True, eq=False)
class GraphExamples:
    """Records beside the network that is to learn or forget them."""

    model: GraphNetwork
    asked: Asked
    labels: Int[np.ndarray, " n"]

    @classmethod
    def of(cls, model: GraphNetwork, split: Split) -> "GraphExamples":
        """The records of a split in the graph that it carries."""
        layout = model.layout
        return cls(model, Asked.of(split, layout.features), labels_of(split, layout.classes))

    @cached_property
    def whole(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Scaled features and prepared arcs of the whole graph."""
        return self.tensors(self.asked)

    @classmethod
    def cut_out(cls, model: GraphNetwork, split: Split) -> "GraphExamples":
        """The records of a split that was cut out: what training sees."""
        return cls(model, Asked.cut_out(split), labels_of(split, model.layout.classes))

    @property
    def counts(self) -> Int[np.ndarray, " n"]:
        """One prediction each."""
        return np.ones(len(self.labels), np.int64)

    @property
    def answers(self) -> int:
        """Classes."""
        return self.model.layout.classes

    def tensors(self, asked: Asked) -> tuple[Tensor, Tensor, Tensor | None]:
        """Scaled features and prepared arcs, where the model is."""
        device = self.model.mean.device
        features = self.model.scaled(torch.from_numpy(asked.features).to(device))
        arcs = torch.from_numpy(asked.arcs).to(device)
        return features, *self.model.prepared(arcs, len(features))

    def logits(
        self, rows: Int[np.ndarray, " rows"], model: GraphNetwork | None = None
    ) -> Float[Tensor, "rows classes"]:
        """Class logits of these records, in the graph that they stand in."""
        model = self.model if model is None else model
        asked = self.asked
        places, tensors = asked.rows[rows], None
        if len(rows) * FEW < asked.graph.nodes:
            near = asked.near(rows, model.layout.layers + 1)
            if len(near.features) * FEW < len(asked.features):
                places, tensors = near.rows, self.tensors(near)
        tensors = tensors or self.whole
        return model.passed(*tensors)[torch.from_numpy(places).to(tensors[0].device)].float()

    def nll(self, rows: Int[np.ndarray, " rows"]) -> Float[Tensor, " rows"]:
        """Cross-entropy of each record, in nats."""
        logits = self.logits(rows)
        labels = torch.from_numpy(self.labels[rows]).to(logits.device)
        return nn.functional.cross_entropy(logits, labels, reduction="none")

    def predictions(
        self, rows: Int[np.ndarray, " rows"], model: GraphNetwork | None = None
    ) -> Predictions:
        """What the network (or another one) says of each record."""
        logits = self.logits(rows, model)
        labels = torch.from_numpy(self.labels[rows]).to(logits.device)
        place = torch.arange(len(rows), device=logits.device)
        return Predictions(logits, labels, place, torch.zeros_like(place), len(rows))

    def chunks(self, rows: Int[np.ndarray, " rows"]) -> Iterator[Int[np.ndarray, " _"]]:
        """The batch whole: its surroundings are read once."""
        yield rows

    def order(self, batch_size: int, rng: np.random.Generator) -> list[Int[np.ndarray, " _"]]:
        """One epoch of batches."""
        return shuffled_batches(self.counts, batch_size, rng)
