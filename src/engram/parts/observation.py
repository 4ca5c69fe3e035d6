"""Somebody looks on while a model trains: notes numbers, stops it, and says which weights to keep.

Observations are part of the trace, and so of every checkpoint: after a crash those that are lost
are made again, on the same weights.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, no_grad

from engram.core import Run
from engram.parts.language_model import LanguageModel
from engram.parts.processes import Processes
from engram.parts.training import Plan, Step, model_state

BEST = "best.safetensors"


@runtime_checkable
class Monitor(Protocol):
    """Looks at a model while it trains. It must answer the same for the same weights."""

    def look(self, lm: LanguageModel, step: int, epoch: float) -> Mapping[str, float | int]:
        """Numbers about the model after `step` steps; before the first one `step` is 0."""
        ...

    def stop(self, trace: Sequence[Mapping[str, float | int]]) -> bool:
        """Whether to stop, given all observations so far, oldest first."""
        ...

    def best(self, trace: Sequence[Mapping[str, float | int]]) -> int | None:
        """The place in `trace` of the observation whose weights to keep; None keeps the last."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """What an observer asks of a training: `Training`, or one that keeps records private."""

    plan: Plan
    run: Run
    key: str
    trace: list[dict[str, float | int]]
    processes: Processes

    @property
    def per_epoch(self) -> int:
        """Steps in an epoch."""
        ...

    def resume(self) -> int:
        """Put back what a killed run had saved. Returns how many steps it had taken."""
        ...


def observations(trace: Sequence[Mapping[str, float | int]]) -> list[Mapping[str, float | int]]:
    """The entries of a training trace that are observations: steps have a rate, these have not."""
    return [entry for entry in trace if "lr" not in entry]


@dataclass
class Observer:
    """Takes the steps of a training, and lets a monitor look between them.

    Attributes:
        monitor: Who looks; None: nobody.
        lm: What is trained.
        training: How.
        every: Steps between two looks; 0: an epoch.
    """

    monitor: Monitor | None
    lm: LanguageModel
    training: Resumable
    every: int = 0

    def train(self, loss: Callable[[int], Iterable[Tensor]]) -> None:
        """Take all steps that are still to be taken, and leave the best weights in the model."""
        self.take(self.training.steps(loss))  # type: ignore[attr-defined]

    def take(self, steps: Iterator[Step]) -> None:
        """The same, of a training that makes its steps without a loss."""
        self.training.resume()
        if not self._watch(0):
            for step in steps:
                if self._watch(step.number + 1, step):
                    break
        self._take_best()

    def _watch(self, done: int, step: Step | None = None) -> bool:
        """Look, if it is time to. Returns whether to stop."""
        training = self.training
        every = self.every or training.per_epoch
        if self.monitor is None or (done % every and done != training.plan.steps):
            return False
        seen = observations(training.trace)
        if seen and seen[-1]["step"] >= done:  # before the crash
            return self.monitor.stop([e for e in seen if e["step"] <= done])
        self.lm.model.eval()
        epoch = done / training.per_epoch
        first = training.processes.is_first
        seen = dict(self.monitor.look(self.lm, done, epoch)) if first else {}
        entry = {"step": done, "epoch": epoch, **training.processes.told(seen)}
        training.trace.append(entry)
        if first:
            training.run.log(**entry)
        seen = observations(training.trace)
        if first and self.monitor.best(seen) == len(seen) - 1:
            self._keep(done)
        return self.monitor.stop(seen)

    def _keep(self, done: int) -> None:
        path = self.training.run.scratch / BEST
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        tensors = {n: t.detach().contiguous() for n, t in model_state(self.lm.model).items()}
        facts = {"key": self.training.key, "step": str(done)}
        try:
            save_file(tensors, part, metadata=facts)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _take_best(self) -> None:
        """Put the weights of the best observation into the model, unless they are the last."""
        seen = observations(self.training.trace)
        if self.monitor is None or not seen:
            return
        best = self.monitor.best(seen)
        if best is None or best == len(seen) - 1:
            return
        self.training.processes.wait()
        with safe_open(self.training.run.scratch / BEST, "pt") as file, no_grad():
            for name, tensor in model_state(self.lm.model).items():
                tensor.copy_(file.get_tensor(name))
