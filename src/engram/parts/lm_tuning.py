"""How every recipe tunes a causal language model: one engine, from the base to the draft.

A recipe is a `Tuning` with fields of its own and, where it changes what is descended, an
`Objective`. Everything else is here: the base is copied, records are made ready, training can be
killed at any moment, and a `Monitor` may look on and stop it.
"""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from engram.core import Draft, EngramError, Run, Split, Target, Validated
from engram.parts.language_model import LanguageModel
from engram.parts.observation import Monitor, Observer
from engram.parts.text_records import check_texts
from engram.parts.token_examples import TokenExamples
from engram.parts.training import (
    Epochs,
    Examples,
    Plan,
    Schedule,
    Training,
    batch_loss,
    check_at_least,
    check_not_empty,
    key_of,
)

Objective = Callable[[LanguageModel, Examples, Int[np.ndarray, " rows"]], Iterator[Tensor]]
"""The loss of a batch, as parts that add up to it.

It asks the model about `examples.chunks(rows)`, one chunk after another, and divides by what the
whole batch holds (`examples.counts[rows]`), never by what a chunk holds. So it is right for any
number of micro-batches, and for batches that several processes share."""

MakeObjective = Callable[[LanguageModel, LanguageModel, Examples, Run], Objective]
"""Makes an objective of the model, its base, the examples and the run, before the first step."""


@dataclass(frozen=True)
class Tuning:
    """What all recipes that tune a causal language model share."""

    family: ClassVar[str] = "causal-lm"

    base: str = ""
    """The model to start from: a target of ours, a model folder, or a published model's name."""
    epochs: int = 3
    """Times that each record is seen."""
    batch_size: int = 8
    """Records (or pieces of long ones) in a step."""
    accumulate: int = 1
    """Micro-batches of a step: more take less memory, and give the same gradient."""
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
    observe_every: int = 0
    """Steps between two observations, where somebody looks on; 0: once an epoch."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            check_at_least(name, getattr(self, name), 1, "1 is the least that works")
        check_at_least("observe_every", self.observe_every, 0, "0 observes once an epoch")
        self.plan(1)

    def plan(self, steps: int) -> Plan:
        """How to descend in `steps` steps."""
        return Plan(
            steps, self.learning_rate, self.warmup, self.schedule, self.weight_decay, self.clip
        )

    def monitor(self, lm: LanguageModel, split: Split, run: Run) -> Monitor | None:
        """Who looks on; nobody, unless a recipe says so. Its settings must be fields."""
        return None


def plain(lm: LanguageModel, base: LanguageModel, examples: Examples, run: Run) -> Objective:
    """Mean negative log-likelihood of the predicted tokens of a batch."""

    def objective(
        lm: LanguageModel, examples: Examples, rows: Int[np.ndarray, " rows"]
    ) -> Iterator[Float[Tensor, ""]]:
        return batch_loss(examples, rows)

    return objective


def tune(recipe: Tuning, split: Split, run: Run, objective: MakeObjective = plain) -> Draft:
    """Train a copy of the recipe's base on the column `text`; the base stays as it is.

    Raises:
        EngramError: No base or an unfit one, nothing to learn from, a diverged training.
    """
    check_texts(split)
    base = opened(recipe, run)
    model = deepcopy(base.model.model).float().to(run.device)
    lm = replace(base.model, model=model)
    examples = examples_of(recipe, lm, split)
    check_not_empty(examples, split.name)
    epochs = Epochs(examples, recipe.batch_size, run)
    plan = recipe.plan(recipe.epochs * epochs.per_epoch)
    aside = validation_of(run)
    seen = (split, aside) if aside is not None else (split,)
    key = key_of(recipe, run.seed, *(s.fingerprint for s in seen), base.fingerprint)
    training = Training(model, plan, run, key, epochs.per_epoch)
    loss = objective(lm, base.model, examples, run)
    observer = Observer(recipe.monitor(lm, split, run), lm, training, recipe.observe_every)
    observer.train(lambda step: loss(lm, examples, epochs.rows(step)))
    model.to(base.model.model.dtype)
    return Draft(recipe.family, lm, tuple(training.trace))


def validation_of(run: Run) -> Split | None:
    """Records that may be looked at while training, and not learnt from; None without any."""
    return run.validation if isinstance(run, Validated) else None


def opened(recipe: Tuning, run: Run) -> Target:
    """The recipe's base, which must be a causal language model with weights."""
    name = _name(recipe)
    if not recipe.base:
        raise EngramError(
            f"{name} was given no base model",
            hint="name one with --base (a folder, or a name such as gpt2); pretrain-lm "
            "starts from nothing",
        )
    base = run.target(recipe.base)
    if base.family != recipe.family:
        raise EngramError(
            f"the base {recipe.base!r} is a {base.family}, but must be a {recipe.family}",
            hint="train-classifier and fit-estimator need no base",
        )
    base.require("weights", name)
    return base


def examples_of(recipe: Tuning, lm: LanguageModel, split: Split) -> TokenExamples:
    """The records as the recipe trains on them."""
    examples = TokenExamples.of(lm.model, lm.tokenizer, split, lm.context, end=True)
    return replace(examples, parts=recipe.accumulate)


def _name(recipe: Any) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(recipe).__name__).lower()
