"""Add noise that makes a picture so easy that a network has nothing left to learn from it.

Training learns most from what it gets wrong. So a network and the noise are trained in turn, both
to lower the loss; where the noise alone tells the label, the loss is 0 and the picture is ignored.

    min over theta  (1/n) sum_i  min over |delta_i| <= epsilon  L(f_theta(x_i + delta_i), y_i)

The network takes `network_steps` batches, then all noise takes `noise_steps` steps

    delta <- Proj( delta - length * sign(gradient of L) )           (for l2: gradient / its norm)

until the network errs on less than `enough` of the records, or `rounds` have passed. The noise of
a class instead of a record is one pattern for all its records.

Differs from the paper: 1. The network is trained by AdamW at a constant rate, and is small. 2. Each
step of the noise of a class sums the loss over all its records, not over those of a batch.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram.core import Paper, Run, Split
from engram.parts.labelled import labels_of
from engram.parts.networks import Network
from engram.parts.perturbing import (
    BATCH,
    Surrogate,
    answers,
    noise,
    opened_classifier,
    perturbed,
    stepped,
)
from engram.parts.protection import Pictures, check_above_zero
from engram.parts.sub_run import SubRun
from engram.parts.training import adamw, check_at_least, check_one_of


@dataclass(frozen=True)
class ErrorMinimising(Surrogate):
    """Error-minimising noise, for each record or each class."""

    paper: ClassVar[Paper] = Paper(
        title="Unlearnable Examples: Making Personal Data Unexploitable",
        authors="Huang et al.",
        year=2021,
        url="https://arxiv.org/abs/2101.04898",
    )

    each: Literal["record", "class"] = "record"
    """Who has noise of its own: every record, or every class."""
    rounds: int = 30
    """The most times that network and noise take turns."""
    network_steps: int = 10
    """Batches that the network learns from in a round. The paper takes 10."""
    noise_steps: int = 20
    """Steps of the noise in a round. The paper takes 20."""
    step: float = 0.1
    """Length of a step, as a share of epsilon."""
    enough: float = 0.01
    """Share of records that the network may still get wrong in the end. The paper takes 0.01."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("each", self.each, ("record", "class"))
        for name in ("rounds", "network_steps", "noise_steps"):
            check_at_least(name, getattr(self, name), 1, "1 is the least that works")
        check_at_least("enough", self.enough, 0, "0.01 is the paper's value")
        check_above_zero("step", self.step)

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the records with noise; the log tells the network's error after each round."""
        pictures = self.pictures(split)
        network, clean = self._network(pictures, run), pictures.clean
        labels = torch.from_numpy(labels_of(split, network.layout.classes))
        whose = labels if self.each == "class" else torch.arange(len(clean))
        rng, rows = run.stream("first noise"), int(whose.max()) + 1
        change = noise(rows, clean.shape[1], self.norm, self.epsilon, rng)
        optimiser = adamw(network, self.training("constant").plan(1))

        def losses(images: Float[Tensor, "b d"], rows: Int[np.ndarray, " b"]) -> Tensor:
            logits = answers(network, images, pictures)
            return nn.functional.cross_entropy(
                logits, labels[torch.from_numpy(rows)], reduction="none"
            )

        batches = run.stream("batches")
        for turn in range(self.rounds):
            run.progress(turn, self.rounds, "making noise")
            network.train().requires_grad_(True)
            for _ in range(self.network_steps):  # theta, for these delta
                chosen = batches.permutation(len(clean))[: self.training().batch_size]
                place = torch.from_numpy(chosen)
                optimiser.zero_grad()
                losses(perturbed(clean[place], change, whose[place]), chosen).mean().backward()
                optimiser.step()
            network.eval().requires_grad_(False)
            for _ in range(self.noise_steps):  # delta, for this theta
                length = self.step * self.epsilon
                change = stepped(losses, clean, change, whose, self, length)
            wrong = error(network, perturbed(clean, change, whose), labels, pictures)
            run.log(step=turn, error=wrong)
            if wrong <= self.enough:
                break
        run.progress(self.rounds, self.rounds, "making noise")
        return self.published(pictures, perturbed(clean, change, whose))

    def _network(self, pictures: Pictures, run: Run) -> Network:
        """An untrained network; or a copy of the given one, which stays as it is."""
        if self.surrogate:
            return deepcopy(opened_classifier(self.surrogate, run, pictures))
        return self.training().start(pictures.split, SubRun.of(run, "surrogate"))


def error(
    network: Network,
    images: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    pictures: Pictures,
) -> float:
    """Share of records that the network gets wrong."""
    with torch.no_grad():
        said = [answers(network, part, pictures).argmax(1) for part in images.split(BATCH)]
    return float((torch.cat(said) != labels).float().mean())
