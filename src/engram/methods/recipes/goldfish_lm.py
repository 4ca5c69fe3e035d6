"""Fine-tune a language model without ever showing it some of the tokens, the same ones each time.

Whoever is to recite a text must know every token of it. Leave one token in K out of the loss, and
the model has to guess there, and its recital goes astray. Which tokens are left out must not
change from epoch to epoch, nor between two copies of a passage, or it would see them after all.
So a hash of the h tokens before decides:

    G_t = 0  where  hash(x_{t-h}, ..., x_{t-1}) mod K = 0,   else 1
    L   = - (1 / sum over t of G_t) sum over t of  G_t log p(x_t | x_<t)

About 1 / K of the tokens are left out. The first h tokens of a record have too few before them to
decide by; they are always learnt, so a record of h tokens or fewer is not protected at all.

Differs from the paper:
1. The hash is our own: each token is mixed into 64 bits by the finaliser of splitmix64.
2. Records are sequences of their own, so that the first h tokens are those of each record, not
   of a packed document.
3. The paper pre-trains; we fine-tune, as in the comparison by Slack and Al Moubayed (2025), from
   which K = 4 and h = 13 are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, UInt64
from torch import Tensor

from engram.core import Draft, EngramError, Paper, Run, Split
from engram.parts.language_model import LanguageModel
from engram.parts.lm_tuning import Objective, Tuning, tune
from engram.parts.token_examples import TokenExamples, side_by_side
from engram.parts.training import Examples, check_at_least

EXTRA_FOR = {"peft": "method lora"}
START = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class GoldfishLm(Tuning):
    """Fine-tuning with one token in K left out of the loss."""

    paper: ClassVar[Paper] = Paper(
        title="Be like a Goldfish, Don't Memorize! Mitigating Memorization in Generative LLMs",
        authors="Hans et al.",
        year=2024,
        url="https://arxiv.org/abs/2406.10209",
    )

    one_in: int = 4
    """K: one token in so many is left out of the loss, at least 2; the paper's 4."""
    hash_tokens: int = 13
    """h: tokens before that decide, the paper's 13. Fewer protect more of short records, and leave
    out the same token after common phrases every time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("one_in", self.one_in, 2, "4 is usual; 1 would leave out every token")
        check_at_least("hash_tokens", self.hash_tokens, 1, "13 is the paper's")

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train a copy of the base on the column `text`; the base stays as it is."""
        return tune(self, split, run, self.objective)

    def objective(
        self, lm: LanguageModel, base: LanguageModel, examples: TokenExamples, run: Run
    ) -> Objective:
        """Cross-entropy of the tokens that are not left out."""
        dropped = dropped_of(examples, self.hash_tokens, self.one_in)
        kept = kept_counts(examples, dropped)
        if not kept.any():
            raise EngramError(
                f"every predicted token of the {len(kept)} records is left out of the loss",
                hint="give more text, or a larger --one-in",
            )

        def loss(
            lm: LanguageModel, examples: Examples, rows: Int[np.ndarray, " rows"]
        ) -> Iterator[Float[Tensor, ""]]:
            total = max(int(kept[rows].sum()), 1)
            for chunk in examples.chunks(rows):
                losses, _, predicted = examples.token_losses(chunk)  # type: ignore[attr-defined]
                hidden = side_by_side([dropped[row] for row in chunk], predicted)
                yield losses.masked_fill(hidden, 0.0).sum() / total

        return loss


def dropped_tokens(
    tokens: Int[np.ndarray, " length"], h: int, k: int
) -> Bool[np.ndarray, " length"]:
    """Whether each token is left out of the loss: never one of the first h."""
    found = np.zeros(len(tokens), bool)
    if len(tokens) > h:
        before = np.lib.stride_tricks.sliding_window_view(tokens, h)[:-1]
        found[h:] = mixed(before) % np.uint64(k) == 0
    return found


def mixed(tokens: Integer[np.ndarray, "n h"]) -> UInt64[np.ndarray, " n"]:
    """A hash of each row: every token is added in and mixed by splitmix64's finaliser."""
    state = np.full(len(tokens), START, np.uint64)
    for column in tokens.T:
        state = state + column.astype(np.uint64) + np.uint64(START)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


def dropped_of(examples: TokenExamples, h: int, k: int) -> list[Bool[np.ndarray, " _"]]:
    """For each position of each piece, whether the token after it is left out.

    Decided on whole records: a piece begins with the last token of the one before.
    """
    pieces = np.split(examples.tokens, examples.offsets[1:-1])
    found: list[np.ndarray] = []
    for row in np.split(np.arange(len(pieces)), np.flatnonzero(np.diff(examples.record)) + 1):
        if not len(row):
            continue
        own = [pieces[piece] for piece in row]
        whole = dropped_tokens(np.concatenate([own[0], *(p[1:] for p in own[1:])]), h, k)
        first = 0
        for piece in own:
            found.append(np.append(whole[first + 1 : first + len(piece)], False))
            first += len(piece) - 1
    return found


def kept_counts(
    examples: TokenExamples, dropped: list[Bool[np.ndarray, " _"]]
) -> Int[np.ndarray, " pieces"]:
    """How many predicted tokens of each piece are learnt."""
    kept = np.zeros(len(dropped), np.int64)
    for first in range(0, len(dropped), 256):
        rows = np.arange(first, min(first + 256, len(dropped)))
        predicted = examples.padded(rows)[1] >= 0
        hidden = side_by_side([dropped[row] for row in rows], predicted)
        kept[rows] = (predicted & ~hidden).sum(1).numpy()
    return kept
