"""Threads that each read a batch of their own.

On a processor several batches at once, each on its share of the cores, beat one batch on all of
them: a worker's chunk of logits goes from the matrix product to the reduction inside the cache of
one core, and no two thread pools wait for each other.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch

MOST = 4
"""Workers. More would spend their time waiting for Python."""


@dataclass(frozen=True)
class Workers:
    """Some threads, and the cores that each may use."""

    count: int
    cores: int

    @classmethod
    def on(cls, device: torch.device, *, alone: bool = False) -> "Workers":
        """As many as suit the device; one where the model must be asked one batch at a time."""
        cores = torch.get_num_threads()
        count = 1 if alone or device.type != "cpu" else min(MOST, cores)
        return cls(count, max(1, cores // count))

    @contextmanager
    def pool(self) -> Iterator[ThreadPoolExecutor]:
        """The running threads; what has not begun when the block ends is called off."""
        before = torch.get_num_threads()
        pool = ThreadPoolExecutor(
            self.count, "signals", initializer=torch.set_num_threads, initargs=(self.cores,)
        )
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            # A thread's setting is its own, but also what threads that start later begin with.
            torch.set_num_threads(before)
