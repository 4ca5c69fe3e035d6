"""Where fan-out work is done: in this process, or wherever an executor of another kind takes it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from engram.core import Split, Target

if TYPE_CHECKING:
    from engram.engine.run import EngineRun


@dataclass(frozen=True, eq=False)
class Fit:
    """A target to train on all of `split`, with this root of its random streams."""

    recipe: Any
    split: Split
    seed: int


@runtime_checkable
class Executor(Protocol):
    """Does independent pieces of work, in any order and anywhere."""

    def fit(self, jobs: Sequence[Fit], run: "EngineRun") -> None:
        """Train every target that is not in the run's store yet, into the store."""
        ...

    def tokens(self, target: Target, split: Split, run: "EngineRun") -> None:
        """Put token signals into the store, where sharing the work out is worth it."""
        ...


@dataclass(frozen=True)
class InProcess:
    """One piece after another, here."""

    def fit(self, jobs: Sequence[Fit], run: "EngineRun") -> None:
        """Train one after another; what is in the store is found there."""
        for number, job in enumerate(jobs):
            run.progress(number, len(jobs), "models to compare with")
            replace(run, seed=job.seed).fit(job.recipe, job.split)
        run.progress(len(jobs), len(jobs), "models to compare with")

    def tokens(self, target: Target, split: Split, run: "EngineRun") -> None:
        """Nothing: whoever asks for signals computes them."""
