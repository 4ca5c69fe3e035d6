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

from engram.core import Paper, Run, Split
from engram.parts.gradient_matching import GradientMatching


@dataclass(frozen=True)
class DistilGradients(GradientMatching):
    """Dataset condensation by gradient matching (DC)."""

    paper: ClassVar[Paper] = Paper(
        title="Dataset Condensation with Gradient Matching",
        authors="Zhao, Mopuri and Bilen",
        year=2021,
        url="https://arxiv.org/abs/2006.05929",
    )

    def __call__(self, split: Split, run: Run) -> Split:
        """Return `per_class` records of each class; the log tells the distance at each step."""
        source = self.source(split)
        return self.matched(source, source.labels, run)
