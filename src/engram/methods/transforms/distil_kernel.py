"""Distil pictures and their labels through ridge regression on features of networks.

What a network's last layer would learn from a few pictures need not be trained for: on fixed
features it is a ridge regression, with a solution in closed form. So the error of that solution on
real pictures can be differentiated, and the few pictures and what is said of them moved downhill.
The features are those of a pool of networks that are trained on the few as they come to be.

    L(S) = mean squared error of  K_ts (K_ss + lambda I)^-1 Y_s  from  Y_t
    K = Phi Phi^T,    lambda = ridge * trace(K_ss)

Kernel inducing points (Nguyen et al., 2021) minimise this for the kernel of an infinitely wide
network; neural feature regression takes the features Phi of real ones. Y_s is learnt too: it starts
as 1 for a picture's class and 0 else, less the mean, and stands in the column `soft_label`.

Differs from the paper: 1. Networks are small ones with group normalisation. 2. What is wanted of
real pictures is not scaled by the number of classes. 3. The pool has 4 networks, by default, not
10, and pictures are moved by AdamW, not by LAMB. 4. Pixels are kept within their range. 5. There is
no second loss on the networks' own predictions. Equations were not checked against a printed copy.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram.core import Paper, Run, Split
from engram.parts.distillation import drawn_by_class
from engram.parts.kernel_distillation import KernelDistillation
from engram.parts.training import check_at_least


@dataclass(frozen=True)
class DistilKernel(KernelDistillation):
    """Neural feature regression (FRePo), a finite form of kernel inducing points (KIP)."""

    paper: ClassVar[Paper] = Paper(
        title="Dataset Distillation using Neural Feature Regression",
        authors="Zhou, Nezhadarya and Ba",
        year=2022,
        url="https://arxiv.org/abs/2206.00719",
    )

    per_class: int = 10
    """Distilled pictures of each class, at the start: their labels change."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("per_class", self.per_class, 1, "1, 10 or 50 are usual")

    def __call__(self, split: Split, run: Run) -> Split:
        """Return records with soft labels; the log tells the regression's error at each step."""
        source = self.source(split)
        labels = source.labels
        places = drawn_by_class(labels, self.per_class, run.stream("first records"))
        wanted = centred(torch.from_numpy(labels), int(labels.max()) + 1)
        pictures, soft = self.distilled(
            source,
            self.begun(source, places, run),
            wanted[torch.from_numpy(places)],
            lambda rows: wanted[torch.from_numpy(rows)],
            run,
        )
        hard = soft.argmax(1).cpu().numpy().astype(np.int64)
        return self.finished(source, pictures, places, hard, soft)


def centred(labels: Int[Tensor, " n"], classes: int) -> Float[Tensor, "n classes"]:
    """1 for the class of a record and 0 for the others, less 1 / classes."""
    return torch.nn.functional.one_hot(labels, classes).float() - 1 / classes
