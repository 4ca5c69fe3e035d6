"""Records cut into what the model is given and what it must reproduce."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from engram.core import Run, Split, TokenSignals

BATCH = 64
"""Prompts that are continued together."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """The records of at least prefix + suffix tokens, by their row in the split.

    The first token of a record is not scored, so its token number t + 1 stands at entry t of
    the signals: the suffix starts at entry `prefix - 1`.
    """

    signals: TokenSignals
    rows: Int[np.ndarray, " prompts"]
    prefix: int
    suffix: int

    @classmethod
    def of(cls, signals: TokenSignals, prefix: int, suffix: int) -> "Prompts":
        """All records that are long enough."""
        rows = np.flatnonzero(signals.lengths + 1 >= prefix + suffix)
        return cls(signals, rows, prefix, suffix)

    def take(self, places: Int[np.ndarray, " some"]) -> "Prompts":
        """Some of these prompts, in this order."""
        return replace(self, rows=self.rows[places])

    def _entries(self, first: int, count: int) -> Int[np.ndarray, "prompts {count}"]:
        start = np.asarray(self.signals.offsets)[self.rows] + first
        return start[:, None] + np.arange(count)

    def truth(self) -> Int[np.ndarray, "prompts {self.suffix}"]:
        """The tokens that each record goes on with after its prefix."""
        return np.asarray(self.signals.token[self._entries(self.prefix - 1, self.suffix)], np.int64)

    def matched(self) -> Int[np.ndarray, " prompts"]:
        """Leading suffix tokens that greedy decoding reproduces.

        All tokens before the first wrong one were right, so that up to there the text that the
        model has written and the record are the same: the stored flags tell.
        """
        greedy = np.asarray(self.signals.greedy[self._entries(self.prefix - 1, self.suffix)])
        return np.cumprod(greedy, axis=1, dtype=np.int64).sum(axis=1)

    def prefixes(self, lm: Any, split: Split) -> Int[np.ndarray, "prompts {self.prefix}"]:
        """Token numbers of the prefixes; only the first of each is not in the signals."""
        texts = split.take(self.rows).texts
        starts = [lm.tokenizer(text, verbose=False)["input_ids"][0] for text in texts]
        rest = np.asarray(self.signals.token[self._entries(0, self.prefix - 1)], np.int64)
        return np.concatenate([np.array(starts, np.int64).reshape(-1, 1), rest], axis=1)

    def continued(
        self, lm: Any, split: Split, run: Run
    ) -> Int[np.ndarray, "prompts {self.suffix}"]:
        """What greedy decoding writes after each prefix."""
        import torch

        from engram.families.causal_lm import generate_greedy

        prefixes = self.prefixes(lm, split)
        written = np.zeros((len(prefixes), self.suffix), np.int64)
        for first in range(0, len(prefixes), BATCH):
            batch = slice(first, first + BATCH)
            prompts = torch.from_numpy(prefixes[batch])
            written[batch] = generate_greedy(lm, prompts, self.suffix).cpu().numpy()
            run.progress(min(first + BATCH, len(prefixes)), len(prefixes), "generation")
        return written
