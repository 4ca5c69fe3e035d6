"""A run inside a run: the same place and device, with a seed of its own."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engram.core import Run, seed_of, stream


@dataclass(frozen=True)
class SubRun:
    """What training asks of a run, with another root of the random streams.

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

    def log(self, **entry: float | int | str) -> None:
        """Add one line to the log of the whole run."""
        self.run.log(**entry)

    def progress(self, done: int, total: int, what: str) -> None:
        """Tell whoever watches."""
        self.run.progress(done, total, what)
