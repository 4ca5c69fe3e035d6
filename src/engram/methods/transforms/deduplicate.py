"""Keep one of each group of equal, or nearly equal, texts.

What stands in the data many times is what a model learns by heart: copies are the first cause of
memorisation, and removing them is the cheapest defence. Texts are compared as sets of `shingle`
words in a row; two texts are near copies where these sets overlap enough:

    J(x, y) = |S(x) & S(y)| / |S(x) | S(y)| >= threshold

Comparing all pairs costs n^2, so candidates come from MinHash signatures cut into b bands of r
rows: texts that agree in a whole band are compared exactly. A pair of similarity J is found with
probability 1 - (1 - J^r)^b, and r is chosen so that a pair at the threshold is missed at most once
in 10,000 times. Near copies of near copies are one group, and its first record stays.

Differs from the paper: 1. shingles are of words, not of tokens, because no tokenizer is known here;
2. candidates are checked by their exact Jaccard index, not by edit distance.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import numpy as np
from jaxtyping import Bool, Int

from engram.core import EngramError, Paper, Run, Split
from engram.parts.partition import connected

EXTRA_FOR = {"dedup": "level near"}
MISSED = 1e-4
"""Probability, at most, that a pair exactly at the threshold is missed."""

Shingles = frozenset[tuple[str, ...]]


@dataclass(frozen=True)
class Deduplicate:
    """Exact and near duplicates; the first record of each group stays."""

    paper: ClassVar[Paper] = Paper(
        title="Deduplicating Training Data Makes Language Models Better",
        authors="Lee et al.",
        year=2022,
        url="https://arxiv.org/abs/2107.06499",
    )

    level: Literal["exact", "near"] = "near"
    """"exact": equal texts, letter case and white space apart; "near": also nearly equal ones."""

    threshold: float = 0.8
    """Jaccard index from which two texts are near copies, in (0, 1]. The paper uses 0.8."""

    shingle: int = 5
    """Words in a row that are compared as one. The paper uses 5."""

    permutations: int = 128
    """Length of the MinHash signatures."""

    def __post_init__(self) -> None:
        if self.level not in ("exact", "near"):
            raise EngramError(f"level is {self.level!r}, but must be exact or near")
        if not 0 < self.threshold <= 1:
            raise EngramError(
                f"threshold is {self.threshold}, but must be in (0, 1]",
                hint="0.8 is the paper's value",
            )
        if self.shingle < 1 or self.permutations < 1:
            raise EngramError(
                f"shingle is {self.shingle} and permutations is {self.permutations}, but both "
                "must be at least 1"
            )

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the first record of each group, in order; records without text by content."""
        if "text" not in split.columns and self.level == "exact":
            return split.where(firsts(connected(len(split), [split.digests])))
        texts = [normal(text) for text in split.texts]
        group = connected(len(texts), [texts])
        if self.level == "near":
            group = self._near(texts, group, run)
        return split.where(firsts(group))

    def _near(
        self, texts: Sequence[str], group: Int[np.ndarray, " n"], run: Run
    ) -> Int[np.ndarray, " n"]:
        """Groups of near copies, found among one text of each group of equal ones."""
        alone = np.flatnonzero(firsts(group)).tolist()
        sets = [shingles(texts[i], self.shingle) for i in alone]
        first, second = [], []
        for i, j in candidates(sets, self.threshold, self.permutations, run):
            if jaccard(sets[i], sets[j]) >= self.threshold:
                first.append(alone[i])
                second.append(alone[j])
        return linked(group, first, second)


def normal(text: str) -> str:
    """The text with case, white space and width of letters evened out."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def shingles(text: str, size: int) -> Shingles:
    """All runs of `size` words; a shorter text is one run."""
    words = re.findall(r"\w+|[^\w\s]", normal(text))
    last = max(len(words) - size, 0)
    return frozenset(tuple(words[i : i + size]) for i in range(last + 1))


def jaccard(one: Shingles, other: Shingles) -> float:
    """Size of what is in both over size of what is in either."""
    both = len(one & other)
    return both / (len(one) + len(other) - both)


def bands(threshold: float, permutations: int) -> tuple[int, int]:
    """How to cut a signature: as many rows a band as still find a pair at the threshold.

    Returns:
        (b, r) with b = permutations // r and miss probability (1 - threshold^r)^b <= MISSED; one
        row a band where no cut is that sure.
    """
    for rows in range(permutations, 1, -1):
        count = permutations // rows
        if (1 - threshold**rows) ** count <= MISSED:
            return count, rows
    return permutations, 1


def candidates(
    sets: Sequence[Shingles], threshold: float, permutations: int, run: Run
) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), j before i, that agree in a band of their MinHash signatures."""
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        raise EngramError(
            "near duplicates need the package datasketch, which is not installed",
            hint="pip install 'engram[dedup]', or take level exact",
        ) from None
    index = MinHashLSH(num_perm=permutations, params=bands(threshold, permutations))
    empty = MinHash(num_perm=permutations, seed=1)
    for i, words in enumerate(sets):
        signature = empty.copy()
        signature.update_batch(["\0".join(run).encode("utf-8", "surrogatepass") for run in words])
        for j in sorted(cast(list[int], index.query(signature))):
            yield i, j
        index.insert(i, signature)
        if i % 1000 == 0:
            run.progress(i, len(sets), "comparing texts")


def linked(
    group: Int[np.ndarray, " n"], first: Sequence[int], second: Sequence[int]
) -> Int[np.ndarray, " n"]:
    """Groups joined by the pairs (first[k], second[k])."""
    parent = {int(g): int(g) for g in np.unique(group)}

    def root(g: int) -> int:
        while parent[g] != g:
            g = parent[g]
        return g

    for i, j in zip(first, second, strict=True):
        parent[root(int(group[i]))] = root(int(group[j]))
    return np.array([root(int(g)) for g in group], dtype=np.int64)


def firsts(group: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """True for the first record of each group."""
    first = np.zeros(len(group), bool)
    first[np.unique(group, return_index=True)[1]] = True
    return first
