"""Rewrite each record in a language whose tokens come in another order.

Is a language that no child could learn harder for a language model too? Take real sentences, cut
them into tokens, and put the tokens into an order that no human language has. Every language of
the family says the same sentences with the same tokens; only the order differs, from none at all
to one that follows a simple rule. What a model then finds hard, is hard because of the order.

    control            x_1 x_2 ... x_n
    even-odd           x_1 x_3 x_5 ... x_2 x_4 x_6 ...
    local              one permutation in each window of `window` tokens
    deterministic      one permutation for each length n, drawn from `key`
    nondeterministic   another permutation for each record

All but the last can be undone, so they hold exactly the information of the control. The texts are
written as tokens with blanks between them: train on them with `pretrain-lm --tokenizer pieces`.

Differs from the paper:
1. The records are the sentences, whatever they are; where no model's tokenizer is named, byte
   pairs are learnt from the records themselves, instead of taking GPT-2's.
2. Permutations come from our own random streams, so `key` 21 is not the paper's permutation 21.
3. A local permutation that would leave a full window as it is, is drawn again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Int

from engram.core import EngramError, Paper, Run, Split, stream
from engram.parts.token_pieces import Cutter, check_lengths, rewritten

Order = Int[np.ndarray, " n"]
"""Which token of the control stands at each place."""
LANGUAGES = ("control", "even-odd", "local", "deterministic", "nondeterministic")


@dataclass(frozen=True)
class ShuffleTokens:
    """The shuffle family of impossible languages."""

    paper: ClassVar[Paper] = Paper(
        title="Mission: Impossible Language Models",
        authors="Kallini et al.",
        year=2024,
        url="https://arxiv.org/abs/2401.06416",
    )

    language: Literal["control", "even-odd", "local", "deterministic", "nondeterministic"] = (
        "nondeterministic"
    )
    """Which order the tokens are put into."""

    key: int = 21
    """Which deterministic permutations; the paper has 21, 57 and 84."""

    window: int = 3
    """Tokens that a local permutation stays within; the paper has 3, 5 and 10."""

    tokenizer: str = ""
    """Model whose tokenizer cuts the records; empty: one is learnt from them."""

    vocabulary: int = 2000
    """The most tokens that are learnt."""

    least: int = 2
    """Records of fewer tokens are left out."""

    most: int = 350
    """Records of more tokens are left out."""

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise EngramError(
                f"language is {self.language!r}, but must be one of {', '.join(LANGUAGES)}"
            )
        if self.window < 2:
            raise EngramError(
                f"window is {self.window}, but must be at least 2",
                hint="language=control leaves every token where it is",
            )
        check_lengths(self.least, self.most, self.vocabulary)

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the records in this language; ids and owners stay."""
        cut = Cutter.of(self.tokenizer, split.texts, self.vocabulary, run).pieces(split.texts)
        rows = [row for row, each in enumerate(cut) if self.least <= len(each) <= self.most]
        spoken = []
        for row in rows:
            order = self.order(len(cut[row]), split.ids[row], run)
            spoken.append([cut[row][place] for place in order])
        return rewritten(split, rows, spoken)

    def order(self, n: int, record: str, run: Run) -> Order:
        """The order of the n tokens of a record."""
        orders: dict[str, Callable[[], Order]] = {
            "control": lambda: np.arange(n),
            "even-odd": lambda: even_odd(n),
            "local": lambda: local(n, self.window),
            "deterministic": lambda: deterministic(n, self.key),
            "nondeterministic": lambda: run.stream("shuffle-tokens", record).permutation(n),
        }
        return orders[self.language]()


def even_odd(n: int) -> Order:
    """The tokens at even places, counted from 0, then those at odd places."""
    return np.concatenate([np.arange(0, n, 2), np.arange(1, n, 2)])


def deterministic(n: int, key: int) -> Order:
    """A permutation that depends on the length and the key alone: each draw starts anew."""
    return stream(key, "shuffle-tokens", "deterministic").permutation(n)


def local(n: int, window: int) -> Order:
    """The same permutation inside each window; the last window may be shorter, with its own."""
    starts = range(0, n, window)
    pieces = [start + _moved(min(window, n - start), window) for start in starts]
    return np.concatenate([np.empty(0, np.int64), *pieces])


def _moved(n: int, window: int) -> Order:
    """A permutation of n tokens, the same at each call; of a full window it is no identity."""
    rng = stream(0, "shuffle-tokens", "local")
    order = rng.permutation(n)
    while n == window and (order == np.arange(n)).all():
        order = rng.permutation(n)
    return order
