"""Distil pictures by matching distributions: a few with the mean features of all of them.

No network has to be trained: one with random weights already tells pictures apart. If the few have,
class by class, the same mean features as the real ones, whatever random network looks, then they
are spread like them as far as networks can see.

    min over S  E over random theta  sum over classes c
                | mean over real batch of c of psi_theta(x)  -  mean over S_c of psi_theta(s) |^2

where psi is what goes into the last layer. Labels stay hard.

Differs from the paper: 1. Networks have group instead of instance normalisation, are small, and
take means over pixels for psi. 2. The step of the pictures is measured in spreads of a pixel. 3.
Pixels are kept within their range. 4. Nothing is augmented (the paper augments real and distilled
pictures alike). Equations were not checked against a printed copy.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram.core import Paper, Run, Split
from engram.parts.distillation import Distillation, before_last, check_positive, drawn_by_class
from engram.parts.kernel_distillation import check_finite
from engram.parts.training import check_at_least


@dataclass(frozen=True)
class DistilDistributions(Distillation):
    """Dataset condensation by distribution matching (DM)."""

    paper: ClassVar[Paper] = Paper(
        title="Dataset Condensation with Distribution Matching",
        authors="Zhao and Bilen",
        year=2023,
        url="https://arxiv.org/abs/2110.04181",
    )

    per_class: int = 10
    """Distilled pictures of each class."""
    steps: int = 500
    """Networks with random weights, each of which is looked through once. The paper takes
    20,000."""
    learning_rate: float = 1.0
    """Of the pictures, in spreads of a pixel. The paper takes 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("per_class", self.per_class, 1, "1, 10 or 50 are usual")
        check_at_least("steps", self.steps, 0, "0 keeps the pictures as they started")
        check_positive("learning_rate", self.learning_rate)

    def __call__(self, split: Split, run: Run) -> Split:
        """Return `per_class` records of each class; the log tells the distance at each step."""
        source = self.source(split)
        labels = source.labels
        places = drawn_by_class(labels, self.per_class, run.stream("first records"))
        pictures, own = self.begun(source, places, run), labels[places]
        spread, batches = float(source.standards[1, 0]), run.stream("batches")
        steps = torch.optim.SGD([pictures], lr=self.learning_rate * spread**2, momentum=0.5)
        for step in range(self.steps):
            run.progress(step, self.steps, "distilling")
            network = self.network(source, 2, run, "network", step).requires_grad_(False)
            features = before_last(network, pictures)
            loss = features.new_zeros(())
            for label in np.unique(labels):
                rows = batches.permutation(np.flatnonzero(labels == label))[: self.batch_size]
                real = before_last(network, source.rows(rows).to(run.device))
                loss = loss + mean_distance(features[torch.from_numpy(own == label)], real)
            check_finite(loss, step, self.steps)
            steps.zero_grad()
            loss.backward()
            steps.step()
            with torch.no_grad():
                pictures.clamp_(source.low, source.high)
            run.log(step=step, distance=float(loss.detach()))
        run.progress(self.steps, self.steps, "distilling")
        return self.finished(source, pictures, places, own)


def mean_distance(some: Float[Tensor, "m k"], others: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """The squared distance of two means."""
    return (some.mean(0) - others.mean(0)).square().sum()
