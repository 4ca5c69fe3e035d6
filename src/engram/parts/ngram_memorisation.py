"""How much of a record's rest a model writes by itself: all of it, or runs of a few tokens.

A model is given the beginning of a record and writes on, always its likeliest token, exactly as
many tokens as the record still has. If all are the record's own, the record can be read out. Long
before that happens, runs of n tokens are right: a signal that rises earlier (Slack and Al Moubayed,
"Early Detection and Reduction of Memorisation for Domain Adaptation and Instruction Tuning", 2025,
https://arxiv.org/abs/2510.11372). With the rest s and what was written s^, both of m tokens:

    verbatim    1[s^ = s]
    aligned_n   | { i : s^_i .. s^_i+n-1 = s_i .. s_i+n-1 } | / (m - n + 1)
    set_n       | { i : s^_i .. s^_i+n-1 occurs somewhere in s } | / (m - n + 1)
    multiset_n  the same, but each occurrence in s is found once at most

A score is the mean over several n. What is shorter than n tokens has no score: it is nan.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from engram.core import EngramError

Version = Literal["aligned", "set", "multiset"]
SIZES = (4, 5, 6)
"""The lengths of runs that the paper averages over."""


def verbatim(written: Int[np.ndarray, " m"], truth: Int[np.ndarray, " m"]) -> bool:
    """Whether every token is the record's own; an empty rest says nothing, and is not."""
    return bool(len(truth)) and np.array_equal(written, truth)


def aligned_share(written: Int[np.ndarray, " m"], truth: Int[np.ndarray, " m"], n: int) -> float:
    """Share of places from which on n written tokens are the record's at the same places."""
    return (
        float("nan") if len(truth) < n else float(aligned_shares(written[None], truth[None], n)[0])
    )


def aligned_shares(
    written: Int[np.ndarray, "records m"], truth: Int[np.ndarray, "records m"], n: int
) -> Float[np.ndarray, " records"]:
    """The same for records whose rests are equally long, of at least n tokens."""
    # A run starts at i where all of i .. i+n-1 match.
    same = np.lib.stride_tricks.sliding_window_view(written == truth, n, axis=1)
    return same.all(axis=2).mean(axis=1)


def found_share(
    written: Int[np.ndarray, " m"], truth: Int[np.ndarray, " m"], n: int, *, once: bool = False
) -> float:
    """Share of the written n-grams that the record has anywhere; with `once`, each one once."""
    if len(truth) < n:
        return float("nan")
    wanted, made = _ngrams(truth, n), _ngrams(written, n)
    if once:
        return (Counter(wanted) & Counter(made)).total() / len(made)
    known = set(wanted)
    return sum(gram in known for gram in made) / len(made)


def _ngrams(tokens: Int[np.ndarray, " m"], n: int) -> list[tuple[int, ...]]:
    listed = tokens.tolist()
    return [tuple(listed[i : i + n]) for i in range(len(listed) - n + 1)]


def ngram_score(
    written: Int[np.ndarray, " m"],
    truth: Int[np.ndarray, " m"],
    sizes: Sequence[int] = SIZES,
    version: Version = "aligned",
) -> float:
    """The mean over `sizes` of one version of the share; nan where the longest does not fit."""
    if version == "aligned":
        shares = [aligned_share(written, truth, n) for n in sizes]
    else:
        shares = [found_share(written, truth, n, once=version == "multiset") for n in sizes]
    return float(np.mean(shares))


def ngram_scores(
    written: Sequence[Int[np.ndarray, " _"]],
    truths: Sequence[Int[np.ndarray, " _"]],
    sizes: Sequence[int] = SIZES,
    version: Version = "aligned",
) -> Float[np.ndarray, " records"]:
    """One score a record; nan where the record's rest is too short."""
    pairs = zip(written, truths, strict=True)
    return np.array([ngram_score(w, t, sizes, version) for w, t in pairs], np.float64)


def check_sizes(sizes: Sequence[int]) -> None:
    """Refuse lengths of runs that cannot be counted.

    Raises:
        EngramError: There are none, or one is below 1, or one stands there twice.
    """
    if not sizes or min(sizes) < 1 or len(set(sizes)) < len(sizes):
        raise EngramError(
            f"ngram sizes are {tuple(sizes)}, but must be different numbers of at least 1",
            hint="(4, 5, 6) are the paper's",
        )
