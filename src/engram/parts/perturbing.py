"""Noise made against a surrogate: a network that looks at pictures in place of the victim's.

The surrogate may be a classifier that was trained before, or one is trained here on the clean
pictures. Victims are other networks, which the noise has never met.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram.core import EngramError, Run, Split
from engram.parts.classifier_training import ClassifierTraining
from engram.parts.labelled import features_of
from engram.parts.networks import Network
from engram.parts.protection import Pictures, Protection, inside, steepest
from engram.parts.sub_run import SubRun
from engram.parts.training import FILE, Schedule, key_of
from engram.parts.vision_encoders import has_encoder, opened_encoder

Images = Float[Tensor, "n d"]
BATCH = 512
"""Records that are looked at together."""


@dataclass(frozen=True)
class Surrogate(Protection):
    """What all methods share that look at pictures through a network of their own."""

    surrogate: str = ""
    """A trained classifier of ours to look through; empty: one is trained here."""
    architecture: str = "cnn"
    """Of the surrogate that is trained here: mlp, cnn or resnet."""
    width: int = 16
    """Its hidden numbers (mlp), or channels of the first block (cnn, resnet)."""
    layers: int = 2
    """Its hidden layers (mlp), or blocks (cnn, resnet)."""
    epochs: int = 15
    """Times that it sees each record."""
    learning_rate: float = 3e-3
    """Its highest learning rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.training()

    def training(self, schedule: Schedule = "cosine") -> ClassifierTraining:
        """How the surrogate is trained."""
        return ClassifierTraining(
            self.architecture,
            self.width,
            self.layers,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            schedule=schedule,
        )

    def classifier(self, pictures: Pictures, run: Run) -> Network:
        """The surrogate as a classifier of these records: as given, or trained on them."""
        if self.surrogate:
            return frozen(opened_classifier(self.surrogate, run, pictures))
        return frozen(self.taught(pictures.split, run))

    def taught(self, split: Split, run: Run) -> Network:
        """A network that was trained on the columns `features` and `label`."""
        part, training = SubRun.of(run, "surrogate"), self.training()
        network = training.start(split, part)
        key = key_of(self, part.seed, split.fingerprint)
        training.learn(network, split, part, key, file=f"surrogate-{FILE}")
        return network

    def features(self, pictures: Pictures, run: Run) -> Callable[[Images], Float[Tensor, "n k"]]:
        """What the surrogate makes of pixels from 0 to 1: the numbers before its last layer."""
        if self.surrogate and has_encoder(self.surrogate):
            return opened_encoder(self.surrogate, pictures, run.device)
        network = self.classifier(pictures, run)
        return lambda images: penultimate(network, raw(images, pictures)).to(images.device)


def frozen(network: Network) -> Network:
    """The network, which is asked and no longer trained."""
    return network.eval().requires_grad_(False)


def raw(images: Images, pictures: Pictures) -> Images:
    """Pixels from 0 to 1 in the units of the data."""
    return pictures.low + (pictures.high - pictures.low) * images


def answers(network: Network, images: Images, pictures: Pictures) -> Float[Tensor, "n classes"]:
    """The network's logits of pixels from 0 to 1, wherever it computes."""
    return network(raw(images, pictures).to(network.mean.device)).to(images.device)


def penultimate(network: Network, features: Images) -> Float[Tensor, "n k"]:
    """What goes into the network's last layer.

    Raises:
        EngramError: It is a module of somebody else, whose last layer is not known.
    """
    if not (isinstance(network.body, nn.Sequential) and isinstance(network.body[-1], nn.Linear)):
        raise EngramError(
            f"the network {network.layout.architecture} has no last layer that is known",
            hint="take a surrogate of the architecture mlp, cnn or resnet",
        )
    seen: list[Tensor] = []
    hook = network.body[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        network(features.to(network.mean.device))
    finally:
        hook.remove()
    return seen[0]


def opened_classifier(where: str, run: Run, pictures: Pictures) -> Network:
    """The network of a classifier that the user named.

    Raises:
        EngramError: It is a target of another family, or takes other records than these.
    """
    target = run.target(where)
    if target.family != "classifier":
        raise EngramError(
            f"surrogate {where!r} is a {target.family}, not a classifier",
            hint="`engram train train-classifier` makes one",
        )
    features_of(pictures.split, target.model.model.mean.numel())
    return target.model.model


def noise(
    rows: int, width: int, norm: str, epsilon: float, rng: np.random.Generator
) -> Float[Tensor, "rows width"]:
    """Changes drawn evenly from all of the budget: the box (linf), or the ball (l2)."""
    if norm == "linf":
        drawn = rng.uniform(-epsilon, epsilon, (rows, width))
    else:
        way = rng.normal(size=(rows, width))
        length = epsilon * rng.random((rows, 1)) ** (1 / width)
        drawn = way / np.linalg.norm(way, axis=1, keepdims=True) * length
    return torch.from_numpy(drawn.astype(np.float32))


def perturbed(clean: Images, change: Float[Tensor, "m d"], whose: Int[Tensor, " n"]) -> Images:
    """Pictures with the change of their row each, within the range of a pixel."""
    return (clean + change[whose]).clamp(0, 1)


def stepped(
    losses: Callable[[Images, Int[np.ndarray, " rows"]], Float[Tensor, " rows"]],
    clean: Images,
    change: Float[Tensor, "m d"],
    whose: Int[Tensor, " n"],
    protection: Protection,
    length: float,
) -> Float[Tensor, "m d"]:
    """One step of projected gradient descent of all changes on the sum of losses.

        delta <- Proj( delta - length * direction(gradient of sum_i losses(x_i + delta)) )

    Args:
        losses: Of pictures, given with their row numbers.
        clean: Pixels from 0 to 1.
        change: One for each record, or one that several records share.
        whose: Which change is a record's.
        protection: Norm and budget.
        length: Of the step; below 0 it goes up.
    """
    change = change.detach().requires_grad_()
    for rows in np.array_split(np.arange(len(clean)), -(-len(clean) // BATCH)):
        place = torch.from_numpy(rows)
        losses(perturbed(clean[place], change, whose[place]), rows).sum().backward()
    way = steepest(change.grad, protection.norm)
    return inside(change.detach() - length * way, protection.norm, protection.epsilon)
