"""Gradient descent that can be killed at any moment and goes on where it stopped.

A step's batch, its learning rate and its dropout depend on the seed and on the number of the step
alone, never on what was drawn before. So weights, optimiser state and one number are all that a
checkpoint needs, and a run that was killed and started again ends in the very same weights.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from engram.core import DivergedError, EngramError, Run, nearest, torch_seeded
from engram.parts.processes import Processes

Schedule = Literal["constant", "linear", "cosine"]
SCHEDULES: tuple[Schedule, ...] = ("constant", "linear", "cosine")
FILE = "checkpoint.safetensors"
PAUSE = 1.0
"""Least seconds between two checkpoints."""
SHARE = 0.02
"""Largest share of the time that writing checkpoints may take."""
TRACED = 1000
"""About how many steps of a run its trace keeps."""


@dataclass(frozen=True)
class Step:
    """One step of training that was taken.

    Attributes:
        number: Counted from 0.
        loss: Of this step's batch, before the step; in nats.
        rate: The learning rate that was used.
    """

    number: int
    loss: float
    rate: float


@dataclass(frozen=True)
class Plan:
    """How to descend: what the fields of a recipe say about the optimiser.

    Attributes:
        steps: How many steps in all.
        learning_rate: The highest one.
        warmup: Share of the steps over which the rate rises from 0, in [0, 1).
        schedule: How it falls after that: "constant", "linear" or "cosine" (to 0).
        weight_decay: Decoupled weight decay of matrices; biases and norms have none.
        clip: Largest norm of the gradient; 0 does not clip.
        betas: Of AdamW.
    """

    steps: int
    learning_rate: float
    warmup: float = 0.0
    schedule: Schedule = "constant"
    weight_decay: float = 0.0
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise EngramError(
                f"learning_rate is {self.learning_rate}, but must be above 0",
                hint="5e-5 is usual for a published model, 1e-3 for a tiny one from scratch",
            )
        if not 0 <= self.warmup < 1:
            raise EngramError(
                f"warmup is {self.warmup}, but must be in [0, 1)",
                hint="it is a share of the steps: 0.1 warms up over the first tenth",
            )
        if self.schedule not in SCHEDULES:
            raise EngramError(
                f"schedule is {self.schedule!r}, but must be one of {', '.join(SCHEDULES)}",
                hint="cosine falls to 0 along half a wave",
            )
        for name in ("weight_decay", "clip"):
            check_at_least(name, getattr(self, name), 0, "0 switches it off")


@runtime_checkable
class Examples(Protocol):
    """Records made ready for one model: what training asks of a family."""

    @property
    def counts(self) -> Int[np.ndarray, " n"]:
        """How many predictions (tokens, or 1 for a label) each example is judged by."""
        ...

    @property
    def answers(self) -> int:
        """How many answers each prediction chooses between: the vocabulary, or the classes."""
        ...

    def nll(self, rows: Int[np.ndarray, " rows"]) -> Float[Tensor, " rows"]:
        """Negative log-likelihood of each example, summed over its predictions; differentiable."""
        ...

    def chunks(self, rows: Int[np.ndarray, " rows"]) -> Iterator[Int[np.ndarray, " _"]]:
        """A batch in parts that each fit into memory."""
        ...

    def order(self, batch_size: int, rng: np.random.Generator) -> list[Int[np.ndarray, " _"]]:
        """One epoch of batches: every example once, ceil(n / batch_size) batches."""
        ...


def check_at_least(name: str, value: float | int, least: float | int, hint: str) -> None:
    """Refuse a field that is below `least` or not finite."""
    if not (value >= least and math.isfinite(value)):
        raise EngramError(f"{name} is {value}, but must be at least {least:g}", hint=hint)


def check_one_of(name: str, value: str, known: Sequence[str]) -> None:
    """Refuse a field that is none of the known words."""
    if value not in known:
        raise EngramError(
            f"{name} is {value!r}, but must be one of {', '.join(known)}",
            hint=nearest(value, known, f"{known[0]} is usual"),
        )


def check_not_empty(examples: Examples, name: str) -> None:
    """Refuse to train on nothing."""
    if not len(examples.counts):
        raise EngramError(
            f"split {name!r} has no records to learn from",
            hint="give at least one record; a text must have at least two tokens",
        )


def key_of(method: Any, seed: int, *fingerprints: str) -> str:
    """What decides the outcome of a training, as text: configuration, seed, data and base."""
    name = type(method).__name__
    return json.dumps([name, asdict(method), seed, *fingerprints], sort_keys=True)


def fit(steps: Iterable[int], update: Callable[[int], Step]) -> Iterator[Step]:
    """Train one step at a time, handing control back after each.

    To stop early, stop iterating. To regularise, pass another `update`. There are no callbacks.
    """
    for number in steps:
        yield update(number)


def learning_rate(plan: Plan, step: int) -> float:
    """The learning rate of step number `step`, which counts from 0.

    Over the first w = floor(warmup * steps) steps it rises as (step + 1) / (w + 1); after that,
    with s = (step - w) / (steps - w), it is constant, falls as 1 - s, or as (1 + cos(pi s)) / 2.
    """
    warm = int(plan.warmup * plan.steps)
    if step < warm:
        return plan.learning_rate * (step + 1) / (warm + 1)
    share = (step - warm) / max(1, plan.steps - warm)
    fall = {"constant": 1.0, "linear": 1 - share, "cosine": (1 + math.cos(math.pi * share)) / 2}
    return plan.learning_rate * fall[plan.schedule]


def adamw(model: nn.Module, plan: Plan) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019) that decays matrices and spares biases and norms."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": plan.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=plan.learning_rate, betas=plan.betas, fused=True
    )


def batch_loss(examples: Examples, rows: Int[np.ndarray, " rows"]) -> Iterator[Float[Tensor, ""]]:
    """Mean loss over the predictions of a batch, as parts that add up to it.

    Every token weighs the same, and padding nothing. Parts are made one after another, so that
    each can be differentiated and let go before the next.
    """
    total = int(examples.counts[rows].sum())
    for chunk in examples.chunks(rows):
        yield examples.nll(chunk).sum() / total


class Epochs:
    """The batches of all epochs, by the number of the step.

    The order depends on the seed and the epoch alone, so that a run can start at any step.
    """

    def __init__(
        self, examples: Examples, batch_size: int, run: Run, purpose: str = "batches"
    ) -> None:
        check_at_least("batch_size", batch_size, 1, "8 or 16 suit a small model")
        self.examples, self.batch_size = examples, batch_size
        self.run, self.purpose = run, purpose
        self.per_epoch = math.ceil(len(examples.counts) / batch_size)
        self._epoch, self._batches = -1, []

    def rows(self, step: int) -> Int[np.ndarray, " _"]:
        """The examples of step number `step`."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            rng = self.run.stream(self.purpose, epoch)
            self._epoch, self._batches = epoch, self.examples.order(self.batch_size, rng)
        return self._batches[place]


