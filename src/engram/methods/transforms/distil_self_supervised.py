"""Distil pictures without labels, to train networks beforehand that then need few labels.

A teacher learns, without labels, which features matter in the pictures. A few distilled pictures,
each with a list of numbers that stands for what the teacher would say, are then moved until ridge
regression from them says of all real pictures what the teacher says. Whoever trains a network on
the few by squared error, and then on a handful of labelled pictures, starts from there.

    L(X_s, Y_s) = mean squared error of  K_ts (K_ss + lambda I)^-1 Y_s  from  g(X_t),  K = Phi Phi^T
    lambda = ridge * trace(K_ss)

Phi are the features, with a constant 1 beside them, of a network of the pool; g is the teacher.
A self-supervised loss in the place of this would need random copies of the few pictures, and its
gradient would be biased; a squared error to fixed targets has no such randomness.

Train on the result with `train-classifier` (it learns the column `soft_label`), and then with
`finetune-classifier`. The column `label` says which of the numbers is the largest: no class.

Differs from the paper: 1. The teacher is a small network of ours, trained by Barlow Twins with
fewer kinds of changed copies and a smaller projector, unless one is given. 2. What it says is
brought to mean 0 and spread 1 over the real pictures, and so of one size for the ridge. 3. Networks
have group normalisation, which does not care whether they are in training. 4. Pixels are kept
within their range. Equations were not checked against a printed copy.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram.core import EngramError, Paper, Run, Split
from engram.parts.barlow_twins import Changes, learn_without_labels
from engram.parts.distillation import Source, before_last, check_positive
from engram.parts.kernel_distillation import KernelDistillation
from engram.parts.networks import Network
from engram.parts.sub_run import SubRun
from engram.parts.training import check_at_least

BATCH = 512
"""Records that the teacher looks at together."""


@dataclass(frozen=True)
class DistilSelfSupervised(KernelDistillation):
    """Self-supervised dataset distillation by kernel ridge regression (KRR-ST)."""

    paper: ClassVar[Paper] = Paper(
        title="Self-Supervised Dataset Distillation for Transfer Learning",
        authors="Lee et al.",
        year=2024,
        url="https://arxiv.org/abs/2310.06511",
    )
    columns: ClassVar[tuple[str, ...]] = ("features",)

    count: int = 50
    """Distilled pictures. The paper takes 1,000 or 2,000."""
    teacher: str = ""
    """A trained classifier of ours whose features are the teacher's; empty: one is trained here,
    without labels."""
    teacher_epochs: int = 20
    """Times that it sees each picture."""
    teacher_rate: float = 2e-3
    """Its learning rate."""
    teacher_width: int = 32
    """Its channels, or hidden numbers, in the first block or layer."""
    teacher_projector: int = 256
    """Numbers that its features are projected to while it learns. Barlow Twins' paper takes
    8,192."""
    flip: bool = False
    """Whether copies may exchange left and right: not for digits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("count", self.count, 2, "50 is a start")
        check_at_least("teacher_width", self.teacher_width, 1, "32 suits small pictures")
        check_at_least("teacher_projector", self.teacher_projector, 2, "256 suits small networks")
        check_at_least("teacher_epochs", self.teacher_epochs, 0, "0 keeps its random weights")
        check_positive("teacher_rate", self.teacher_rate)

    def __call__(self, split: Split, run: Run) -> Split:
        """Return `count` records; the log tells the regression's error at each step."""
        source = self.source(split)
        if len(source) < 2:
            raise EngramError(f"split {split.name!r} has 1 record", hint="give at least 2")
        said = self.taught(source, run)
        order = run.stream("first records")
        rounds = [order.permutation(len(source)) for _ in range(-(-self.count // len(source)))]
        places = np.concatenate(rounds)[: self.count]
        pictures, soft = self.distilled(
            source,
            self.begun(source, places, run),
            said[torch.from_numpy(places)],
            lambda rows: said[torch.from_numpy(rows)],
            run,
        )
        largest = soft.argmax(1).cpu().numpy().astype(np.int64)
        return self.finished(source, pictures, places, largest, soft)

    def taught(self, source: Source, run: Run) -> Float[Tensor, "n k"]:
        """What the teacher says of every picture: mean 0 and spread 1 over all of them."""
        teacher = self._opened(run) if self.teacher else self._trained(source, run)
        parts = torch.from_numpy(source.features).split(BATCH)
        with torch.no_grad():
            found = torch.cat([before_last(teacher, part.to(run.device)) for part in parts])
        return standard(found)

    def _trained(self, source: Source, run: Run) -> Network:
        part = SubRun.of(run, "teacher")
        layout = self.network(source, 2, run, "layout").layout
        if len(layout.shape) != 3:
            raise EngramError(
                f"the teacher learns from pictures, but a {self.architecture} takes records as "
                "they are",
                hint="take --architecture cnn or resnet, or give a trained --teacher",
            )
        network = wider(self, self.teacher_width).network(source, 2, part, "weights")
        features = torch.from_numpy(source.features)
        losses = learn_without_labels(
            network,
            features,
            part,
            epochs=self.teacher_epochs,
            batch_size=self.batch_size,
            rate=self.teacher_rate,
            projector=self.teacher_projector,
            changes=Changes(flip=self.flip),
        )
        for epoch, loss in enumerate(losses):
            run.log(epoch=epoch, teacher_loss=loss)
        return network.eval().requires_grad_(False)

    def _opened(self, run: Run) -> Network:
        target = run.target(self.teacher)
        if target.family != "classifier":
            raise EngramError(
                f"the teacher {self.teacher!r} is a {target.family}, not a classifier",
                hint="`engram train train-classifier` makes one",
            )
        return target.model.model.eval()


def wider(method: DistilSelfSupervised, width: int) -> DistilSelfSupervised:
    """The same method with networks of another width."""
    return replace(method, width=width)


def standard(found: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Every column with mean 0 and spread 1; one that never changes is 0."""
    spread = found.std(0, correction=0)
    return (found - found.mean(0)) / torch.where(spread > 1e-6, spread, torch.ones_like(spread))
