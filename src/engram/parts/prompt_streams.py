"""Random streams for prompts: what is written after one does not depend on the others."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from engram.core import EngramError, seed_of


def prompt_seeds(
    prompts: Sequence[str], limits: Sequence[int], rng: np.random.Generator
) -> list[int]:
    """One 128-bit seed a prompt: from prompt, limit, and how often these two stood before.

    One number is drawn from `rng`, so that the same prompts have other seeds in the next call.
    """
    root, seen, seeds = int(rng.integers(2**63)), Counter[tuple[str, int]](), []
    for asked in zip(prompts, limits, strict=True):
        seeds.append(seed_of(root, "prompt", *asked, seen[asked]))
        seen[asked] += 1
    return seeds


def limits(tokens: Sequence[int] | int, prompts: int) -> list[int]:
    """The most tokens to write after each prompt, from one number or one a prompt.

    Raises:
        EngramError: There are more or fewer numbers than prompts, or one is negative.
    """
    found = [int(tokens)] * prompts if np.ndim(tokens) == 0 else [int(n) for n in tokens]
    if len(found) != prompts:
        raise EngramError(
            f"{len(found)} numbers of tokens are given for {prompts} prompts",
            hint="give one number for all, or one for each",
        )
    if found and min(found) < 0:
        raise EngramError(
            f"{min(found)} tokens cannot be written", hint="0 writes nothing; 50 is usual"
        )
    return found
