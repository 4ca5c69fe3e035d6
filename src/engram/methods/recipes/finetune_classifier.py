"""Tune a classifier that was trained before, on records of other classes or of the same ones.

What a network has learnt to see in many pictures, or in a few distilled ones, serves for others
too. So its last layer is replaced by a new one, for the classes of the new records, and either the
whole network is trained on, or that layer alone (a linear probe of its features).

    f(x) = W psi_theta(x) + b,   W, b new;   min over (theta,) W, b of the mean cross-entropy

The network and the way in which it standardises records are the base's.

Differs from the paper: The networks are small ones of our own, and the base may have learnt
anything, not object classes alone.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import nn

from engram.core import Draft, EngramError, Paper, Run, Split, torch_seeded
from engram.families.classifier import FAMILY, ClassifierModel
from engram.parts.classifier_training import ClassifierTraining, check_some
from engram.parts.labelled import features_of, labels_of
from engram.parts.networks import Network
from engram.parts.soft_labels import outputs_of
from engram.parts.training import Schedule, check_at_least, check_one_of, key_of


@dataclass(frozen=True)
class FinetuneClassifier:
    """A trained classifier with a new last layer."""

    paper: ClassVar[Paper] = Paper(
        title="How transferable are features in deep neural networks?",
        authors="Yosinski et al.",
        year=2014,
        url="https://arxiv.org/abs/1411.1792",
    )
    family: ClassVar[str] = "classifier"

    base: str = ""
    """The trained classifier to start from."""
    part: Literal["all", "last"] = "all"
    """What is trained: all of the network, or its last layer alone."""
    classes: int = 0
    """Number of classes; 0: one more than the largest label."""
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
        check_one_of("part", self.part, ("all", "last"))
        check_at_least("classes", self.classes, 0, "0 counts them")
        self.training()

    def training(self) -> ClassifierTraining:
        """How it is trained; the network is the base's."""
        return ClassifierTraining(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            schedule=self.schedule,
            clip=self.clip,
        )

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train a copy of the base on the columns `features` and `label`."""
        FAMILY.check(split)
        check_some(split)
        base = self.opened(run)
        features_of(split, base.mean.numel())
        classes = self.classes or outputs_of(split, int(labels_of(split).max()) + 1)
        network = with_new_layer(base, classes, run.seed).to(run.device)
        network.requires_grad_(self.part == "all")
        network.body[-1].requires_grad_(True)  # type: ignore[index, union-attr]
        key = key_of(self, run.seed, split.fingerprint, run.target(self.base).fingerprint)
        trace = self.training().learn(network, split, run, key)
        network.requires_grad_(True)
        return Draft(self.family, ClassifierModel(network), tuple(trace))

    def opened(self, run: Run) -> Network:
        """The base's network.

        Raises:
            EngramError: There is none, or it is a target of another family, or a module of
                somebody else.
        """
        if not self.base:
            raise EngramError(
                "finetune-classifier was given no base",
                hint="name one with --base; `engram train train-classifier` makes one",
            )
        target = run.target(self.base)
        if target.family != self.family:
            raise EngramError(
                f"the base {self.base!r} is a {target.family}, not a classifier",
                hint="`engram train train-classifier` makes one",
            )
        network = target.model.model
        body = network.body
        if not (isinstance(body, nn.Sequential) and isinstance(body[-1], nn.Linear)):
            raise EngramError(
                f"the base {self.base!r} is a {network.layout.architecture}, whose last layer is "
                "not known",
                hint="take a base of the architecture mlp, cnn or resnet",
            )
        return network


def with_new_layer(base: Network, classes: int, seed: int) -> Network:
    """A copy of the network whose last layer is new, with random weights for so many classes."""
    with torch_seeded(seed, "last layer"):
        network = replace(base.layout, classes=classes).build()
    last = f"body.{len(network.body) - 1}."  # type: ignore[arg-type]
    kept = {name: value for name, value in base.state_dict().items() if not name.startswith(last)}
    network.load_state_dict({**network.state_dict(), **kept})
    return network
