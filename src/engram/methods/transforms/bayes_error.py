"""Move pictures to where their class can no longer be told, by climbing the estimated Bayes error.

Noise that is easy to learn keeps a model from learning the picture, but only as long as every
picture has it. Here pictures move to where those of several classes stand close together, so that
no classifier can do well on them; and in a mixture with clean data they still say the wrong thing.

    max over |delta_i| <= epsilon of  (1/n) sum_i  1 - max_c q_i(c),
    q_i(c): share of class c among all other records, weighted by exp(-|f_i - f_j|^2 / 2 h^2)

by projected gradient ascent. A step that does not raise the estimate is halved, and in the end not
taken; so the estimate never falls. For mixtures with a share rho of protected records

    beta(mix) >= (1 - rho) beta(clean) + rho beta(protected)        as max is convex

Both are promises about the estimate and about true densities, not about a given classifier.

Differs from the paper: 1. The estimator is our own, a leave-one-out kernel estimate: the paper was
not to be had in full. 2. Its line search is ours. 3. All records are climbed together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram.core import EngramError, Paper, Run, Split
from engram.parts.kernel_error import (
    Embedding,
    KernelEstimate,
    likeliest_width,
    smooth_maximum,
)
from engram.parts.perturbing import Surrogate
from engram.parts.protection import Pictures, check_above_zero, inside, steepest
from engram.parts.training import check_at_least, check_one_of

Objective = Literal["bayes", "label"]


@dataclass(frozen=True)
class BayesError(Surrogate):
    """Bayes-error maximisation within a budget."""

    paper: ClassVar[Paper] = Paper(
        title="Towards Provably Unlearnable Examples via Bayes Error Optimisation",
        authors="Zhang et al.",
        year=2025,
        url="https://arxiv.org/abs/2511.08191",
    )

    objective: Objective = "bayes"
    """bayes: 1 - max_c q, the Bayes error; label: 1 - q of the record's own class, an upper bound
    of it that goes on to put records among those of one other class."""
    space: Literal["pixels", "pca", "surrogate"] = "pixels"
    """Where distances are taken: between pixels, their principal components, or the features that
    the surrogate sees."""
    components: int = 32
    """Principal components, for pca."""
    mixture: float = 1.0
    """Share of protected records in the mixture whose Bayes error is climbed, in (0, 1]; 1: they
    are alone. Below that, the originals stand for the clean records of others."""
    bandwidth: float = 0.0
    """h, the width of the kernel; 0: the width under which the labels are likeliest."""
    steps: int = 50
    """Steps of the ascent."""
    step: float = 0.1
    """Length of a step, as a share of epsilon."""
    heat: float = 0.1
    """How soft the maximum is at first; it falls to a tenth of it. For bayes only."""
    line_search: bool = True
    """Take a step only if it raises the estimate; else halve it."""
    halvings: int = 6
    """How often a step is halved before the ascent ends."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("objective", self.objective, ("bayes", "label"))
        check_one_of("space", self.space, ("pixels", "pca", "surrogate"))
        check_at_least("components", self.components, 1, "32 suit small pictures")
        check_at_least("steps", self.steps, 1, "50 is usual")
        check_at_least("halvings", self.halvings, 0, "6 make steps up to 64 times shorter")
        if not 0 < self.mixture <= 1:
            raise EngramError(
                f"mixture is {self.mixture}, but must be in (0, 1]", hint="1 mixes in nothing"
            )
        for name in ("step", "heat"):
            check_above_zero(name, getattr(self, name))
        if not 0 <= self.bandwidth < np.inf:
            raise EngramError(f"bandwidth is {self.bandwidth}", hint="0 lets the data decide")

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the protected records; the log tells the estimate after each step."""
        pictures = self.pictures(split)
        if len(pictures) < 2:
            raise EngramError(
                f"split {split.name!r} has a single record, which no other can stand beside",
                hint="give records of two classes at least",
            )
        clean, labels = pictures.clean, torch.from_numpy(pictures.labels)
        embed, classes = self._embedding(pictures, run), int(labels.max()) + 1
        with torch.no_grad():
            points = embed(clean)
        width = self.bandwidth or likeliest_width(points, labels, classes, run.stream("width"))
        estimate = KernelEstimate(clean, labels, classes, embed, width, self.mixture)
        return self.published(pictures, self._climbed(estimate, run))

    def _climbed(self, estimate: KernelEstimate, run: Run) -> Float[Tensor, "n d"]:
        """Where the records stand after the last step that helped."""
        own, moved = self.objective == "label", estimate.clean
        now = estimate.error(moved, own=own)
        run.log(step=0, objective=now, width=estimate.width)
        for step in range(1, self.steps + 1):
            run.progress(step - 1, self.steps, "climbing the Bayes error")
            lost = self._lost(self.heat * 0.1 ** ((step - 1) / max(self.steps - 1, 1)))
            way = steepest(estimate.slope(moved, lost), self.norm)
            for halving in range(self.halvings + 1 if self.line_search else 1):
                length = self.step * self.epsilon / 2**halving
                tried = self._within(estimate.clean, moved + length * way)
                reached = estimate.error(tried, own=own)
                if reached > now or not self.line_search:
                    break
            else:
                break  # no step of any length raises it
            moved, now = tried, reached
            run.log(step=step, objective=now)
        run.progress(self.steps, self.steps, "climbing the Bayes error")
        return moved

    def _within(
        self, clean: Float[Tensor, "n d"], moved: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n d"]:
        """The nearest records within the budget and the range of a pixel."""
        return (clean + inside(moved - clean, self.norm, self.epsilon)).clamp(0, 1)

    def _lost(self, heat: float) -> Callable[[Tensor, Tensor], Tensor]:
        if self.objective == "label":
            return lambda shares, labels: 1 - shares[torch.arange(len(shares)), labels]
        return lambda shares, labels: 1 - smooth_maximum(shares, heat)

    def _embedding(self, pictures: Pictures, run: Run) -> Embedding:
        if self.space == "pixels":
            return lambda images: images
        if self.space == "surrogate":
            return self.features(pictures, run)
        clean = pictures.clean
        middle = clean.mean(0)
        _, _, axes = torch.linalg.svd(clean - middle, full_matrices=False)
        axes = axes[: self.components].T
        return lambda images: (images - middle) @ axes
