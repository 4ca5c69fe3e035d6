"""Near-duplicates across the border: outsiders that are almost the text of a member.

Two texts are near-duplicates where the Jaccard similarity of their sets of shingles (runs of five
words, or of five characters where the texts are short) is at least 0.8. The search is exact, not
sampled hashes: where two sets are that similar, the rarest few shingles of each must share one
(the prefix filter: Chaudhuri, Ganti and Kaushik, "A primitive operator for similarity joins in
data cleaning", 2006), so an inverted index over those alone gives every candidate.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from engram.core.finding import Finding
from engram.stats.checks import check_lengths
from engram.stats.intervals import proportion
from engram.stats.tokens import characters, ngrams, words

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SIMILARITY = 0.8
SHINGLE = 5
SHORT_TEXT = 50
"""Below this many words in the median text, shingles are runs of characters."""
BLOCK = 4_000_000
"""Candidate pairs weighed at once: bounds the memory."""
BUDGET = 200_000_000
"""Candidate pairs weighed in all: beyond it, only some outsiders are looked at."""


@dataclass(frozen=True)
class Overlap:
    """Outsiders that a member nearly repeats."""

    outsiders: Int[np.ndarray, " hits"]
    """Rows of the outsiders that have a near-duplicate among the members."""
    members: Int[np.ndarray, " hits"]
    """For each of them, the row of one such member."""
    shares: Float[np.ndarray, " hits"]
    """For each of these pairs, the Jaccard similarity: the share of shingles that both have."""
    looked_at: int
    """How many outsiders were compared: all of them unless the texts are too alike to afford it."""
    n_outsiders: int
    shingle: str

    def finding(self) -> Finding:
        """The share of outsiders with a near-duplicate: exact where all were compared."""
        name, hits = "outsiders nearly the same as a member", len(self.outsiders)
        note = f"{hits} of {self.looked_at} outsiders: {self.shingle}, Jaccard >= {SIMILARITY}"
        if self.looked_at == self.n_outsiders:
            return Finding.exact(name, hits / self.looked_at, self.looked_at).tagged(note=note)
        note += f"; a random part of {self.n_outsiders}, for the texts are much alike"
        return proportion(hits, self.looked_at, name).tagged(note=note)


def near_duplicates(
    texts: Sequence[str],
    is_member: Bool[np.ndarray, " n"],
    rng: np.random.Generator,
    budget: int = BUDGET,
) -> Overlap:
    """Find the outsiders with a member at Jaccard similarity of 0.8 or more.

    Memory is bounded: candidates are weighed in blocks, and each outsider leaves as soon as one
    near-duplicate is found. `rng` only chooses whom to look at where `budget` is not enough.

    Raises:
        EngramError: there is not one label a text.
    """
    check_lengths("texts", len(texts), "membership labels", len(is_member))
    sets, kind = shingle_sets(texts)
    members, outsiders = np.flatnonzero(is_member), np.flatnonzero(~is_member)
    heads = _prefixes(sets)
    index = heads[members].T.tocsr()
    visited, cost = _affordable(heads[outsiders], index, rng, budget)
    found: dict[int, tuple[int, float]] = {}
    for block in np.split(visited, _block_ends(cost)):
        left, right = _candidates(heads[outsiders[block]], index)
        found |= _similar(sets, outsiders[block][left], members[right])
    hits = np.array(sorted(found), dtype=np.int64)
    partners = np.array([found[row][0] for row in sorted(found)], dtype=np.int64)
    shares = np.array([found[row][1] for row in sorted(found)], dtype=np.float64)
    return Overlap(hits, partners, shares, len(visited), len(outsiders), kind)


def shingle_sets(texts: Sequence[str]) -> tuple["csr_array", str]:
    """The set of shingles of each text, as a 0/1 matrix whose columns run from rare to common.

    Returns:
        The matrix (texts, distinct shingles), and what a shingle is, in words.
    """
    from scipy.sparse import csr_array

    units = words(texts)
    short = len(texts) == 0 or np.median(units.sizes) < SHORT_TEXT
    row, key = ngrams(characters(texts) if short else units, SHINGLE)
    distinct, column = np.unique(key, return_inverse=True)
    cells = np.unique(row * max(len(distinct), 1) + column)
    row, column = np.divmod(cells, max(len(distinct), 1))
    frequency = np.bincount(column, minlength=len(distinct))
    rank = np.empty(len(distinct), dtype=np.int64)
    rank[np.argsort(frequency, kind="stable")] = np.arange(len(distinct))
    ones = np.ones(len(cells), dtype=np.int32)
    shape = (len(texts), len(distinct))
    sets = csr_array((ones, (row, rank[column])), shape=shape)
    sets.sort_indices()
    return sets, f"runs of {SHINGLE} {'characters' if short else 'words'}"


def _prefixes(sets: "csr_array") -> "csr_array":
    """The rarest |x| - ceil(0.8 |x|) + 1 shingles of each set: similar sets share one of them."""
    from scipy.sparse import csr_array

    sizes = np.diff(sets.indptr)
    length = np.where(sizes > 0, sizes - np.ceil(SIMILARITY * sizes - 1e-9).astype(int) + 1, 0)
    row = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(sets.indices)) - sets.indptr[:-1][row]
    kept = place < length[row]
    cells = (sets.data[kept], (row[kept], sets.indices[kept]))
    return csr_array(cells, shape=sets.shape)


def _affordable(
    heads: "csr_array", index: "csr_array", rng: np.random.Generator, budget: int
) -> tuple[Int[np.ndarray, " visited"], Int[np.ndarray, " visited"]]:
    """The outsiders to look at, in random order, and how many candidates each has at most."""
    cost = np.asarray(heads @ np.diff(index.indptr).astype(np.int64)).astype(np.int64)
    order = rng.permutation(len(cost))
    within = max(int(np.searchsorted(np.cumsum(cost[order]), budget, side="right")), 1)
    visited = order[:within]
    return visited, cost[visited]


def _block_ends(cost: Int[np.ndarray, " visited"]) -> Int[np.ndarray, " ends"]:
    """Where to cut a sequence so that no piece costs much more than a block."""
    return np.flatnonzero(np.diff(np.cumsum(cost) // BLOCK)) + 1


def _candidates(
    heads: "csr_array", index: "csr_array"
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    from scipy.sparse import coo_array

    pairs = coo_array(heads @ index)
    return pairs.row.astype(np.int64), pairs.col.astype(np.int64)


def _similar(
    sets: "csr_array",
    outsiders: Int[np.ndarray, " pairs"],
    members: Int[np.ndarray, " pairs"],
) -> dict[int, tuple[int, float]]:
    """The outsiders among candidate pairs that are truly similar, each with one such member.

    Beside the member stands how similar it is.
    """
    found: dict[int, tuple[int, float]] = {}
    sizes = np.diff(sets.indptr).astype(np.int64)
    small = np.minimum(sizes[outsiders], sizes[members])
    large = np.maximum(sizes[outsiders], sizes[members])
    fits = small >= SIMILARITY * large - 1e-9  # else even a subset is not similar enough
    outsiders, members = outsiders[fits], members[fits]
    mean_size = max(1, int(sizes.mean()))
    while len(outsiders):
        step = max(1, 2_000_000 // mean_size)
        left, right = outsiders[:step], members[:step]
        shared = np.asarray(sets[left].multiply(sets[right]).sum(axis=1)).ravel()
        union = sizes[left] + sizes[right] - shared
        similar = shared >= SIMILARITY * union - 1e-9
        shares = shared[similar] / union[similar]
        pairs = zip(right[similar].tolist(), shares.tolist(), strict=True)
        found.update(zip(left[similar].tolist(), pairs, strict=True))
        outsiders, members = outsiders[step:], members[step:]
        waiting = ~np.isin(outsiders, left[similar])
        outsiders, members = outsiders[waiting], members[waiting]
    return found


def identical_outsiders(keys: Sequence[Hashable], is_member: Bool[np.ndarray, " n"]) -> int:
    """How many outsiders are wholly equal to a member, given a key that stands for a record."""
    check_lengths("records", len(keys), "membership labels", len(is_member))
    trained = {key for key, member in zip(keys, is_member, strict=True) if member}
    return sum(key in trained for key, member in zip(keys, is_member, strict=True) if not member)
