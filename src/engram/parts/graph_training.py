"""How every recipe trains a small graph network: from random weights to the last step.

What is learnt from are the records of a split and the edges between them; the edges to all others
(those held out for tests, say) are left out, as are the features of all others.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch

from engram.core import Run, Split, torch_seeded
from engram.parts.classifier_training import Trace, check_some
from engram.parts.graph import cut_out
from engram.parts.graph_examples import GraphExamples
from engram.parts.graph_networks import GraphLayout, GraphNetwork
from engram.parts.labelled import features_of, labels_of
from engram.parts.training import (
    FILE,
    Epochs,
    Plan,
    Schedule,
    Training,
    batch_loss,
    check_at_least,
    check_not_empty,
)


@dataclass(frozen=True)
class GraphTraining:
    """What all recipes that train a small graph network share."""

    family: ClassVar[str] = "graph-nodes"

    architecture: Literal["gcn", "gat", "sage", "gin", "mlp"] = "gcn"
    """gcn: graph convolutions; gat: attention; sage: mean of the neighbours; gin: their sum; mlp:
    no edges at all."""
    width: int = 32
    """Hidden numbers of each node."""
    layers: int = 2
    """Layers: how many edges away a node is still seen."""
    heads: int = 4
    """Heads of attention; for gat only."""
    dropout: float = 0.5
    """Share of hidden numbers that each step leaves out, in [0, 1)."""
    scaling: Literal["rows", "columns", "none"] = "rows"
    """rows: each node's features have length 1, as suits counts of words; columns: each feature has
    mean 0 and deviation 1 over what is trained on; none: as they are."""
    epochs: int = 100
    """Times that each record is seen."""
    batch_size: int = 0
    """Records in a step; 0: all of them, which is usual for graphs."""
    learning_rate: float = 0.02
    """The highest learning rate."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices; biases have none."""
    warmup: float = 0.0
    """Share of the steps over which the learning rate rises, in [0, 1)."""
    schedule: Schedule = "cosine"
    """How the learning rate falls after that: constant, linear or cosine."""
    clip: float = 0.0
    """Largest norm of the gradient; 0 does not clip."""

    def __post_init__(self) -> None:
        check_at_least("epochs", self.epochs, 1, "100 are usual for graphs")
        check_at_least("batch_size", self.batch_size, 0, "0 takes all records in every step")
        self.layout(1, 1)
        self.plan(1)

    def layout(self, features: int, classes: int) -> GraphLayout:
        """What the network is made from."""
        return GraphLayout(
            self.architecture, features, classes, self.width, self.layers, self.heads,
            self.dropout, self.scaling,
        )  # fmt: skip

    def plan(self, steps: int) -> Plan:
        """How to descend in `steps` steps."""
        return Plan(
            steps, self.learning_rate, self.warmup, self.schedule, self.weight_decay, self.clip
        )

    def start(self, split: Split, run: Run, classes: int = 0) -> GraphNetwork:
        """The network with random weights; with scaling `columns` it knows mean and spread.

        Args:
            split: Records of the columns `features` and `label`; at least one.
            run: Its seed decides the weights.
            classes: How many there are; 0: one more than the largest label.
        """
        check_some(split)
        features = features_of(split)
        classes = classes or int(labels_of(split).max()) + 1
        with torch_seeded(run.seed, "initial weights"):
            network = self.layout(features.shape[1], classes).build()
        if self.scaling == "columns":
            spread = torch.from_numpy(features.std(0))
            network.mean.copy_(torch.from_numpy(features.mean(0)))
            # A feature that is the same everywhere says nothing; its scale stays 1.
            network.scale.copy_(spread.where(spread > 0, 1.0))
        return network.to(run.device)

    def learn(
        self, network: GraphNetwork, split: Split, run: Run, key: str, *, file: str = FILE
    ) -> Trace:
        """Train the network in place on the records and the edges between them.

        Args:
            network: From `start`.
            split: What to learn.
            run: Its seed decides the order of batches and the dropout.
            key: What decides the outcome, as text: a killed run goes on where its checkpoint has
                the same key.
            file: The checkpoint's name, where one method trains more than once.

        Returns:
            What was logged: `step`, `epoch`, `loss` and `lr` of about 1,000 steps.
        """
        examples = GraphExamples.cut_out(network, cut_out(split))
        check_not_empty(examples, split.name)
        if self.batch_size in range(1, len(split)):
            batches = Epochs(examples, self.batch_size, run)
            each, rows = batches.per_epoch, batches.rows
        else:  # all records in every step, whose order is nothing
            everything = np.arange(len(split))
            each, rows = 1, lambda step: everything
        training = Training(network, self.plan(self.epochs * each), run, key, each, file=file)
        for _ in training.steps(lambda step: batch_loss(examples, rows(step))):
            pass
        return training.trace
