"""Randomness has a name.

Every random step asks for the stream of its own purpose, so a new consumer never changes what
the old ones draw, and the same seed gives the same numbers on every machine.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_of(seed: int, *path: str | int) -> int:
    """A 128-bit seed for one purpose: `seed_of(0, "shadow", 3)`."""
    return int.from_bytes(sha256(repr((int(seed), *path)).encode()).digest()[:16], "big")


def stream(seed: int, *path: str | int) -> np.random.Generator:
    """An independent NumPy generator for one purpose: `stream(seed, "shadow", 3)`."""
    return np.random.default_rng(seed_of(seed, *path))


def torch_stream(seed: int, *path: str | int, device: str = "cpu") -> "torch.Generator":
    """The same for torch functions that take a generator."""
    import torch

    generator = torch.Generator(device=device)
    generator.manual_seed(seed_of(seed, *path) % 2**63)
    return generator


@contextmanager
def torch_seeded(seed: int, *path: str | int) -> Iterator[None]:
    """Give code that only knows torch's global generator (initialisers, dropout) a named stream.

    The state of the global generator is put back afterwards.
    """
    import torch

    number = seed_of(seed, *path) % 2**63
    if not torch.cuda.is_available():  # every step of a training comes here: the short way
        state = torch.default_generator.get_state()
        torch.default_generator.manual_seed(number)
        try:
            yield
        finally:
            torch.default_generator.set_state(state)
        return
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        torch.manual_seed(number)
        yield
