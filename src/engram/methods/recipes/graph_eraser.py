"""Train graph networks in shards of the graph, so that a node or an edge can be deleted exactly.

As in SISA, a node can be deleted cheaply if few models saw it. But a graph that is cut at random
loses most of its edges, and with them what a graph network learns from. So it is cut where few
edges are, into parts of nearly equal size: balanced label propagation (blpa) gathers nodes with
their neighbours, balanced k-means (bekm) nodes with similar embeddings. A network is trained on
each part and the edges inside of it. Parts that say more about the graph count for more:

    p(v) = sum over shards i of  alpha_i softmax(f_i(v)),   alpha_i >= 0,  sum of alpha_i = 1
    alpha = argmin  mean over w in G0 of  - log p(w)_y  +  lambda ||alpha||_2
    |shard| <= ceil( n / m + delta (n - n / m) )

The edit `graph-eraser-retrain` then deletes nodes and edges: bit for bit what would be there if
they had never been, relative to two things: to where the *other* nodes lie, since the partition
looked at the whole graph, and to the number of classes. On a graphics card sums along edges may
differ in their last bits. The target holds no graph: a deleted node is gone from the answers once
it is gone from the graph that is asked about.

Differs from the paper: 1. Every step of a shard sees all of its edges; the paper samples 5
neighbours. 2. AdamW with a falling learning rate. 3. The weights are made to sum to 1 after every
step, not at the end, so that what is scored is a probability, and the part of a slope that all of
them share is left out, which their sum would undo; the paper's code weighs log-probabilities,
which are none. Lambda is 0.1, not 1. 4. The weights are learnt again after every deletion, and not
only if the sample G0 held the node: they depend on the shards that were trained again. 5. G0 is
drawn by lots that depend on each record's id, so that it is what it would be without the node. 6.
Embeddings for k-means see no labels (GraphSAGE's unsupervised loss); those of the paper's code do,
and put one class into each shard. 7. Each shard is asked in the whole graph that the question
brings, edges between shards included.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram.core import Draft, Paper, Run, Split
from engram.families.graph_nodes import GraphModel
from engram.families.sharded_graph import FAMILY
from engram.parts.classifier_training import check_some
from engram.parts.graph_eraser_training import GraphEraserTraining
from engram.parts.labelled import labels_of
from engram.parts.sharded_models import ShardedModel
from engram.parts.sisa_training import joined

EXTRA_FOR = {"graph": "any architecture but mlp, or partition metis"}


@dataclass(frozen=True)
class GraphEraser(GraphEraserTraining):
    """Graph networks in balanced shards of the graph, with learnt weights."""

    paper: ClassVar[Paper] = Paper(
        title="Graph Unlearning",
        authors="Chen et al.",
        year=2022,
        url="https://arxiv.org/abs/2103.14991",
    )
    family: ClassVar[str] = "sharded-graph"
    forgets_by: ClassVar[str] = "graph-eraser-retrain"
    instead_of: ClassVar[frozenset[str]] = frozenset({"graph-nodes"})

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train on the columns `features`, `label` and `node`, and the edges between them."""
        FAMILY.check(split)
        check_some(split)
        classes = self.classes or int(labels_of(split).max()) + 1
        placement = self.place(split, run, run.seed)
        trained = [
            self.train_shard(k, split, placement, classes, run, seed=run.seed)
            for k in range(self.shards)
        ]
        networks = [network for network, _ in trained]
        model = ShardedModel(
            tuple(n and GraphModel(n) for n in networks),
            ((),) * self.shards,
            placement,
            self.aggregation,  # type: ignore[arg-type]
            self.weigh(networks, split, placement, seed=run.seed),
        )
        return Draft(self.family, model, joined([shard.trace for _, shard in trained]))
