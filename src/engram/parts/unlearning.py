"""What unlearners share: a copy of the model, batches of both sides, stop rules, a way back.

An unlearner is then little more than its loss. Forgotten and kept records are batched each on
its own; every record weighs the same whatever its length. A record is pushed only as long as its
mean loss is below `stop`, best the loss of records that the model never saw, since a record that
is less likely than those stands out by that. A model that has become worse than a blind guess on
what it was to keep is beyond repair: the run stops, and the last sound weights are put back.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram.core import DivergedError, Draft, EngramError, Run, Split, Target, check_disjoint
from engram.parts.predictions import Predictions
from engram.parts.response_examples import ResponseExamples, has_prompts
from engram.parts.training import (
    Epochs,
    Examples,
    Plan,
    Training,
    check_at_least,
    check_not_empty,
    key_of,
)

LOOKS = 10
"""How often in a run its soundness is checked."""
FINE_LOOKS = 40
"""The same, where the run ends once too much of what is kept was lost."""
SAMPLE = 64
"""The most kept records that are read to check it."""
RecordLoss = Callable[[np.ndarray, Predictions], Tensor]
"""From rows of a batch, and what the model says of them, to a loss for each; differentiable."""


def check_unlearner(method: Any) -> None:
    """Refuse fields that every unlearner has, where they are out of range.

    Args:
        method: With `steps` and `learning_rate`, and some of `forget_batch`, `keep_batch`,
            `keep_weight` and `stop_at`.
    """
    for name in ("steps", "forget_batch", "keep_batch"):
        check_at_least(name, getattr(method, name, 1), 1, "1 is the least that works")
    check_at_least("keep_weight", getattr(method, "keep_weight", 0), 0, "0 leaves that side out")
    check_stop(getattr(method, "stop_at", None))
    Plan(method.steps, method.learning_rate)


def check_stop(stop: float | int | None) -> None:
    """Refuse a loss to stop at that is not above 0, or not finite."""
    if stop is not None and not (stop > 0 and math.isfinite(stop)):
        raise EngramError(
            f"stop_at is {stop}, but must be above 0",
            hint="give the mean loss of records that the model never saw, in nats per prediction",
        )


def check_layer_number(layer: int | None) -> None:
    """Refuse a negative number of a block."""
    check_at_least("layer", 0 if layer is None else layer, 0, "0 is the first block")


def check_above(name: str, value: float | int, least: float | int, hint: str) -> None:
    """Refuse a field that is not above `least`, or not finite."""
    if not (value > least and math.isfinite(value)):
        raise EngramError(f"{name} is {value}, but must be above {least:g}", hint=hint)


def check_forget(name: str, keep: Split, forget: Split | None) -> Split:
    """The records to forget; an error where there are none, or some are to be kept too."""
    if forget is None or not len(forget):
        raise EngramError(
            f"{name} was given no records to forget",
            hint="name them with --records, --ids or --owner",
        )
    check_disjoint(forget, keep)
    return forget


def examples_of(family: Any, model: Any, split: Split) -> Any:
    """The records as training sees them; where they have prompts, only responses are predicted."""
    if hasattr(model, "tokenizer") and has_prompts(split):
        return ResponseExamples.of(model.model, model.tokenizer, split, model.context, end=True)
    return family.examples(model, split)


def mean_loss(target: Target, family: Any, split: Split, run: Run) -> float:
    """Mean loss of records as an unlearner sees them; of prompts with responses, the responses'.

    Asked once and then stored. Records of which nothing is asked are left out.

    Args:
        target: The model.
        family: Its family.
        split: Records, at least one.
        run: Stores the losses.

    Raises:
        EngramError: There is nothing that the model could be asked about.
    """

    def work() -> Float[np.ndarray, " n"]:
        examples = examples_of(family, target.model, split)
        check_not_empty(examples, split.name)
        total, pieces = np.zeros(len(split)), np.zeros(len(split))
        record = getattr(examples, "record", np.arange(len(split)))
        np.add.at(total, record, losses(examples, np.arange(len(examples.counts))))
        np.add.at(pieces, record, 1)
        with np.errstate(invalid="ignore"):
            return np.where(pieces > 0, total / pieces, np.nan)

    return float(np.nanmean(run.computed("unlearning-loss", target, split, {"version": 1}, work)))


def paired(one: Any, other: Any) -> tuple[Any, Any]:
    """The first piece of each record that both have: piece i of the one belongs to the other's."""
    firsts = [
        dict(zip(*np.unique(each.record, return_index=True), strict=True)) for each in (one, other)
    ]
    both = sorted(firsts[0].keys() & firsts[1].keys())
    if not both:
        raise EngramError(
            "no record has a response that fits into the model's context beside its prompt",
            hint="give shorter prompts",
        )
    places = [np.array([first[record] for record in both], np.int64) for first in firsts]
    return one.take(places[0]), other.take(places[1])


