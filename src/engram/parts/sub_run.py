"""A run inside a run: the same place, device and store, with a seed of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engram.core import Run, Sampler, Shadows, Split, Target, TokenSignals, seed_of, stream


@dataclass(frozen=True)
class SubRun:
    """A run with another root of the random streams; all else is asked of the run around it.

    Attributes:
        run: The run that it is part of.
        seed: Root of the random streams.
    """

    run: Run
    seed: int

    @classmethod
    def of(cls, run: Run, *path: str | int, seed: int | None = None) -> "SubRun":
        """The part of `run` for this purpose; with `seed`, as if the run had that one."""
        root = run.seed if seed is None else seed
        return cls(run, seed_of(root, *path) % 2**63)

    @property
    def device(self) -> str:
        """Where to compute."""
        return self.run.device

    @property
    def scratch(self) -> Path:
        """The folder of checkpoints."""
        return self.run.scratch

    def stream(self, *path: str | int) -> np.random.Generator:
        """The random stream of one purpose."""
        return stream(self.seed, *path)

    def tokens(self, target: Target, split: Split) -> TokenSignals:
        """As the run around it."""
        return self.run.tokens(target, split)

    def losses(self, target: Target, split: Split) -> np.ndarray:
        """As the run around it."""
        return self.run.losses(target, split)

    def logits(self, target: Target, split: Split) -> np.ndarray:
        """As the run around it."""
        return self.run.logits(target, split)

    def computed(
        self,
        name: str,
        target: Target,
        split: Split,
        settings: Mapping[str, Any],
        work: Callable[[], np.ndarray],
    ) -> np.ndarray:
        """As the run around it."""
        return self.run.computed(name, target, split, settings, work)

    def fit(self, recipe: Any, split: Split, *path: str | int) -> Target:
        """As the run around it, and with its seed."""
        return self.run.fit(recipe, split, *path)

    def shadows(self, target: Target, split: Split, count: int, share: float = 0.5) -> Shadows:
        """As the run around it, and with its seed."""
        return self.run.shadows(target, split, count, share)

    def retrained(self, target: Target, splits: Sequence[Split], name: str) -> Sequence[Target]:
        """As the run around it, and with its seed."""
        return self.run.retrained(target, splits, name)

    def sampler(self, target: Target, temperature: float = 1.0) -> Sampler:
        """As the run around it."""
        return self.run.sampler(target, temperature)

    def records(self, where: str, target: Target | None = None) -> Split:
        """As the run around it."""
        return self.run.records(where, target)

    def target(self, where: str) -> Target:
        """As the run around it."""
        return self.run.target(where)

    def log(self, **entry: float | int | str) -> None:
        """Add one line to the log of the whole run."""
        self.run.log(**entry)

    def progress(self, done: int, total: int, what: str) -> None:
        """Tell whoever watches."""
        self.run.progress(done, total, what)
