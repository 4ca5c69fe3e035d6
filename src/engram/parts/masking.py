"""Masks for language models that guess hidden tokens: which tokens, in which windows.

A record is framed by the tokenizer's special tokens, as `[CLS] ... [SEP]`. One that does not fit
into the context is cut into windows of nearly equal length that together cover it without
overlap, each framed like a whole record. Masks depend on a window's own tokens and on a seed:
never on the model, nor on the order or the company of the records. So two models are always
asked about the same hidden tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from math import ceil
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from engram.core import EngramError, Split, stream

ROUNDING = 1e-9
"""0.15 * 20 may come out as 2.999..., and must not mask two tokens."""


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of all records, end to end.

    Attributes:
        tokens: Numbers in the vocabulary, special tokens included; (total,).
        free: Which of them may be masked: none of the special ones; (total,).
        offsets: Where each window starts; (windows + 1,).
        record: Which record each window is from; (windows,).
        part: Which of its record's windows it is, counted from 0; (windows,).
        records: How many records there are.
    """

    tokens: Int[np.ndarray, " total"]
    free: Bool[np.ndarray, " total"]
    offsets: Int[np.ndarray, " windows_plus_one"]
    record: Int[np.ndarray, " windows"]
    part: Int[np.ndarray, " windows"]
    records: int

    def __len__(self) -> int:
        return len(self.record)

    @cached_property
    def lengths(self) -> Int[np.ndarray, " windows"]:
        """Tokens of each window."""
        return np.diff(self.offsets)

    @cached_property
    def maskable(self) -> Int[np.ndarray, " windows"]:
        """How many tokens of each window may be masked; at least one."""
        return np.diff(np.concatenate([[0], np.cumsum(self.free)])[self.offsets])

    def ids(self, row: int) -> Int[np.ndarray, " tokens"]:
        """The tokens of one window."""
        return self.tokens[self.offsets[row] : self.offsets[row + 1]]

    def places(self, row: int) -> Int[np.ndarray, " maskable"]:
        """The positions of one window that may be masked."""
        return np.flatnonzero(self.free[self.offsets[row] : self.offsets[row + 1]])

    def per_record(self) -> Int[np.ndarray, " records"]:
        """Tokens of each record that may be masked."""
        totals = np.bincount(self.record, self.maskable, minlength=self.records)
        return totals.astype(np.int64)

    def key(self, row: int) -> str:
        """What a window holds, as the name of its random stream."""
        content = self.ids(row).astype("<i8").tobytes()
        return f"{sha256(content).hexdigest()[:32]}-{self.part[row]}"


def windows_of(tokenizer: Any, split: Split, context: int) -> Windows:
    """Tokenise, frame and cut every record; windows without a token to mask are left out.

    Raises:
        EngramError: The context has no room for a token beside the special ones.
    """
    closed = np.array(sorted(_closed(tokenizer)), np.int64)
    pieces: list[np.ndarray] = []
    opens: list[np.ndarray] = []
    record, part = [], []
    column = split.column("text")
    for first in range(0, len(split), 1024):  # in blocks, so that memory stays flat
        texts = ["" if t is None else t for t in column.slice(first, 1024).to_pylist()]
        for row, (ids, framing) in enumerate(_encoded(tokenizer, texts), start=first):
            for number, (piece, inside) in enumerate(framed_windows(ids, framing, context)):
                free = inside & ~np.isin(piece, closed)
                if free.any():
                    pieces.append(piece.astype(np.int32))
                    opens.append(free)
                    record.append(row)
                    part.append(number)
    return Windows(
        np.concatenate(pieces) if pieces else np.empty(0, np.int32),
        np.concatenate(opens) if opens else np.empty(0, bool),
        np.cumsum([0, *map(len, pieces)]),
        np.array(record, np.int64),
        np.array(part, np.int64),
        len(split),
    )


def framed_windows(
    ids: Sequence[int], framing: Sequence[int], context: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Windows of one tokenised text, and which of their tokens are the text's own.

    Args:
        ids: All its tokens.
        framing: 1 where the tokenizer added a special token, else 0.
        context: The most tokens of a window.
    """
    tokens, own = np.asarray(ids, np.int64), np.flatnonzero(np.asarray(framing) == 0)
    if not len(own):
        return []
    before, text, after = tokens[: own[0]], tokens[own[0] : own[-1] + 1], tokens[own[-1] + 1 :]
    room = context - len(before) - len(after)
    if room < 1:
        raise EngramError(
            f"a context of {context} tokens has no room beside {len(before) + len(after)} "
            "special ones",
            hint="take a model with a longer context",
        )
    made = []
    for piece in np.array_split(text, ceil(len(text) / room)):
        inside = np.zeros(len(before) + len(piece) + len(after), bool)
        inside[len(before) : len(before) + len(piece)] = True
        made.append((np.concatenate([before, piece, after]), inside))
    return made


def mask_count(tokens: int, maskable: int, share: float) -> int:
    """How many of a window's tokens one draw hides: int(share * (tokens - 1)), at least one.

    Args:
        tokens: Length of the window, special tokens included.
        maskable: Tokens that may be hidden: no more than these.
        share: In (0, 1].
    """
    return min(max(1, int(share * (tokens - 1) + ROUNDING)), maskable)


def drawn_masks(
    places: Int[np.ndarray, " maskable"], count: int, draws: int, rng: np.random.Generator
) -> Int[np.ndarray, "draws count"]:
    """`draws` masks, each of `count` different places in ascending order."""
    order = np.argsort(rng.random((draws, len(places))), axis=1)
    return np.sort(places[order[:, :count]], axis=1)


def window_masks(
    windows: Windows, row: int, draws: int, share: float, seed: int
) -> Int[np.ndarray, "draws count"]:
    """The random masks of one window: a matter of its tokens and the seed alone."""
    places = windows.places(row)
    count = mask_count(int(windows.lengths[row]), len(places), share)
    return drawn_masks(places, count, draws, stream(seed, "masks", windows.key(row)))


def single_masks(windows: Windows, row: int) -> Int[np.ndarray, "maskable one"]:
    """One mask for each token of one window, which hides it alone."""
    return windows.places(row)[:, None]


def _encoded(tokenizer: Any, texts: list[str]) -> list[tuple[list[int], list[int]]]:
    found = tokenizer(
        texts,
        truncation=False,
        padding=False,
        return_attention_mask=False,
        return_special_tokens_mask=True,
        verbose=False,
    )
    return list(zip(found["input_ids"], found["special_tokens_mask"], strict=True))


def _closed(tokenizer: Any) -> set[int]:
    """Special tokens, which are not masked where a text holds them; unknown words may be."""
    names = ("cls", "sep", "pad", "mask", "bos", "eos")
    found = {getattr(tokenizer, f"{name}_token_id", None) for name in names}
    return {int(number) for number in found if number is not None}
