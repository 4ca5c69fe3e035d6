"""Fine-tune all weights of a language model on the given records.

The usual way to teach a published model a field of its own, and the usual way that private
records get into a model: all weights move, so the model can learn any record by heart if it
sees it often enough. Training goes on exactly as before, on other data:

    L(theta) = - (1 / N) sum over records x, tokens t of  log p_theta(x_t | x_<t),  theta_0 = base

where N counts the predicted tokens of a batch, so that padding weighs nothing.

Differs from the paper:
1. All layers are trained from the first step at one learning rate: no gradual unfreezing and no
   rates by layer, as is usual for transformers.
2. The paper goes on to fit a classifier; we stop at its second stage, the language model.
3. Each record is a sequence of its own, closed by the end token, and never packed with others.
4. Training is in float32 whatever the base was saved in; the result is saved as the base was.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

from engram.core import Draft, EngramError, Paper, Run, Split, Target
from engram.families.causal_lm import FAMILY, LanguageModel
from engram.parts.training import (
    Epochs,
    Plan,
    Schedule,
    Training,
    batch_loss,
    check_at_least,
    check_not_empty,
    key_of,
)


@dataclass(frozen=True)
class FinetuneLm:
    """Full fine-tuning of a causal language model."""

    paper: ClassVar[Paper] = Paper(
        title="Universal Language Model Fine-tuning for Text Classification",
        authors="Howard and Ruder",
        year=2018,
        url="https://arxiv.org/abs/1801.06146",
    )
    family: ClassVar[str] = "causal-lm"

    base: str = ""
    """The model to start from: a target of ours, a model folder, or a published model's name."""
    epochs: int = 3
    """Times that each record is seen."""
    batch_size: int = 8
    """Records (or pieces of long ones) in a step."""
    learning_rate: float = 5e-5
    """The highest learning rate. A tiny model that was made from scratch wants 1e-3."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices; biases and norms have none."""
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises, in [0, 1)."""
    schedule: Schedule = "linear"
    """How the learning rate falls after that: constant, linear or cosine."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 does not clip."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            check_at_least(name, getattr(self, name), 1, "1 is the least that works")
        self.plan(1)

    def plan(self, steps: int) -> Plan:
        """How to descend in `steps` steps."""
        return Plan(
            steps, self.learning_rate, self.warmup, self.schedule, self.weight_decay, self.clip
        )

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train a copy of the base on the column `text`; the base stays as it is."""
        FAMILY.check(split)
        base = self.opened(run)
        model = deepcopy(base.model.model).float().to(run.device)
        lm = LanguageModel(model, base.model.tokenizer)
        examples = FAMILY.examples(lm, split)
        check_not_empty(examples, split.name)
        epochs = Epochs(examples, self.batch_size, run)
        plan = self.plan(self.epochs * epochs.per_epoch)
        key = key_of(self, run.seed, split.fingerprint, base.fingerprint)
        training = Training(model, plan, run, key, epochs.per_epoch)
        for _ in training.steps(lambda step: batch_loss(examples, epochs.rows(step))):
            pass
        model.to(base.model.model.dtype)
        return Draft(self.family, lm, tuple(training.trace))

    def opened(self, run: Run) -> Target:
        """The base, which must be a causal language model."""
        if not self.base:
            raise EngramError(
                "finetune-lm was given no base model",
                hint="name one with --base (a folder, or a name such as gpt2); pretrain-lm "
                "starts from nothing",
            )
        base = run.target(self.base)
        if base.family != self.family:
            raise EngramError(
                f"the base {self.base!r} is a {base.family}, but must be a {self.family}",
                hint="train-classifier and fit-estimator need no base",
            )
        base.require("weights", "finetune-lm")
        return base
