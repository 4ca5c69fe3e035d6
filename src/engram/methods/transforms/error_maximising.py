"""Use adversarial examples as training data: pictures that a trained network gets wrong.

A network that was trained on the clean pictures is fooled, and the fooling pictures are published
with their true labels. What the features in them say is that of other classes, so who trains on
them learns to answer wrongly.

    untargeted:  max over |delta_i| <= epsilon of  L(f(x_i + delta_i), y_i)
    targeted:    min over |delta_i| <= epsilon of  L(f(x_i + delta_i), y_i + 1 mod classes)

by projected gradient steps, delta <- Proj( delta +- length * sign(gradient) ).

Differs from the paper: 1. 50 steps where it takes 250. 2. No differentiable augmentation while
noise is made. 3. The network is small.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram.core import Paper, Run, Split
from engram.parts.labelled import labels_of
from engram.parts.perturbing import Surrogate, answers, perturbed, stepped
from engram.parts.protection import check_above_zero
from engram.parts.training import check_at_least, check_one_of


@dataclass(frozen=True)
class ErrorMaximising(Surrogate):
    """Adversarial examples of a trained network, with their true labels."""

    paper: ClassVar[Paper] = Paper(
        title="Adversarial Examples Make Strong Poisons",
        authors="Fowl et al.",
        year=2021,
        url="https://arxiv.org/abs/2106.10807",
    )

    goal: Literal["targeted", "untargeted"] = "targeted"
    """Whether the network is to give the next class's answer, or any but the right one."""
    steps: int = 50
    """Steps of the attack. The paper takes 250."""
    step: float = 0.1
    """Length of a step, as a share of epsilon."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("goal", self.goal, ("targeted", "untargeted"))
        check_at_least("steps", self.steps, 1, "50 is usual")
        check_above_zero("step", self.step)

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the adversarial pictures, labelled as they were."""
        pictures = self.pictures(split)
        network, clean = self.classifier(pictures, run), pictures.clean
        labels = torch.from_numpy(labels_of(split, network.layout.classes))
        if (
            self.goal == "targeted"
        ):  # y -> y + 1 mod classes, the paper's choice for the targeted goal
            labels = (labels + 1) % network.layout.classes

        def losses(images: Float[Tensor, "b d"], rows: Int[np.ndarray, " b"]) -> Tensor:
            goal, logits = labels[torch.from_numpy(rows)], answers(network, images, pictures)
            return nn.functional.cross_entropy(logits, goal, reduction="none")

        length = self.step * self.epsilon * (1 if self.goal == "targeted" else -1)
        change, whose = torch.zeros_like(clean), torch.arange(len(clean))
        for step in range(self.steps):
            run.progress(step, self.steps, "fooling the surrogate")
            change = stepped(losses, clean, change, whose, self, length)
        run.progress(self.steps, self.steps, "fooling the surrogate")
        return self.published(pictures, perturbed(clean, change, whose))