def shuffled_batches(
    sizes: Int[np.ndarray, " n"], batch_size: int, rng: np.random.Generator, pool: int = 16
) -> list[Int[np.ndarray, " _"]]:
    """Every example once, in batches of similar size, in random order.

    Examples are shuffled, sorted by size inside pools of `pool` batches so that little is padded,
    cut into batches, and the batches shuffled.
    """
    rows = rng.permutation(len(sizes))
    width = pool * batch_size
    pools = [rows[i : i + width] for i in range(0, len(rows), width)]
    ordered = [p[np.argsort(sizes[p], kind="stable")] for p in pools]
    rows = np.concatenate(ordered) if ordered else rows
    batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


@dataclass
class Training:
    """Training that leaves checkpoints in `run.scratch` and resumes from them.

    Attributes:
        model: What is trained, in place.
        plan: How.
        run: Seed, scratch folder, log and progress.
        key: What decides the outcome; a checkpoint with another key is not resumed.
        per_epoch: Steps in an epoch, for the trace.
        trace: `step`, `epoch`, `loss` and `lr` of about `TRACED` steps, of killed runs too.
        file: Name of the checkpoint, where one method trains more than once.
        dropout: Whether layers drop out as the model was made to; without it, losses are those
            that the model has when it is asked.
        autocast: Short number type of the forward pass; None: as the weights are.
        processes: Those that train together; the loss of each is its share of the whole.
    """

    model: nn.Module
    plan: Plan
    run: Run
    key: str
    per_epoch: int = 1
    trace: list[dict[str, float | int]] = field(default_factory=list)
    file: str = FILE
    dropout: bool = True
    autocast: torch.dtype | None = None
    processes: Processes = field(default_factory=Processes)
    _resumed: tuple[int, torch.optim.AdamW, "Checkpoint"] | None = None

    def resume(self) -> int:
        """Put back what a killed run had saved. Returns how many steps it had taken."""
        if self._resumed is None:
            optimiser = adamw(self.model, self.plan)
            checkpoint = Checkpoint(self.run.scratch / self.file, self.key)
            first, self.trace = checkpoint.restore(self.model, optimiser)
            self._resumed = first, optimiser, checkpoint
        return self._resumed[0]

    def restore(self) -> int:
        """Put back the last checkpoint's weights. Returns its step; 0 where there is none."""
        self.resume()
        _, optimiser, checkpoint = self._resumed  # type: ignore[misc]
        return checkpoint.restore(self.model, optimiser)[0]

    def steps(self, loss: Callable[[int], Iterable[Float[Tensor, ""]]]) -> Iterator[Step]:
        """Take the steps that are still to be taken, one at a time.

        Weights are saved only once the next step has found their loss and gradient finite, so
        what is saved is good; and only after whoever iterates has asked for that step, so a
        decision to stop is made again after a crash, on the same weights.

        Args:
            loss: The loss of step number `n`, as parts that add up to it.

        Raises:
            DivergedError: The loss or its gradient is no longer finite.
        """
        self.resume()
        first, optimiser, _ = self._resumed  # type: ignore[misc]
        self.run.progress(first, self.plan.steps, "training")

        def update(number: int) -> Step:
            return self._update(number, optimiser, loss)

        try:
            for step in fit(range(first, self.plan.steps), update):
                self._record(step)
                yield step
        finally:
            self.model.eval()

    def _update(
        self,
        number: int,
        optimiser: torch.optim.AdamW,
        loss: Callable[[int], Iterable[Float[Tensor, ""]]],
    ) -> Step:
        rate = learning_rate(self.plan, number)
        for group in optimiser.param_groups:
            group["lr"] = rate
        if self.model.training is not self.dropout:  # it walks through all modules
            self.model.train(self.dropout)
        optimiser.zero_grad(set_to_none=True)
        value = 0.0
        place = (self.processes.number,) if self.processes.number else ()
        with torch_seeded(self.run.seed, "dropout", number, *place):
            for part in self._parts(lambda: loss(number)):
                part.backward()
                value += float(part.detach())
        value = self._add_up(value)
        norm = clipped(self.model.parameters(), self.plan.clip)
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise DivergedError(
                f"training diverged: at step {number + 1} of {self.plan.steps} the loss is "
                f"{value:g} and its gradient's norm {norm:g} (learning rate {rate:g})",
                hint=f"lower --learning-rate, to {self.plan.learning_rate / 10:g} say",
                step=number,
            )
        if number and self.processes.is_first:
            _, _, checkpoint = self._resumed  # type: ignore[misc]
            checkpoint.save_if_due(number, self.model, optimiser, self.trace)
        optimiser.step()
        return Step(number, value, rate)

    def _add_up(self, value: float) -> float:
        """Make loss and gradient those of the whole batch, where it was shared out."""
        if self.processes.count == 1:
            return value
        trained = [p for p in self.model.parameters() if p.requires_grad]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        total = torch.tensor(value, device=trained[0].device)
        self.processes.add_up([total, *(p.grad for p in trained if p.grad is not None)])
        return float(total)

    def _parts(self, parts: Callable[[], Iterable[Float[Tensor, ""]]]) -> Iterator[Tensor]:
        """One part after another, each made in the short number type if there is one."""
        if self.autocast is None:
            yield from parts()
            return
        kind = next(self.model.parameters()).device.type
        with torch.autocast(kind, self.autocast):
            made = iter(parts())
        while True:
            with torch.autocast(kind, self.autocast):
                part = next(made, None)
            if part is None:
                return
            yield part

    def _record(self, step: Step) -> None:
        total = self.plan.steps
        if step.number % math.ceil(total / TRACED) == 0 or step.number == total - 1:
            epoch = (step.number + 1) / self.per_epoch
            entry = {"step": step.number, "epoch": epoch, "loss": step.loss, "lr": step.rate}
            self.trace.append(entry)
            if self.processes.is_first:
                self.run.log(**entry)
        self.run.progress(step.number + 1, total, "training")


