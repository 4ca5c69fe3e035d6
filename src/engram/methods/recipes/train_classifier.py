"""Train a small neural network to classify records of numbers, or images.

The plain recipe that attacks on classifiers are usually tried on: standardise the features,
then lower the cross-entropy of each record's label by AdamW.

    L(theta) = - (1 / B) sum over the batch of  log softmax(f_theta((x - mean) / scale))_y

Differs from the paper: the networks are small ones of our own (fully connected, or convolutions
with group normalisation), not the residual networks that the paper's optimiser was tried on.
"""

from dataclasses import dataclass
from math import isqrt, prod
from typing import ClassVar, Literal

import torch

from engram.core import Draft, EngramError, Paper, Run, Split, torch_seeded
from engram.families.classifier import FAMILY, ClassifierModel
from engram.parts.labelled import features_of, labels_of
from engram.parts.networks import Layout, Network
from engram.parts.training import (
    Epochs,
    Plan,
    Schedule,
    Training,
    batch_loss,
    check_at_least,
    check_not_empty,
    key_of,
)


@dataclass(frozen=True)
class TrainClassifier:
    """A fully connected or convolutional classifier, trained by AdamW."""

    paper: ClassVar[Paper] = Paper(
        title="Decoupled Weight Decay Regularization",
        authors="Loshchilov and Hutter",
        year=2019,
        url="https://arxiv.org/abs/1711.05101",
    )
    family: ClassVar[str] = "classifier"

    architecture: Literal["mlp", "cnn"] = "mlp"
    """mlp: fully connected; cnn: convolutions, for images."""
    width: int = 64
    """Hidden numbers (mlp), or channels of the first block (cnn)."""
    layers: int = 2
    """Hidden layers (mlp), or blocks (cnn)."""
    shape: tuple[int, ...] = ()
    """Channels, height and width of an image whose pixels are the features, in this order.
    Empty: features as they are (mlp), or a square image of one channel (cnn)."""
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

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train on the columns `features` and `label`."""
        FAMILY.check(split)
        if not len(split):
            raise EngramError(f"split {split.name!r} has no records", hint="give at least one")
        model = ClassifierModel(self.untrained(split, run))
        examples = FAMILY.examples(model, split)
        check_not_empty(examples, split.name)
        epochs = Epochs(examples, self.batch_size, run)
        plan = self.plan(self.epochs * epochs.per_epoch)
        key = key_of(self, run.seed, split.fingerprint)
        training = Training(model.model, plan, run, key, epochs.per_epoch)
        for _ in training.steps(lambda step: batch_loss(examples, epochs.rows(step))):
            pass
        return Draft(self.family, model, tuple(training.trace))

    def untrained(self, split: Split, run: Run) -> Network:
        """The network with random weights, which knows the mean and spread of each feature."""
        features = features_of(split)
        classes = int(labels_of(split).max()) + 1
        layout = Layout(
            self.architecture, self.shape_of(features.shape[1]), classes, self.width, self.layers
        )
        with torch_seeded(run.seed, "initial weights"):
            network = layout.build()
        spread = features.std(0)
        network.mean.copy_(torch.from_numpy(features.mean(0)))
        # A feature that is the same everywhere says nothing; its scale stays 1.
        network.scale.copy_(torch.from_numpy(spread).where(torch.from_numpy(spread) > 0, 1.0))
        return network.to(run.device)

    def shape_of(self, width: int) -> tuple[int, ...]:
        """The shape of a record of `width` features."""
        if self.shape:
            if prod(self.shape) != width:
                raise EngramError(
                    f"shape {self.shape} holds {prod(self.shape)} numbers, but records have "
                    f"{width} features",
                    hint="give channels, height and width",
                )
            return self.shape
        if self.architecture == "mlp":
            return (width,)
        side = isqrt(width)
        if side * side != width:
            raise EngramError(
                f"records have {width} features, which make no square image",
                hint="give --shape CHANNELS HEIGHT WIDTH, or use --architecture mlp",
            )
        return (1, side, side)
