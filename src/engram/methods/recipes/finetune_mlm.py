"""Go on training a masked language model on the given records.

The usual way to teach a published encoder the language of a field, clinical notes for instance,
before it is put to work there; and a way for private notes to get into it: it learns to fill the
gaps of exactly these texts. Training goes on as it began, on other data:

    L(theta) = - (1 / N) sum over records x, chosen tokens t of  log p_theta(x_t | x, masked)

with theta_0 = base. 15 % of the tokens are chosen, anew at every step; of these 80 % are hidden
behind the mask token, 10 % exchanged for a random token and 10 % left as they are.

Differs from the paper:
1. Each record is a sequence of its own; a long one is cut into windows of nearly equal length.
2. The paper goes on to fit a classifier; we stop at the language model.
3. Training is in float32 whatever the base was saved in; the result is saved as the base was.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

from engram.core import Draft, EngramError, Paper, Run, Split, Target
from engram.families.masked_lm import FAMILY, MaskedLanguageModel
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
class FinetuneMlm:
    """Full fine-tuning of a masked language model."""

    paper: ClassVar[Paper] = Paper(
        title="Don't Stop Pretraining: Adapt Language Models to Domains and Tasks",
        authors="Gururangan et al.",
        year=2020,
        url="https://arxiv.org/abs/2004.10964",
    )
    family: ClassVar[str] = "masked-lm"

    base: str = ""
    """The model to start from: a target of ours, a model folder, or a published model's name."""
    share: float = 0.15
    """Share of a text's tokens that are chosen at each step, in (0, 1]."""
    epochs: int = 3
    """Times that each record is seen."""
    batch_size: int = 16
    """Records (or windows of long ones) in a step."""
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
        if not 0 < self.share <= 1:
            raise EngramError(f"share is {self.share}, but must be in (0, 1]", hint="0.15 is usual")
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
        lm = MaskedLanguageModel(model, base.model.tokenizer)
        examples = FAMILY.examples(lm, split, share=self.share, seed=run.seed)
        check_not_empty(examples, split.name)
        epochs = Epochs(examples, self.batch_size, run)
        plan = self.plan(self.epochs * epochs.per_epoch)
        key = key_of(self, run.seed, split.fingerprint, base.fingerprint)
        training = Training(model, plan, run, key, epochs.per_epoch)
        for _ in training.steps(lambda step: batch_loss(examples.at(step), epochs.rows(step))):
            pass
        model.to(base.model.model.dtype)
        return Draft(self.family, lm, tuple(training.trace))

    def opened(self, run: Run) -> Target:
        """The base, which must be a masked language model."""
        if not self.base:
            raise EngramError(
                "finetune-mlm was given no base model",
                hint="name one with --base (a folder, or a name such as bert-base-uncased); "
                "pretrain-mlm starts from nothing",
            )
        base = run.target(self.base)
        if base.family != self.family:
            raise EngramError(
                f"the base {self.base!r} is a {base.family}, but must be a {self.family}",
                hint="finetune-lm trains causal language models",
            )
        base.require("weights", "finetune-mlm")
        return base
