"""From records to batches: chunks that are stored together, batches that are read together."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from engram.signals.store import Done
from engram.signals.windows import Sight


@dataclass(frozen=True, eq=False)
class Batch:
    """Token sequences beside each other, filled up on the right with token 0.

    Attributes:
        tokens: One sequence a row.
        lengths: Tokens of each sequence.
        asked: Places in the flattened batch whose next token is scored.
        answers: Those next tokens.
        places: Where each answer's score belongs in the chunk.
    """

    tokens: Int[np.ndarray, "sequences width"]
    lengths: Int[np.ndarray, " sequences"]
    asked: Int[np.ndarray, " n"]
    answers: Int[np.ndarray, " n"]
    places: Int[np.ndarray, " n"]

    def inputs(self, device: torch.device) -> dict[str, Tensor]:
        """What the model is called with. There is no mask where nothing is filled up."""
        inputs = {"input_ids": torch.from_numpy(self.tokens).to(device)}
        if (self.lengths < self.tokens.shape[1]).any():
            mask = np.arange(self.tokens.shape[1]) < self.lengths[:, None]
            inputs["attention_mask"] = torch.from_numpy(mask.astype(np.int64)).to(device)
        return inputs


@dataclass(frozen=True, eq=False)
class Chunk:
    """Windows of consecutive records, whose scores are stored together.

    Attributes:
        tokens: The tokens of all windows, one window after another.
        starts: Where each window begins in `tokens`.
        lengths: Tokens of each window.
        firsts: The first token of each window that is scored.
        records: Which record of the split each window is from.
        ends: Stored tokens (of the whole split) up to the end of each record that ends here.
        before: How far the work had come before this chunk.
        after: How far it has come once this chunk is stored.
    """

    tokens: Int[np.ndarray, " total"]
    starts: Int[np.ndarray, " windows"]
    lengths: Int[np.ndarray, " windows"]
    firsts: Int[np.ndarray, " windows"]
    records: Int[np.ndarray, " windows"]
    ends: Int[np.ndarray, " records"]
    before: Done
    after: Done

    @property
    def scored(self) -> Int[np.ndarray, " windows"]:
        """Scored tokens of each window."""
        return self.lengths - self.firsts

    def batches(self, budget: int, *, exact: bool) -> Iterator[Batch]:
        """All windows, longest first, in batches of at most `budget` tokens (or one window).

        Args:
            budget: Tokens in a batch, filled-up places included.
            exact: Whether only windows of the same length go together, so that nothing is
                filled up.
        """
        at = np.cumsum(self.scored) - self.scored
        order = np.argsort(-self.lengths, kind="stable")
        first = 0
        while first < len(order):
            width = int(self.lengths[order[first]])
            rows = order[first : first + max(1, budget // width)]
            if exact:
                rows = rows[self.lengths[rows] == width]
            yield self._batch(rows, at[rows], width)
            first += len(rows)

    def trial(self, sequences: int = 2, width: int = 8) -> Batch:
        """The beginnings of the first few windows, all their tokens asked for."""
        lengths = np.minimum(self.lengths[:sequences], width)
        tokens = [self.tokens[s : s + n] for s, n in zip(self.starts, lengths, strict=False)]
        whole = Chunk(
            np.concatenate(tokens),
            np.cumsum(lengths) - lengths,
            lengths,
            np.ones_like(lengths),
            self.records[:sequences],
            self.ends[:0],
            self.before,
            self.before,
        )
        return next(whole.batches(sequences * width, exact=False))

    def _batch(
        self, rows: Int[np.ndarray, " rows"], at: Int[np.ndarray, " rows"], width: int
    ) -> Batch:
        lengths, firsts = self.lengths[rows, None], self.firsts[rows, None]
        column = np.arange(width)
        place = np.minimum(self.starts[rows, None] + column, len(self.tokens) - 1)
        tokens = np.where(column < lengths, self.tokens[place], 0).astype(np.int64)
        scored = (column >= firsts - 1) & (column < lengths - 1)
        asked = np.flatnonzero(scored)
        places = (at[:, None] + column - firsts + 1)[scored]
        return Batch(tokens, lengths[:, 0], asked, tokens.reshape(-1)[asked + 1], places)


@dataclass
class _Gathering:
    """A chunk in the making."""

    before: Done
    tokens: list[np.ndarray] = field(default_factory=list)
    windows: list[tuple[int, int, int]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    scored: int = 0
    read: int = 0

    def add(self, record: int, tokens: np.ndarray, first: int) -> None:
        self.tokens.append(tokens)
        self.windows.append((len(tokens), first, record))
        self.scored += len(tokens) - first
        self.read += len(tokens)

    def end(self) -> None:
        """The current record is over."""
        self.ends.append(self.before.tokens + self.scored)
        self.read += 1  # so that records without tokens fill a chunk too

    def chunk(self, records: int, windows: int) -> Chunk:
        shape = np.array(self.windows, np.int64).reshape(-1, 3)
        lengths, firsts, rows = shape.T
        return Chunk(
            np.concatenate(self.tokens) if self.tokens else np.empty(0, np.int32),
            np.cumsum(lengths) - lengths,
            lengths,
            firsts,
            rows,
            np.array(self.ends, np.int64),
            self.before,
            Done(records, windows, self.before.tokens + self.scored),
        )


def chunks(
    records: Iterable[Int[np.ndarray, " _"]], sight: Sight, size: int, done: Done
) -> Iterator[Chunk]:
    """Cut records into windows, and gather windows of about `size` tokens into chunks.

    Args:
        records: The tokens of each record, from number `done.records` on.
        sight: How long windows are, and by how much they advance.
        size: Tokens that are read for one chunk.
        done: Where to begin.
    """
    now, number, skip = _Gathering(done), done.records, done.windows
    for tokens in records:
        place = 0
        for place, window in enumerate(sight.cut(len(tokens)), 1):
            if place <= skip:
                continue
            now.add(number, tokens[window.start : window.stop], window.first - window.start)
            if now.read >= size:
                yield (made := now.chunk(number, place))
                now = _Gathering(made.after)
        now.end()
        number, skip = number + 1, 0
        if now.read >= size:
            yield (made := now.chunk(number, 0))
            now = _Gathering(made.after)
    if now.ends or now.windows:
        yield now.chunk(number, 0)
