"""Distil pictures by matching gradients: a few that push a network where all of them would.

What training does to a network is the sum of its gradients. So look for a few pictures whose
gradient, class by class, points where the gradient of the real ones points - not for one network,
but for many with random weights, and at every stage of their training on the few.

    min over S  E over random theta_0  sum over t < rounds  sum over classes c
                D( grad L(theta_t; S_c), grad L(theta_t; real batch of c) )

    D = sum over layers and output units i of  1 - <A_i, B_i> / (|A_i| |B_i|)

and theta_(t+1) = theta_t after `network_steps` steps on the loss of S. Labels stay hard.

Differs from the paper: 1. Networks have group instead of instance normalisation, and are small. 2.
A network takes steps on all of S at once, not epochs of batches. 3. The step of the pictures is
measured in spreads of a pixel, and their momentum starts anew with each network, as theirs does.
4. Pixels are kept within their range. 5. Nothing is augmented while it is distilled. Equations were
not checked against a printed copy.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram.core import Paper, Run, Split
from engram.parts.distillation import Distillation, Source, check_positive, drawn_by_class
from engram.parts.gradient_distance import gradient_distance, gradients
from engram.parts.kernel_distillation import check_finite
from engram.parts.networks import Network
from engram.parts.training import check_at_least


@dataclass(frozen=True)
class DistilGradients(Distillation):
    """Dataset condensation by gradient matching (DC)."""

    paper: ClassVar[Paper] = Paper(
        title="Dataset Condensation with Gradient Matching",
        authors="Zhao, Mopuri and Bilen",
        year=2021,
        url="https://arxiv.org/abs/2006.05929",
    )

    per_class: int = 10
    """Distilled pictures of each class."""
    networks: int = 30
    """Networks with random weights, one after another. The paper takes 1,000."""
    rounds: int = 10
    """Steps of the pictures for each network. The paper takes 10 for 10 pictures a class."""
    network_steps: int = 20
    """Steps of the network after each. The paper takes 50 epochs for 10 pictures a class."""
    learning_rate: float = 0.1
    """Of the pictures, in spreads of a pixel. The paper takes 0.1."""
    network_rate: float = 0.01
    """Of the networks. The paper takes 0.01."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("per_class", self.per_class, 1, "1, 10 or 50 are usual")
        for name in ("networks", "rounds", "network_steps"):
            check_at_least(name, getattr(self, name), 0, "0 leaves that out")
        for name in ("learning_rate", "network_rate"):
            check_positive(name, getattr(self, name))

    def __call__(self, split: Split, run: Run) -> Split:
        """Return `per_class` records of each class; the log tells the distance at each step."""
        source = self.source(split)
        labels = source.labels
        places = drawn_by_class(labels, self.per_class, run.stream("first records"))
        pictures = self.begun(source, places, run)
        own = torch.from_numpy(labels[places]).to(run.device)
        spread, batches = float(source.standards[1, 0]), run.stream("batches")
        for number in range(self.networks):
            run.progress(number, self.networks, "distilling")
            network = self.network(source, int(labels.max()) + 1, run, "network", number)
            steps = torch.optim.SGD([pictures], lr=self.learning_rate * spread**2, momentum=0.5)
            for turn in range(self.rounds):
                step = number * self.rounds + turn
                steps.zero_grad()
                total = 0.0
                for label in np.unique(labels):
                    rows = np.flatnonzero(labels == label)
                    rows = batches.permutation(rows)[: self.batch_size]
                    loss = class_distance(network, pictures, own, source, rows, int(label))
                    check_finite(loss, step, self.networks * self.rounds)
                    loss.backward(inputs=[pictures])
                    total += float(loss.detach())
                steps.step()
                with torch.no_grad():
                    pictures.clamp_(source.low, source.high)
                run.log(step=step, distance=total)
                if turn + 1 < self.rounds:
                    learn(network, pictures.detach(), own, self.network_steps, self.network_rate)
        run.progress(self.networks, self.networks, "distilling")
        return self.published(source, pictures, places, labels[places])


def class_distance(
    network: Network,
    pictures: Float[Tensor, "m d"],
    own: Int[Tensor, " m"],
    source: Source,
    rows: Int[np.ndarray, " rows"],
    label: int,
) -> Float[Tensor, ""]:
    """How far apart the gradients of one class are, of real and of distilled records.

    Args:
        network: At theta_t.
        pictures: All distilled ones.
        own: The class of each.
        source: The real ones.
        rows: Which of these, all of the class, are looked at.
        label: The class.
    """
    real = source.rows(rows).to(pictures.device)
    wanted = torch.full((len(rows),), label, device=pictures.device)
    goal = gradients(network, nn.functional.cross_entropy(network(real), wanted))
    mine = own == label
    loss = nn.functional.cross_entropy(network(pictures[mine]), own[mine])
    return gradient_distance(gradients(network, loss, differentiable=True), goal)


def learn(
    network: Network,
    pictures: Float[Tensor, "m d"],
    own: Int[Tensor, " m"],
    steps: int,
    rate: float,
) -> None:
    """Take steps of descent on the loss of the distilled records, in place."""
    optimiser = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.5)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(pictures), own).backward()
        optimiser.step()