def clipped(parameters: Iterable[nn.Parameter], limit: float) -> float:
    """The norm of the gradient, which is then at most `limit`; 0 leaves the gradient as it is."""
    if limit:
        return float(nn.utils.clip_grad_norm_(parameters, limit))
    return float(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))


class Checkpoint:
    """Weights, optimiser state and trace in one file, which is always whole."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self._saved, self._cost = time.monotonic(), 0.0

    def save_if_due(
        self, done: int, model: nn.Module, optimiser: torch.optim.Optimizer, trace: list[Any]
    ) -> None:
        """Save, unless that was done a moment ago or would take more than `SHARE` of the time."""
        if time.monotonic() - self._saved >= max(PAUSE, self._cost / SHARE):
            begun = time.monotonic()
            self.save(done, model, optimiser, trace)
            self._saved = time.monotonic()
            self._cost = self._saved - begun

    def save(
        self, done: int, model: nn.Module, optimiser: torch.optim.Optimizer, trace: list[Any]
    ) -> None:
        """Write a new file beside the old one, make it durable, and put it in its place."""
        tensors = {
            f"model/{name}": t.detach().contiguous() for name, t in model_state(model).items()
        }
        for row, state in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{row}/{name}": t.contiguous() for name, t in state.items()}
        facts = {"key": self.key, "done": str(done), "trace": json.dumps(trace)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        try:
            save_file(tensors, part, metadata=facts)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)
        _sync_folder(self.path.parent)

    def restore(
        self, model: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[int, list[dict[str, float | int]]]:
        """Put the saved state back. Returns how many steps were done, and their trace.

        A file of other inputs, or one that something else has damaged, is passed over.
        """
        if not self.path.is_file():
            return 0, []
        try:
            with safe_open(self.path, "pt") as file:
                facts = file.metadata() or {}
                if facts.get("key") != self.key:
                    return 0, []
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError):
            return 0, []
        own = model_state(model)
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(tensors[f"model/{name}"])
        saved = optimiser.state_dict()
        saved["state"] = _optimiser_state(tensors)
        optimiser.load_state_dict(saved)
        return int(facts["done"]), json.loads(facts["trace"])


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor of a model once, tied ones under one name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _optimiser_state(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser/"):
            _, row, entry = name.split("/")
            state.setdefault(int(row), {})[entry] = tensor
    return state


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the system lets a folder be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
