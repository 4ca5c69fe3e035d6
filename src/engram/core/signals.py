"""Containers for a model's stored answers. How they are computed is `engram.signals`' affair."""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from engram.core.errors import EngramError
from engram.core.strings import Strings

SCORED, TOO_SHORT = "scored", "too-short"


def let_go(values: np.ndarray) -> None:
    """Give the memory of a read-only mapped file back; it is read again when it is needed."""
    mapped = getattr(values, "_mmap", None)
    if mapped is not None and hasattr(mapped, "madvise") and not values.flags.writeable:
        mapped.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True, eq=False)
class TokenSignals:
    """What a language model says of every token of every record; ragged, often memory-mapped.

    Token `t` of record `i` stands at `offsets[i] + t`. Only scored tokens are stored: each has
    at least one token before it, so a record of T tokens has T - 1 entries. Records with fewer
    than two tokens have none, and the outcome "too-short".

    Attributes:
        ids: The records, in the order of the split.
        offsets: Start of each record's tokens; (n + 1,).
        token: The true token's number in the vocabulary; (total,).
        logprob: Natural log-probability of the true token; (total,).
        mean: Mean of log p under the model's own distribution (minus the entropy); (total,).
        deviation: Standard deviation of log p under that distribution; (total,).
        rank: How many tokens are strictly likelier than the true one; (total,).
        greedy: Whether greedy decoding would have chosen the true token; (total,).

    A model behind a server tells only `logprob`, and a number made from each token's text: the
    other columns are None then. An attack that reads them needs "tokens", not "logprobs".
    """

    ids: Sequence[str]
    offsets: Int[np.ndarray, " records_plus_one"]
    token: Int[np.ndarray, " total"]
    logprob: Float[np.ndarray, " total"]
    mean: Float[np.ndarray, " total"] | None = None
    deviation: Float[np.ndarray, " total"] | None = None
    rank: Int[np.ndarray, " total"] | None = None
    greedy: Bool[np.ndarray, " total"] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Int[np.ndarray, " n"]:
        """Scored tokens of each record."""
        return np.diff(self.offsets)

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The outcome of each record: "scored" or "too-short"."""
        return tuple(SCORED if n else TOO_SHORT for n in self.lengths)

    @property
    def entropy(self) -> Float[np.ndarray, " total"]:
        """Entropy of the model's distribution at each token, in nats: minus `mean`."""
        if self.mean is None:
            raise EngramError(
                "this model tells the log-probabilities of tokens, but not their entropy",
                hint="an attack that reads it needs tokens, not logprobs",
            )
        return -np.asarray(self.mean)

    def record(self, row: int) -> slice:
        """Where record number `row` stands in the token arrays."""
        return slice(int(self.offsets[row]), int(self.offsets[row + 1]))

    def ragged(self, values: np.ndarray) -> Iterator[np.ndarray]:
        """Cut one token array into one piece a record."""
        for row in range(len(self)):
            yield values[self.record(row)]
            if row % 4096 == 4095:
                let_go(values)
        let_go(values)

    def means(self, values: Float[np.ndarray, " total"]) -> Float[np.ndarray, " n"]:
        """The mean of a token array inside each record; 0 for records without tokens."""
        values, sums = np.asanyarray(values), np.zeros(len(self))
        for first in range(0, len(self), 4096):  # in blocks, so that memory stays flat
            bounds = np.asarray(self.offsets[first : first + 4097])
            filled = np.flatnonzero(np.diff(bounds))
            if len(filled):
                block = np.asarray(values[bounds[0] : bounds[-1]], np.float64)
                starts = bounds[:-1][filled] - bounds[0]
                sums[first + filled] = np.add.reduceat(block, starts)
                let_go(values)
        return sums / np.maximum(self.lengths, 1)

    def losses(self) -> Float[np.ndarray, " n"]:
        """Mean negative log-likelihood per record, in nats per token; 0 without tokens."""
        return -self.means(self.logprob)

    def aligned(self, ids: Sequence[str]) -> "TokenSignals":
        """The signals of these records, in this order."""
        rows = Strings(self.ids).places(ids)
        if rows is None:
            raise KeyError("a record that these signals do not know")
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

        def gather(values: Any) -> Any:
            if values is None:
                return None
            made = np.empty(offsets[-1], values.dtype)
            for first in range(0, len(rows), 4096):
                some = rows[first : first + 4096]
                bounds = offsets[first : first + 4097]
                shift = np.repeat(self.offsets[some] - bounds[:-1], np.diff(bounds))
                made[bounds[0] : bounds[-1]] = values[np.arange(bounds[0], bounds[-1]) + shift]
                let_go(values)
            return made

        return TokenSignals(
            ids,
            offsets,
            gather(self.token),
            gather(self.logprob),
            gather(self.mean),
            gather(self.deviation),
            gather(self.rank),
            gather(self.greedy),
        )