def mean_nll(rows: np.ndarray, said: Predictions) -> Float[Tensor, " rows"]:
    """Mean negative log-likelihood of each record: what is descended on kept records."""
    return said.nll


@dataclass(frozen=True, eq=False)
class Side:
    """Further records that are descended on, beside those to forget and to keep.

    Attributes:
        name: Of the random stream that orders them.
        examples: The records, beside the model that is changed.
        loss: Of each record.
        weight: Of their mean.
        batch: Records in a step.
    """

    name: str
    examples: Any
    loss: RecordLoss
    weight: float
    batch: int


@dataclass(frozen=True, eq=False)
class Unlearning:
    """An unlearning at work.

    Attributes:
        method: The edit; its fields `steps`, `learning_rate`, `forget_batch`, ... are read.
        target: The model that was given; it stays as it is.
        model: A copy of it in float32, which is changed.
        forget: The records to forget, beside that copy.
        keep: The records to keep, beside that copy.
        run: Seed, device, scratch folder.
        key: What decides the outcome.
    """

    method: Any
    target: Target
    model: Any
    forget: Any
    keep: Any
    run: Run
    key: str

    @classmethod
    def begin(
        cls,
        method: Any,
        name: str,
        target: Target,
        keep: Split,
        forget: Split | None,
        run: Run,
        family: Any,
    ) -> "Unlearning":
        """Copy the model and make the records ready.

        Args:
            method: The edit.
            name: What it is called.
            target: The model to change.
            keep: Records to keep.
            forget: Records to forget.
            run: Seed, device, scratch folder.
            family: The target's: it makes examples of records.
        """
        forget = check_forget(name, keep, forget)
        model = deepcopy(target.model)
        model.model.float().to(run.device)
        climb, descend = (examples_of(family, model, side) for side in (forget, keep))
        check_not_empty(climb, forget.name)
        check_not_empty(descend, keep.name)
        key = key_of(method, run.seed, target.fingerprint, keep.fingerprint, forget.fingerprint)
        return cls(method, target, model, climb, descend, run, key)

    @property
    def module(self) -> nn.Module:
        """The network that is changed."""
        return self.model.model

    @property
    def stop(self) -> float:
        """Mean loss at which a record counts as forgotten; by default that of a blind guess."""
        given = getattr(self.method, "stop_at", None)
        return math.log(self.forget.answers) if given is None else given

    def reference(self) -> nn.Module:
        """The network as it is now, frozen."""
        return deepcopy(self.module).eval().requires_grad_(False)

    def descend(
        self,
        forgetting: RecordLoss,
        *,
        examples: Any = None,
        keeping: RecordLoss = mean_nll,
        weight: float = 1.0,
        keep_weight: float = 0.0,
        gated: bool = True,
        plan: Plan | None = None,
        until: Callable[[int], bool] | None = None,
        beside: Sequence[Side] = (),
        kept_limit: float = math.inf,
    ) -> Draft:
        """Descend on `weight * forgetting + keep_weight * keeping`, both means over records.

        Args:
            forgetting: Loss of each record to forget.
            examples: What `forgetting` is asked about; by default the records to forget.
            keeping: Loss of each record to keep.
            weight: Of the forgotten.
            keep_weight: Of the kept; 0 asks nothing about them.
            gated: Whether a record is left alone once its mean loss has reached `stop`.
            plan: How to descend; by default by the method's `steps` and `learning_rate`.
            until: Asked after every step, by its number, whether it was the last.
            beside: More records that are descended on.
            kept_limit: Mean loss on kept records above which the run ends, with the weights of
                the last look that found it below.

        Raises:
            DivergedError: The model became worse than a blind guess on kept records (or its loss
                not finite) before what is to be forgotten was forgotten.
        """
        asked = self.forget if examples is None else examples
        plan = plan or Plan(self.method.steps, self.method.learning_rate)
        forget = Epochs(asked, getattr(self.method, "forget_batch", 8), self.run, "forget")
        keep = Epochs(self.keep, getattr(self.method, "keep_batch", 16), self.run, "keep")
        more = [(s, Epochs(s.examples, s.batch, self.run, s.name)) for s in beside if s.weight]

        def loss(step: int) -> Iterator[Float[Tensor, ""]]:
            stop = self.stop if gated else math.inf
            yield from record_parts(asked, forget.rows(step), forgetting, weight, stop)
            if keep_weight:
                yield from record_parts(self.keep, keep.rows(step), keeping, keep_weight)
            for side, rows in more:
                yield from record_parts(side.examples, rows.rows(step), side.loss, side.weight)

        # A loss that is raised by dropout would look forgotten before it is.
        training = Training(self.module, plan, self.run, self.key, dropout=False)
        watch = Watch(self, training, kept_limit)
        only_forgets = gated and not keep_weight and not more
        try:
            for step in training.steps(loss):
                if watch.look(step.number):
                    break
                done = (step.number + 1) % forget.per_epoch == 0
                if only_forgets and done and watch.forgotten():
                    break
                if until is not None and until(step.number):
                    break
        except DivergedError as problem:
            watch.restore(problem)
        return self.draft(training)

    def draft(self, training: Training | None = None) -> Draft:
        """The changed model, in the number type of the one that was given."""
        self.module.eval().to(next(self.target.model.model.parameters()).dtype)
        self.module.requires_grad_(True)
        return Draft(self.target.family, self.model, tuple(training.trace) if training else ())


