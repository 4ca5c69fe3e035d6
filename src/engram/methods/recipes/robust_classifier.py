"""Train a classifier against noise in its pictures: on altered copies, adversarial ones, or both.

Noise that was added so that nothing can be learnt may be fragile: whoever trains can shift, flip or
cover parts of pictures, blur what is fine by noise of his own, or train on the worst pictures
within a ball, so that no small pattern tells the label any more.

    min over theta  E [ max over |eta| <= adversarial of  L(f_theta(T(x) + eta), y) ]

with T a random alteration drawn anew in every step, and the inner maximum by projected gradient
steps from a random start. With `adversarial` 0 there is none; without `augment`, T(x) = x.

Differs from the paper: 1. Radii are in ranges of a pixel, like those of protections. 2. Small
networks, AdamW, and few inner steps (its 7 are the default). 3. The alterations T are not in it.
4. Pixels are standardised by a mean each and one spread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram.core import Draft, EngramError, Paper, Run, Split, torch_stream
from engram.families.classifier import FAMILY, ClassifierModel
from engram.parts.alterations import ALTERATIONS, altered
from engram.parts.classifier_training import ClassifierTraining
from engram.parts.labelled import labels_of
from engram.parts.networks import Network
from engram.parts.perturbing import raw
from engram.parts.protection import Pictures, inside, pictures_of
from engram.parts.training import Epochs, Training, check_at_least, check_not_empty, key_of


@dataclass(frozen=True)
class RobustClassifier(ClassifierTraining):
    """A classifier trained on altered or adversarial pictures."""

    paper: ClassVar[Paper] = Paper(
        title="Towards Deep Learning Models Resistant to Adversarial Attacks",
        authors="Madry et al.",
        year=2018,
        url="https://arxiv.org/abs/1706.06083",
    )

    augment: tuple[str, ...] = ("shift", "noise")
    """Alterations drawn anew in every step, in this order: shift, flip, cutout, noise, mixup."""
    adversarial: float = 0.0
    """Radius, in the largest norm and in ranges of a pixel, of the worst picture that is trained
    on; 0: none is sought."""
    adversarial_steps: int = 7
    """Steps of that search. The paper takes 7."""
    pixels: tuple[float, ...] = ()
    """Smallest and largest value of a pixel. Empty: what the data says, else 0 and 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := [name for name in self.augment if name not in ALTERATIONS]:
            raise EngramError(
                f"there is no alteration {unknown[0]!r}",
                hint=f"there are {', '.join(ALTERATIONS)}",
            )
        check_at_least("adversarial", self.adversarial, 0, "0 seeks none")
        check_at_least("adversarial_steps", self.adversarial_steps, 1, "7 are the paper's")

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train on the columns `features` and `label`."""
        FAMILY.check(split)
        model = ClassifierModel(self.start(split, run))
        network = model.model
        pictures = pictures_of(split, self.pixels)
        # One spread for all pixels: by their own, alterations of the even edge would be enormous.
        network.scale.fill_(max(float(pictures.raw.std()), 1e-6))
        examples = FAMILY.examples(model, split)
        check_not_empty(examples, split.name)
        batches = Epochs(examples, self.batch_size, run)
        plan = self.plan(self.epochs * batches.per_epoch)
        key = key_of(self, run.seed, split.fingerprint)
        training = Training(network, plan, run, key, batches.per_epoch)
        clean, labels = pictures.clean, torch.from_numpy(labels_of(split))

        def loss(step: int) -> list[Float[Tensor, ""]]:
            place = torch.from_numpy(batches.rows(step))
            goal = nn.functional.one_hot(labels[place], network.layout.classes).float()
            return [self._loss(network, clean[place], goal, pictures, step, run)]

        for _ in training.steps(loss):
            pass
        return Draft(self.family, model, tuple(training.trace))

    def _loss(
        self,
        network: Network,
        images: Float[Tensor, "b d"],
        goal: Float[Tensor, "b classes"],
        pictures: Pictures,
        step: int,
        run: Run,
    ) -> Float[Tensor, ""]:
        """Cross-entropy of one step's batch, altered and moved to the worst."""
        rng = torch_stream(run.seed, "alterations", step)
        rows = pictures.rows_of_pixels(images)
        for name in self.augment:
            rows, goal = altered(name, rows, goal, rng)
        images = pictures.flat(rows).clamp(0, 1)

        def losses(moved: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
            logits = network(raw(moved, pictures).to(network.mean.device))
            return -(goal.to(logits.device) * logits.log_softmax(1)).sum(1)

        if self.adversarial:
            start = 2 * torch.rand(images.shape, generator=rng) - 1
            radius = self.adversarial
            images = worst(losses, images, radius * start, radius, self.adversarial_steps)
        return losses(images).mean()


def worst(
    losses: Callable[[Float[Tensor, "b d"]], Float[Tensor, " b"]],
    images: Float[Tensor, "b d"],
    change: Float[Tensor, "b d"],
    radius: float,
    steps: int,
) -> Float[Tensor, "b d"]:
    """Pictures within the radius where losses are high: projected sign steps (section 2.1).

    eta <- Proj( eta + 2.5 radius / steps * sign(gradient of L) )
    """
    for _ in range(steps):
        change = change.detach().requires_grad_()
        total = losses((images + change).clamp(0, 1)).sum()
        (slope,) = torch.autograd.grad(total, change)
        change = inside(change + 2.5 * radius / steps * slope.sign(), "linf", radius)
    return (images + change).clamp(0, 1).detach()
