"""Texts made ready for a masked language model to be trained on, or asked about, with gradients.

Some tokens of each window are chosen; the model is to tell what they were. Of the chosen ones
most are hidden behind the mask token, some are exchanged for a random token, and some are left
as they are, so that the model cannot rely on the mask to know where it will be asked (Devlin et
al., 2019, section 3.1).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram.core import stream
from engram.parts.masking import Windows
from engram.parts.training import shuffled_batches

HIDDEN, EXCHANGED = 0.8, 0.1
"""Shares of the chosen tokens that are hidden, and that are exchanged; the others stay."""
LOGITS = 2**27
"""Most numbers in one batch of logits; larger batches go through the model in parts."""


@runtime_checkable
class Guesser(Protocol):
    """What training asks of a masked language model."""

    @property
    def mask(self) -> int:
        """The number of the mask token."""
        ...

    @property
    def ordinary(self) -> np.ndarray:
        """Numbers of all tokens that are not special."""
        ...

    @property
    def answers(self) -> int:
        """Tokens of the vocabulary, as the model counts them."""
        ...

    def guesses(self, rows: list[np.ndarray], row: np.ndarray, place: np.ndarray) -> Tensor:
        """Logits (asked, vocabulary) of the tokens at these places of these rows."""
        ...


@dataclass(frozen=True, eq=False)
class MaskedExamples:
    """Windows of texts beside the model that is to learn or forget them.

    Attributes:
        model: The masked language model.
        windows: All windows of all records.
        share: Of each window's tokens that are chosen, in (0, 1].
        seed: Root of the streams of the masks.
        path: Their name. `at(step)` gives every step masks of its own.
    """

    model: Guesser
    windows: Windows
    share: float
    seed: int
    path: tuple[str | int, ...] = ("training masks",)

    def at(self, step: int) -> "MaskedExamples":
        """The same windows under the masks of one step, which depend on seed and step alone."""
        return replace(self, path=("training masks", step))

    @cached_property
    def counts(self) -> Int[np.ndarray, " n"]:
        """Predicted tokens of each window: the nearest number to its share, at least one."""
        return np.maximum(1, np.rint(self.share * self.windows.maskable)).astype(np.int64)

    @property
    def answers(self) -> int:
        """Tokens of the vocabulary, as the model counts them."""
        return self.model.answers

    def masked(
        self, number: int
    ) -> tuple[Int[np.ndarray, " tokens"], Int[np.ndarray, " asked"], Int[np.ndarray, " asked"]]:
        """One window as the model is shown it, the places it is asked for, and their tokens."""
        rng = stream(self.seed, *self.path, number)
        shown = self.windows.ids(number).astype(np.int64)
        places = self.windows.places(number)
        places = np.sort(rng.permutation(places)[: self.counts[number]])
        true, chance = shown[places], rng.random(len(places))
        other = rng.choice(self.model.ordinary, len(places))
        exchanged = np.where(chance < HIDDEN + EXCHANGED, other, true)
        shown[places] = np.where(chance < HIDDEN, self.model.mask, exchanged)
        return shown, places, true

    def nll(self, rows: Int[np.ndarray, " rows"]) -> Float[Tensor, " rows"]:
        """Negative log-likelihood of each window, summed over its chosen tokens; in nats."""
        shown, places, true = zip(*(self.masked(int(row)) for row in rows), strict=True)
        sizes = [len(each) for each in places]
        row = np.repeat(np.arange(len(rows)), sizes)
        logits = self.model.guesses(list(shown), row, np.concatenate(places))
        labels = torch.from_numpy(np.concatenate(true)).to(logits.device)
        losses = nn.functional.cross_entropy(logits.float(), labels, reduction="none")
        start = torch.zeros(len(rows), dtype=losses.dtype, device=losses.device)
        return start.index_add(0, torch.from_numpy(row).to(losses.device), losses)

    def chunks(self, rows: Int[np.ndarray, " rows"]) -> Iterator[Int[np.ndarray, " _"]]:
        """The rows in parts whose logits stay below `LOGITS` numbers."""
        size = max(1, LOGITS // (int(self.counts[rows].max()) * self.answers))
        yield from (rows[i : i + size] for i in range(0, len(rows), size))

    def order(self, batch_size: int, rng: np.random.Generator) -> list[Int[np.ndarray, " _"]]:
        """One epoch of batches, each of windows of similar length."""
        return shuffled_batches(self.windows.lengths, batch_size, rng)
