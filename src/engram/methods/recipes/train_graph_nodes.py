"""Train a small graph neural network to classify the nodes of a graph.

A node is described by its own features and by the company it keeps: every layer mixes what a node
knows with what its neighbours know. What is learnt from are the training records and the edges
among them; edges to any other node are cut, so that nothing of the records that are held out
enters the weights, not even that they are there.

    h_v <- relu( sum over u in N(v) and v itself of  W h_u / sqrt(d_u d_v) )      (gcn)
    L = - (1 / n) sum over training nodes v of  log softmax(h_v)_y

The model holds no graph. It is asked about a node in the graph that comes with the question.

Differs from the paper: 1. AdamW with a decaying learning rate in place of Adam with a constant one
and early stopping. 2. All training nodes are labelled, and the graph is cut down to them; the paper
trains on the whole graph and a few labels. 3. Other layers than the paper's by name: gat, sage,
gin, and mlp without edges.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram.core import Draft, Paper, Run, Split
from engram.families.graph_nodes import FAMILY, GraphModel
from engram.parts.classifier_training import check_some
from engram.parts.graph_training import GraphTraining
from engram.parts.training import key_of

EXTRA_FOR = {"graph": "any architecture but mlp"}


@dataclass(frozen=True)
class TrainGraphNodes(GraphTraining):
    """A graph network on the nodes of a graph, trained by AdamW."""

    paper: ClassVar[Paper] = Paper(
        title="Semi-Supervised Classification with Graph Convolutional Networks",
        authors="Kipf and Welling",
        year=2017,
        url="https://arxiv.org/abs/1609.02907",
    )
    family: ClassVar[str] = "graph-nodes"

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train on the columns `features`, `label` and `node`, and the edges between them."""
        FAMILY.check(split)
        check_some(split)
        network = self.start(split, run)
        key = key_of(self, run.seed, split.fingerprint)
        trace = self.learn(network, split, run, key)
        return Draft(self.family, GraphModel(network), tuple(trace))
