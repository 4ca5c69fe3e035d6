"""How every recipe trains a small classifier: one trainer, from random weights to the last step.

A recipe is a `ClassifierTraining` with fields of its own. `start` makes the untrained network and
`learn` trains it, on the same records or on others, once or again and again.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float

from engram.core import EngramError, Run, Split, torch_seeded
from engram.parts.array_examples import ArrayExamples
from engram.parts.labelled import features_of, labels_of
from engram.parts.networks import Layout, Network
from engram.parts.record_shape import layout_of_records
from engram.parts.soft_labels import outputs_of, soft_labels_of
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

STANDARDS = "standards"
"""What a split calls the mean and spread of its features, in `shared`."""
Trace = list[dict[str, float | int]]


@dataclass(frozen=True)
class ClassifierTraining:
    """What all recipes that train a small classifier share."""

    family: ClassVar[str] = "classifier"

    architecture: str = "mlp"
    """mlp: fully connected; cnn: convolutions, whose mean over all places is judged; convnet: the
    same with all places kept apart; resnet: with ways past convolutions; all three for images;
    cells:GENOTYPE: searched cells, as `cells:darts-v2` or `cells:Genotype(normal=[...], ...)`. In
    Python, `module:NAME` is a network that an installed package brings along."""
    width: int = 64
    """Hidden numbers (mlp), or channels of the first block (cnn, convnet, resnet) or cell."""
    layers: int = 2
    """Hidden layers (mlp), blocks (cnn, convnet, resnet) or cells."""
    shape: tuple[int, ...] = ()
    """Channels, height and width of an image whose pixels are the features, in this order.
    Empty: what the data says of its images, else a square of one channel; an mlp takes features
    as they are."""
    epochs: int = 30
    """Times that each record is seen."""
    batch_size: int = 32
    """Records in a step."""
    learning_rate: float = 1e-3
    """The highest learning rate."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices; biases and norms have none."""
    warmup: float = 0.0
    """Share of the steps over which the learning rate rises, in [0, 1)."""
    schedule: Schedule = "cosine"
    """How the learning rate falls after that: constant, linear or cosine."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 does not clip."""

    def __post_init__(self) -> None:
        for name in ("width", "layers", "epochs", "batch_size"):
            check_at_least(name, getattr(self, name), 1, "1 is the least that works")
        Layout(self.architecture, self.shape or (1, 1, 1), 2, self.width, self.layers)
        self.plan(1)

    def plan(self, steps: int) -> Plan:
        """How to descend in `steps` steps."""
        return Plan(
            steps, self.learning_rate, self.warmup, self.schedule, self.weight_decay, self.clip
        )

    def start(self, split: Split, run: Run, classes: int = 0) -> Network:
        """The network with random weights, which knows the mean and spread of each feature.

        Args:
            split: Records of the columns `features` and `label`; at least one.
            run: Its seed decides the weights.
            classes: How many there are; 0: one more than the largest label.
        """
        check_some(split)
        features = features_of(split)
        layout = layout_of_records(
            self.architecture,
            self.shape,
            split,
            features.shape[1],
            classes or outputs_of(split, int(labels_of(split).max()) + 1),
            (self.width, self.layers),
        )
        with torch_seeded(run.seed, "initial weights"):
            network = layout.build()
        mean, spread = standards_of(split, features)
        network.mean.copy_(torch.from_numpy(mean))
        # A feature that is the same everywhere says nothing; its scale stays 1.
        network.scale.copy_(torch.from_numpy(spread).where(torch.from_numpy(spread) > 0, 1.0))
        return network.to(run.device)

    def learn(
        self,
        network: Network,
        split: Split,
        run: Run,
        key: str,
        *,
        epochs: int = 0,
        file: str = FILE,
    ) -> Trace:
        """Train the network in place, with a new optimiser and the whole schedule of the plan.

        Args:
            network: From `start`, or trained before.
            split: What to learn; it need not be what the network was started or trained on.
            run: Its seed decides the order of batches.
            key: What decides the outcome, as text (`key_of`): a killed run goes on where its
                checkpoint has the same key.
            epochs: Times that each record is seen; 0: as the field says.
            file: The checkpoint's name, where one method trains more than once.

        Returns:
            What was logged: `step`, `epoch`, `loss` and `lr` of about 1,000 steps.
        """
        layout = network.layout
        examples = ArrayExamples(
            network,
            features_of(split, network.mean.numel()),
            labels_of(split, layout.classes),
            soft_labels_of(split, layout.classes),
        )
        check_not_empty(examples, split.name)
        batches = Epochs(examples, self.batch_size, run)
        steps = (epochs or self.epochs) * batches.per_epoch
        training = Training(network, self.plan(steps), run, key, batches.per_epoch, file=file)
        for _ in training.steps(lambda step: batch_loss(examples, batches.rows(step))):
            pass
        return training.trace


def standards_of(
    split: Split, features: Float[np.ndarray, "n d"]
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """The mean and spread of each feature: as the split says, else as measured.

    A few distilled records say little of how far a feature spreads, so that they bring along in
    `shared["standards"]` (two rows) what held of the records that they came from.
    """
    stated = split.shared.get(STANDARDS)
    if stated is None or stated.shape != (2, features.shape[1]):
        return features.mean(0), features.std(0)
    mean, spread = stated.astype(np.float32)
    return mean, spread


def check_some(split: Split) -> None:
    """Refuse to train on no records."""
    if not len(split):
        raise EngramError(f"split {split.name!r} has no records", hint="give at least one")
