"""How the reference model of SPV-MIA is trained: the public base, on what the target wrote."""

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import ClassVar

from engram.core import Draft, Paper, Run, Split
from engram.families.causal_lm import FAMILY
from engram.parts.training import Epochs, Plan, Training, batch_loss, check_not_empty, key_of

PAPER = Paper(
    title="Membership Inference Attacks against Fine-tuned Large Language Models via Self-prompt "
    "Calibration",
    authors="Fu et al.",
    year=2024,
    url="https://arxiv.org/abs/2311.06062",
)


@dataclass(frozen=True)
class SelfPromptReference:
    """A few epochs of full fine-tuning, at a rate that falls to 0 along a line.

    Attributes:
        base: The model to start from.
        epochs: Times that each text is seen.
        batch_size: Texts in a step.
        learning_rate: The highest learning rate.
    """

    paper: ClassVar[Paper] = PAPER
    family: ClassVar[str] = "causal-lm"

    base: str
    epochs: int
    batch_size: int
    learning_rate: float

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train a copy of the base on the column `text`."""
        base = run.target(self.base)
        model = deepcopy(base.model.model).float().to(run.device)
        lm = replace(base.model, model=model)
        examples = FAMILY.examples(lm, split)
        check_not_empty(examples, split.name)
        epochs = Epochs(examples, self.batch_size, run)
        plan = Plan(self.epochs * epochs.per_epoch, self.learning_rate, schedule="linear")
        key = key_of(self, run.seed, split.fingerprint, base.fingerprint)
        training = Training(model, plan, run, key, epochs.per_epoch)
        for _ in training.steps(lambda step: batch_loss(examples, epochs.rows(step))):
            pass
        model.to(base.model.model.dtype)
        return Draft(self.family, lm, tuple(training.trace))
