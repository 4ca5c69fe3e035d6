"""Texts cut into what a model is given and what it should write, by words: all that text allows."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from engram.core import EngramError


@dataclass(frozen=True)
class Cut:
    """The beginning of a text, as it stands there, and the words after it."""

    prefix: str
    rest: tuple[str, ...]


def cut_at(text: str, share: float, most: int) -> Cut:
    """Cut a text after a share of its words, rounded down, but after at least one.

    Args:
        text: Words are what stands between blanks.
        share: Of the words, in (0, 1).
        most: Words of the text that are looked at.
    """
    words = list(re.finditer(r"\S+", text))[:most]
    if not words:
        return Cut(text, ())
    given = max(1, int(len(words) * share))
    return Cut(text[: words[given - 1].end()], tuple(w.group() for w in words[given:]))


def tokens_for(words: int, tokens_per_word: float) -> int:
    """How many tokens a model is let write where so many words are expected."""
    return ceil(words * tokens_per_word)


def recall(candidate: Sequence[str], reference: Sequence[str], n: int) -> float:
    """ROUGE-N: the share of the reference's n-grams that the candidate has, each once.

    0 where the reference has no n-gram.
    """
    wanted, found = Counter(_ngrams(reference, n)), Counter(_ngrams(candidate, n))
    return (wanted & found).total() / max(wanted.total(), 1)


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def leading(candidate: Sequence[str], reference: Sequence[str]) -> int:
    """How many words from the first on are the same."""
    same = 0
    for mine, its in zip(candidate, reference, strict=False):
        if mine != its:
            break
        same += 1
    return same


def check_cut(share: float, most: int, tokens_per_word: float) -> None:
    """Refuse settings with which nothing can be cut.

    Raises:
        EngramError: The setting and its value.
    """
    if not 0 < share < 1:
        raise EngramError(
            f"given is {share}, but must be between 0 and 1", hint="0.5 gives half of the words"
        )
    if most < 2:
        raise EngramError(f"words is {most}, but must be at least 2", hint="256 is usual")
    if not 0 < tokens_per_word <= 100:
        raise EngramError(
            f"tokens_per_word is {tokens_per_word}, but must be in (0, 100]",
            hint="English takes about 1.3; names and numbers take more",
        )
