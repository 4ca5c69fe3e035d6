"""How every recipe tunes a causal language model: one engine, from the base to the draft.

A recipe is a `Tuning` with fields of its own and, where it changes what is descended, an
`Objective`. Everything else is here: the base is copied, records are made ready, training can be
killed at any moment, and a `Monitor` may look on and stop it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram.core import DivergedError, Draft, EngramError, Owner, Run, Split, Target, Validated
from engram.parts.adapters import save_language_model
from engram.parts.language_model import LanguageModel
from engram.parts.memorisation_monitor import MemorisationMonitor, check_validation
from engram.parts.observation import Monitor, Observer
from engram.parts.passages import Passages
from engram.parts.processes import Processes, joined
from engram.parts.response_examples import ResponseExamples
from engram.parts.stopping import Stop
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
    check_one_of,
    key_of,
)
from engram.parts.tuned_weights import METHODS, Method, Part, copied_for, in_place, thawed
from engram.parts.watch import Watch

Precision = Literal["float32", "bf16", "auto"]
LAST_GOOD = "last-good"
SHOWN = 5
"""Records that an error names."""
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16", "auto")

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
    many_processes: ClassVar[bool] = True
    """Whether several processes may train together (`accelerate launch`)."""

    base: str = ""
    """The model to start from: a target of ours, a model folder, or a published model's name."""
    method: Method = "full"
    """What is trained: full (all weights), head (the output head alone, untied from the input),
    block (one block alone), or what is put into the frozen base: adapter (bottlenecks), lora,
    prefix, prompt (virtual tokens). Those last four are saved without the base."""
    block: int = -1
    """Which block method block trains: 0 is the first, -1 the last."""
    reduction: int = 16
    """Method adapter: width of the model over that of a bottleneck; 16 is small, 2 large."""
    rank: int = 8
    """Method lora: rank of the changes."""
    alpha: float = 16.0
    """Method lora: their scale, times the rank."""
    target_modules: tuple[str, ...] = ()
    """Method lora: names of the linear maps to change; none: what is usual for the model."""
    virtual_tokens: int = 20
    """Methods prefix and prompt: how many virtual tokens every text begins with."""
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
    dropout: float | None = None
    """Dropout while training, in [0, 1), everywhere that the model has it; None: as the base."""
    label_smoothing: float = 0.0
    """Share of the probability that the loss wants spread over all tokens alike, in [0, 1)."""
    precision: Precision = "auto"
    """Numbers of the forward pass: float32, bf16, or auto: bf16 on a GPU that has it, float32
    elsewhere. Weights and what the optimiser keeps are always float32."""
    response_only: bool = False
    """Learn the responses alone; what stands before them is read and not learnt."""
    prompt_column: str = "prompt"
    """Column of the prompts, for response_only."""
    response_column: str = "response"
    """Column of the responses, for response_only."""
    response_template: str = ""
    """Words that stand before the response in every text ("Answer:"), instead of the columns."""
    observe: bool = False
    """Watch memorisation, before the first step and after each epoch; stopping does anyway."""
    observe_every: int = 0
    """Steps between two observations; 0: once an epoch."""
    observe_prefix: int = 32
    """Tokens of a text that are given before it is continued; of short texts, half."""
    observe_suffix: int = 24
    """The most tokens that are written and compared."""
    observe_sample: int = 256
    """The most records of a side that are looked at."""
    observe_cost: float = 0.1
    """The largest share of the training's work that looking may take, counted in tokens."""
    stop: Stop = "none"
    """Which of the observed weights to keep: none (the last), perplexity (the best on validation
    records), ngram (the best that has not begun to copy), or threshold (stop when it begins)."""
    tau: float = 0.2
    """The most that the n-gram score may rise over the untrained model's before it is copying."""
    patience: int = 0
    """Stop after so many observations without a better one; 0 trains to the end."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            check_at_least(name, getattr(self, name), 1, "1 is the least that works")
        for name in ("rank", "reduction", "virtual_tokens"):
            check_at_least(name, getattr(self, name), 1, "1 is the least that works")
        check_at_least("observe_every", self.observe_every, 0, "0 observes once an epoch")
        for name in ("dropout", "label_smoothing"):
            if not 0 <= (getattr(self, name) or 0) < 1:
                raise EngramError(
                    f"{name} is {getattr(self, name)}, but must be in [0, 1)", hint="0.1 is usual"
                )
        check_one_of("method", self.method, METHODS)
        check_one_of("precision", self.precision, PRECISIONS)
        self.plan(1)
        self.watch()

    def plan(self, steps: int) -> Plan:
        """How to descend in `steps` steps."""
        return Plan(
            steps, self.learning_rate, self.warmup, self.schedule, self.weight_decay, self.clip
        )

    def watch(self) -> Watch:
        """How memorisation is watched, where it is."""
        return Watch(
            stop=self.stop,
            tau=self.tau,
            patience=self.patience,
            prefix=self.observe_prefix,
            suffix=self.observe_suffix,
            sample=self.observe_sample,
            cost=self.observe_cost,
        )

    def part(self) -> Part:
        """What is trained."""
        return Part(
            self.method,
            self.block,
            self.reduction,
            self.rank,
            self.alpha,
            self.target_modules,
            self.virtual_tokens,
        )

    def monitor(self, lm: LanguageModel, split: Split, run: Run) -> Monitor | None:
        """Who looks on: nobody, unless that is asked for or a stopping rule needs it."""
        if not self.observe and self.stop == "none":
            return None
        watch, aside = self.watch(), validation_of(run)
        check_validation(watch, 0 if aside is None else len(aside))
        members = examples_of(self, lm, split)
        beside = members if aside is None else examples_of(self, lm, aside)
        validation = Passages.of_examples(beside, watch.prefix)
        per_epoch = -(-len(members.record) // self.batch_size)
        every, steps = self.observe_every or per_epoch, self.epochs * per_epoch
        looks = 1 + -(-steps // every)  # before the first step, too
        return MemorisationMonitor.of(
            watch,
            lm,
            Passages.of_examples(members, watch.prefix),
            validation if aside is not None else validation.take([]),
            split.take(np.unique(members.record)),
            run.seed,
            self.epochs * len(members.tokens) // looks,
        )


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
    ready = prepare(recipe, split, run, asked=objective is not plain)
    lm, examples = ready.lm, ready.examples
    check_batch(recipe.batch_size, examples, split.name)
    epochs = Epochs(examples, recipe.batch_size, run)
    training = Training(
        lm.model,
        recipe.plan(recipe.epochs * epochs.per_epoch),
        run,
        ready.key,
        epochs.per_epoch,
        autocast=short_type(recipe.precision, run.device),
        processes=ready.processes,
    )
    loss = objective(lm, ready.base.model, examples, run)
    observer = Observer(recipe.monitor(lm, split, run), lm, training, recipe.observe_every)
    try:
        with dropout_of(lm.model, recipe.dropout):
            observer.train(lambda step: loss(lm, examples, epochs.rows(step)))
    except DivergedError as problem:
        records = split.take(np.unique(examples.record[epochs.rows(problem.step)])).ids
        raise told_more(problem, records, lm, training, ready.kind) from None
    return ready.draft(training.trace)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A copy of the base that is ready to be trained, with the records as it will see them.

    Attributes:
        base: What it was copied from. It stays as it is, unless nobody asks it anything: then its
            own memory may be trained in.
        lm: The copy, in float32.
        examples: The records, beside it; this process's share of them.
        key: What decides the outcome of the training.
        kind: The number type of the base.
        processes: Who trains along.
    """

    base: Target
    lm: LanguageModel
    examples: TokenExamples
    key: str
    kind: torch.dtype
    processes: Processes

    def draft(
        self,
        trace: Sequence[Mapping[str, float | int]],
        guarantee: Mapping[str, Any] = MappingProxyType({}),
    ) -> Draft:
        """What was trained, in the number type of the base."""
        self.lm.model.to(self.kind)
        thawed(self.lm)
        return Draft(self.base.family, self.lm, tuple(trace), guarantee=guarantee)