class Watch:
    """Looks at an unlearning now and then, and keeps the last sound weights."""

    def __init__(self, work: Unlearning, training: Training, limit: float = math.inf) -> None:
        self.work, self.training, self.limit = work, training, limit
        looks = LOOKS if math.isinf(limit) else FINE_LOOKS
        self.every = max(1, training.plan.steps // looks)
        n = len(work.keep.counts)
        self.sample = np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).astype(int))
        # A model may be worse than a blind guess from the beginning.
        self.most = max(math.log(work.keep.answers), 2 * self._kept())
        self.sound = (0, _copied(work.module))

    def _kept(self) -> float:
        return float(losses(self.work.keep, self.sample).mean())

    def look(self, step: int) -> bool:
        """Keep the weights if they are sound, every few steps.

        Returns:
            Whether to end here: too much of what is kept was lost, and the weights of the last
            look are put back.

        Raises:
            DivergedError: They are not.
        """
        if (step + 1) % self.every:
            return False
        kept = self._kept()
        if not kept <= self.most:  # or it is no number
            rate = self.training.plan.learning_rate
            raise DivergedError(
                f"unlearning diverged: after step {step + 1} of {self.training.plan.steps} the "
                f"loss on kept records is {kept:.3g} nats per prediction, and {self.most:.3g} is "
                "no better than a blind guess",
                hint=f"lower --learning-rate, to {rate / 3:.2g} say, or --steps, or raise "
                "--keep-weight where there is one",
                step=step,
            )
        if kept > self.limit:
            number, weights = self.sound
            self.work.module.load_state_dict(weights)
            self.work.run.log(kept_loss=kept, kept_limit=self.limit, restored_step=number)
            return True
        self.sound = (step + 1, _copied(self.work.module))
        return False

    def forgotten(self) -> bool:
        """Whether the mean loss of what is to be forgotten has reached `stop`."""
        every = np.arange(len(self.work.forget.counts))
        return bool(losses(self.work.forget, every).mean() >= self.work.stop)

    def restore(self, problem: DivergedError) -> None:
        """Put the last sound weights back; raise `problem` unless they have already forgotten."""
        number, weights = self.sound
        self.work.module.load_state_dict(weights)
        self.work.module.eval()
        if number == 0 or not self.forgotten():
            raise DivergedError(
                f"{problem}; the target is as it was, and the last sound weights (step {number}) "
                "had not forgotten",
                hint=problem.hint,
                step=problem.step,
            ) from problem
        self.work.run.log(diverged=str(problem), restored_step=number)
        trace = self.training.trace
        trace[:] = [entry for entry in trace if entry["step"] < number]


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def record_parts(
    examples: Any,
    rows: np.ndarray,
    loss: RecordLoss,
    weight: float,
    stop: float = math.inf,
) -> Iterator[Float[Tensor, ""]]:
    """`weight` times the mean over records of `loss`, as parts that each fit into memory.

    Records whose mean negative log-likelihood is `stop` or more count as 0.
    """
    for chunk in examples.chunks(rows):
        said = examples.predictions(chunk)
        below = (said.nll.detach() < stop).float()
        yield weight * (loss(chunk, said) * below).sum() / len(rows)


