"""Graph networks in shards: divide the nodes, train a network on each part, weigh the parts.

A shard depends on the seed, on its number, and on its records and the edges among them, and on
nothing else. So a shard that was trained again without a node is, bit for bit, what it would be if
the node had never been. The weights of the shards depend on all shards and on a sample of the
training records, and are learnt again whenever one of these changes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from engram.core import EngramError, Run, Split, stream
from engram.parts.graph import cut_out, graph_beside
from engram.parts.graph_embedding import embed
from engram.parts.graph_examples import GraphExamples
from engram.parts.graph_networks import GraphNetwork
from engram.parts.graph_partition import EMBEDDED, PARTITIONERS, Partitioner, divide
from engram.parts.graph_training import GraphTraining
from engram.parts.learned_aggregation import learned_weights, lots, true_class
from engram.parts.sharding import LARGEST, Placement
from engram.parts.sisa_training import Finished, Shard
from engram.parts.sub_run import SubRun
from engram.parts.training import check_at_least, check_one_of, key_of

AGGREGATIONS = ("learned", "mean", "vote")


@dataclass(frozen=True)
class GraphEraserTraining(GraphTraining):
    """How graph networks in shards are trained, and trained again."""

    shards: int = 20
    """Networks, each of which sees its part of the graph."""
    partition: Partitioner = "blpa"
    """How the nodes are divided: random, blpa (balanced label propagation), bekm (balanced k-means
    on an embedding), their baselines blpa-base and bekm-base, metis, or (of uneven size) louvain,
    label-propagation and kmeans."""
    delta: float = 0.005
    """How uneven balanced shards may be, in [0, 1]: none of m shards holds more than
    ceil(n / m + delta (n - n / m)) of n nodes."""
    rounds: int = 30
    """Rounds of a partition, at most."""
    aggregation: str = "learned"
    """How the shards answer as one: learned (weighted mean of their probabilities), mean, or vote
    (of their labels)."""
    sample: int = 1000
    """Training records that the weights of the shards are learnt from, drawn by lot."""
    penalty: float = 0.1
    """Weight of the length of the shards' weights: the larger, the more alike they are. The paper's
    code takes 1, beside the loss of a softmax of a softmax, whose slopes are larger."""
    aggregation_epochs: int = 50
    """Times that each of those records is seen."""
    aggregation_rate: float = 1e-3
    """Learning rate of the shards' weights."""
    classes: int = 0
    """Number of classes; 0: one more than the largest label."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("shards", "rounds", "sample", "aggregation_epochs"):
            check_at_least(name, getattr(self, name), 1, "1 is the least that works")
        if self.shards > LARGEST:
            raise EngramError(
                f"shards is {self.shards}, but must be at most {LARGEST}", hint="20 is usual"
            )
        check_one_of("partition", self.partition, PARTITIONERS)
        check_one_of("aggregation", self.aggregation, AGGREGATIONS)
        check_at_least("penalty", self.penalty, 0, "0 lets the weights go where they like")
        check_at_least("classes", self.classes, 0, "0 counts them")
        if not 0 <= self.delta <= 1:
            raise EngramError(
                f"delta is {self.delta}, but must be in [0, 1]", hint="0.005 is nearly even"
            )
        if not 0 < self.aggregation_rate < np.inf:
            raise EngramError(
                f"aggregation_rate is {self.aggregation_rate}, but must be above 0",
                hint="1e-3 is usual",
            )

    def place(self, split: Split, run: Run, seed: int) -> Placement:
        """The shard of each record, from the records and the edges among them alone."""
        graph, features = graph_beside(cut_out(split))
        here = SubRun.of(run, "partition", seed=seed)
        seen = embed(graph, features, here.seed) if self.partition in EMBEDDED else None
        community = divide(
            self.partition, graph, self.shards, here.stream("nodes"),
            delta=self.delta, rounds=self.rounds, embedding=seen,
        )  # fmt: skip
        return Placement.of(split.ids, community, shards=self.shards)

    def train_shard(
        self, shard: int, split: Split, placement: Placement, classes: int, run: Run, *, seed: int
    ) -> tuple[GraphNetwork | None, Shard]:
        """Train one shard; there is no network where no record is placed in it.

        Args:
            shard: Which.
            split: Holds all records that are placed in the shard, in any order.
            placement: Which records lie where.
            classes: How many classes the network knows.
            run: Scratch folder and device; its own seed does not matter.
            seed: Root of the random streams.

        Returns:
            The network, and what its training logged.
        """
        found, ids = Shard(), placement.inside(shard)
        if not ids:
            return None, found
        part = cut_out(split.select(ids, name=f"shard {shard}"))
        here = SubRun.of(run, "shard", shard, seed=seed)
        network = self.start(part, here, classes)
        key = json.dumps([key_of(self, seed, part.fingerprint), shard, classes])
        done = Finished(run.scratch / f"shard-{shard}.done.safetensors", key)
        trace = done.restore(network)
        if trace is None:
            trace = self.learn(network, part, here, key, file=f"shard-{shard}.safetensors")
            done.save(network, trace)
        found.add(trace, (shard, 0), len(part), self.shards)
        return network, found

    def weigh(
        self,
        networks: Sequence[GraphNetwork | None],
        split: Split,
        placement: Placement,
        *,
        seed: int,
    ) -> Float[np.ndarray, " shards"]:
        """The weights of the shards; all alike unless they are to be learnt.

        Args:
            networks: Of all shards; None where one is empty, which then has no say.
            split: All records that are placed, in any order.
            placement: Which they are.
            seed: Root of the random streams.
        """
        alive = np.array([network is not None for network in networks])
        weights = alive / max(alive.sum(), 1)
        if self.aggregation != "learned" or alive.sum() < 2:
            return weights
        there = [network for network in networks if network is not None]
        whole = cut_out(split.select(placement.ids))
        rows = lots(whole.ids, seed, self.sample)
        examples = GraphExamples.cut_out(
            there[0], whole
        )  # nodes and edges, the same for all of them
        said = []
        with torch.inference_mode():
            for network in there:
                logits = network.eval().passed(*examples.whole)[torch.from_numpy(rows)]
                said.append(torch.softmax(logits.double(), 1).cpu().numpy())
        weights[alive] = learned_weights(
            true_class(np.stack(said), examples.labels[rows]),
            stream(seed, "aggregation"),
            penalty=self.penalty,
            epochs=self.aggregation_epochs,
            learning_rate=self.aggregation_rate,
        )
        return weights
