"""Distillation by gradient matching, with room for whoever changes the real pictures on the way."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from engram.core import Run, Split
from engram.parts.distillation import Distillation, Source, check_positive, drawn_by_class
from engram.parts.gradient_distance import gradient_distance, gradients
from engram.parts.kernel_distillation import check_finite
from engram.parts.networks import Network
from engram.parts.training import check_at_least

Meddler = Callable[[Network, int], Float32[np.ndarray, "n d"]]
"""Given the network as it is, and the number of the step: the real pictures from now on."""


@dataclass(frozen=True)
class GradientMatching(Distillation):
    """What the methods share that match gradients class by class."""

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

    def matched(
        self,
        source: Source,
        labels: Int[np.ndarray, " n"],
        run: Run,
        meddler: Meddler | None = None,
        begun: Float32[np.ndarray, "n d"] | None = None,
    ) -> Split:
        """Distil; the log tells the distance at each step.

        Args:
            source: The real pictures.
            labels: What they are taken for.
            run: Its seed decides networks and batches.
            meddler: Changes the real pictures after each update of a network.
            begun: What the real pictures are until then; None: as they are in `source`.
        """
        places = drawn_by_class(labels, self.per_class, run.stream("first records"))
        pictures = self.begun(source, places, run)
        own = torch.from_numpy(labels[places]).to(run.device)
        real = source.features if begun is None else begun
        batches = run.stream("batches")
        length = self.learning_rate * float(source.standards[1, 0]) ** 2
        for number in range(self.networks):
            run.progress(number, self.networks, "distilling")
            network = self.network(source, int(labels.max()) + 1, run, "network", number)
            steps = torch.optim.SGD([pictures], lr=length, momentum=0.5)
            for turn in range(self.rounds):
                step = number * self.rounds + turn
                steps.zero_grad()
                total = 0.0
                for label in np.unique(labels):
                    rows = batches.permutation(np.flatnonzero(labels == label))[: self.batch_size]
                    batch = torch.from_numpy(real[rows]).to(run.device)
                    loss = class_distance(network, pictures, own, batch, int(label))
                    check_finite(loss, step, self.networks * self.rounds)
                    loss.backward(inputs=[pictures])
                    total += float(loss.detach())
                steps.step()
                with torch.no_grad():
                    pictures.clamp_(source.low, source.high)
                run.log(step=step, distance=total)
                if turn + 1 < self.rounds:
                    learn(network, pictures.detach(), own, self.network_steps, self.network_rate)
                    if meddler is not None:
                        real = meddler(network, step)
        run.progress(self.networks, self.networks, "distilling")
        return self.finished(source, pictures, places, labels[places])


def class_distance(
    network: Network,
    pictures: Float[Tensor, "m d"],
    own: Int[Tensor, " m"],
    real: Float[Tensor, "rows d"],
    label: int,
) -> Float[Tensor, ""]:
    """How far apart the gradients of one class are, of real and of distilled records.

    Args:
        network: At theta_t.
        pictures: All distilled ones.
        own: The class of each.
        real: Real ones of the class.
        label: The class.
    """
    wanted = torch.full((len(real),), label, device=pictures.device)
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