def prepare(recipe: Tuning, split: Split, run: Run, *, asked: bool) -> Prepared:
    """Open and copy the base, and make the records ready; the first half of `tune`.

    Args:
        recipe: Says which base, and what of it is trained.
        split: The records.
        run: Opens the base.
        asked: Whether the base will be asked something.
    """
    check_texts(split)
    # Nobody asks it anything: its own memory is trained in, instead of a copy's.
    alone = not asked and recipe.method == "full" and isinstance(run, Owner)
    base = opened(recipe, run, alone)
    kind = base.model.model.dtype
    where = str(base.folder.resolve()) if base.folder else recipe.base
    if alone:
        lm = in_place(base.model, run.device)
    else:
        lm = copied_for(recipe.part(), base.model, where, base.fingerprint, run.seed, run.device)
    processes = joined(run.device)
    share = (processes.number, processes.count)
    examples = replace(examples_of(recipe, lm, split), share=share)
    check_not_empty(examples, split.name)
    aside = validation_of(run)
    seen = (split, aside) if aside is not None else (split,)
    key = key_of(recipe, run.seed, *(s.fingerprint for s in seen), base.fingerprint)
    return Prepared(base, lm, examples, key, kind, processes)


def told_more(
    problem: DivergedError,
    records: Sequence[str],
    lm: LanguageModel,
    training: Training,
    kind: torch.dtype,
) -> DivergedError:
    """The same error with the records of its batch; the last good weights are kept as a model."""
    named = ", ".join(records[:SHOWN]) + (", ..." if len(records) > SHOWN else "")
    fact = f"{problem}; its batch holds {len(records)} records ({named})"
    folder, done = training.run.scratch / LAST_GOOD, training.restore()
    if not done:
        hint = f"{problem.hint}; no checkpoint was due yet, so begin from the base again"
        return DivergedError(fact, hint=hint, step=problem.step)
    if training.processes.is_first:
        lm.model.to(kind)
        save_language_model(lm, folder)
    hint = f"{problem.hint}; the weights after {done} steps are a model in {folder}, from which "
    return DivergedError(fact, hint=hint + "--base goes on", step=problem.step)