def losses(examples: Any, rows: np.ndarray, batch: int = 32) -> Float[np.ndarray, " rows"]:
    """Mean negative log-likelihood of each example, without gradients, in nats."""
    return per_example(examples, rows, batch, lambda said: said.nll)


def logprobs(examples: Any, batch: int = 32) -> Float[Tensor, " n"]:
    """Log-probability of each whole example, without gradients: a reference, made once."""
    every = np.arange(len(examples.counts))
    return torch.from_numpy(per_example(examples, every, batch, lambda said: said.record_logprob))


def per_example(
    examples: Any, rows: np.ndarray, batch: int, what: Callable[[Predictions], Tensor]
) -> Float[np.ndarray, " rows"]:
    """A number for each example, by `what(predictions)` a row, without gradients."""
    module, found = examples.model, np.zeros(len(rows), np.float32)
    training = module.training
    module.eval()
    with torch.no_grad():
        for first in range(0, len(rows), batch):
            part = rows[first : first + batch]
            done = first
            for chunk in examples.chunks(part):
                found[done : done + len(chunk)] = what(examples.predictions(chunk)).cpu().numpy()
                done += len(chunk)
    module.train(training)
    return found


def record_losses(examples: Examples, rows: Int[np.ndarray, " rows"]) -> Float[Tensor, " rows"]:
    """Mean negative log-likelihood per prediction of each example, in nats; differentiable."""
    counts = torch.from_numpy(examples.counts[rows])
    parts = [examples.nll(chunk) for chunk in examples.chunks(rows)]
    return torch.cat(parts) / counts.to(parts[0].device)


def smallest_scale(
    loss: Callable[[float], float], most: float, stop: float, halvings: int = 12
) -> float:
    """The smallest scale in [0, most] at which `loss` reaches `stop`, by bisection; else `most`.

    Args:
        loss: The mean loss of what is to be forgotten at a scale; the more, the higher.
        most: The largest scale that may be used.
        stop: The loss to reach.
        halvings: How often the interval is halved.
    """
    if not loss(most) >= stop:
        return most
    low, high = 0.0, most
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (low, middle) if loss(middle) >= stop else (middle, high)
    return high