def check_batch(size: int, examples: Examples, name: str) -> None:
    """Refuse a batch that is larger than the data."""
    if size > len(examples.counts):
        raise EngramError(
            f"batch_size is {size}, but split {name!r} has {len(examples.counts)} records (or "
            "pieces of long ones) to train on",
            hint=f"--batch-size {len(examples.counts)} learns from all of them in every step",
        )


def validation_of(run: Run) -> Split | None:
    """Records that may be looked at while training, and not learnt from; None without any."""
    return run.validation if isinstance(run, Validated) else None


def opened(recipe: Tuning, run: Run, alone: bool = False) -> Target:
    """The recipe's base, which must be a causal language model with weights.

    With `alone` it is opened for this caller, who may change it in place.
    """
    name = _name(recipe)
    if not recipe.base:
        raise EngramError(
            f"{name} was given no base model",
            hint="name one with --base (a folder, or a name such as gpt2); pretrain-lm "
            "starts from nothing",
        )
    base = run.own(recipe.base) if alone and isinstance(run, Owner) else run.target(recipe.base)
    if base.family != recipe.family:
        raise EngramError(
            f"the base {recipe.base!r} is a {base.family}, but must be a {recipe.family}",
            hint="train-classifier and fit-estimator need no base",
        )
    base.require("weights", name)
    return base


def examples_of(recipe: Tuning, lm: LanguageModel, split: Split) -> TokenExamples:
    """The records as the recipe trains on them."""
    if recipe.response_only or recipe.response_template:
        examples = ResponseExamples.of(
            lm.model,
            lm.tokenizer,
            split,
            lm.context,
            prompt=recipe.prompt_column,
            response=recipe.response_column,
            template=recipe.response_template,
        )
    else:
        examples = TokenExamples.of(lm.model, lm.tokenizer, split, lm.context, end=True)
    return replace(examples, parts=recipe.accumulate, smoothing=recipe.label_smoothing)


def short_type(precision: Precision, device: str) -> torch.dtype | None:
    """The short number type of the forward pass; None: none.

    On a processor bfloat16 is emulated or slow, so "auto" keeps it for GPUs that multiply it.
    """
    on_gpu = device.startswith("cuda") and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and on_gpu) else None


@contextmanager
def dropout_of(model: nn.Module, share: float | None) -> Iterator[None]:
    """Set all dropout of a model; it is put back afterwards."""
    places = [
        (module, name, getattr(module, name))
        for module in model.modules()
        for name in (("p",) if isinstance(module, nn.Dropout) else ("attention_dropout",))
        if share is not None and isinstance(getattr(module, name, None), (float, int))
    ]
    for module, name, _ in places:
        setattr(module, name, share)
    try:
        yield
    finally:
        for module, name, before in places:
            setattr(module, name, before)


def _name(recipe: Any) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(recipe).__name__).lower()
