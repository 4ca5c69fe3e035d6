"""Texts as numbers: word and n-gram codes in flat arrays, for the split audit.

All the counting runs over flat arrays, so that twenty thousand records take seconds and memory
grows with the number of words alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt64

MAX_CHARACTERS = 20_000
"""How far a text is read: one huge record must not stop the audit of the others."""

_WORD = re.compile(r"\w+")
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying by it loses nothing


@dataclass(frozen=True)
class Units:
    """The words (or characters) of all texts, end to end."""

    codes: Int[np.ndarray, " units"]
    """A number for each distinct unit."""
    sizes: Int[np.ndarray, " texts"]
    """How many units each text has."""


def words(texts: Sequence[str]) -> Units:
    """Number the lower-cased words of each text; punctuation is passed over."""
    seen: dict[str, int] = {}
    codes: list[int] = []
    sizes = np.zeros(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        found = _WORD.findall(text[:MAX_CHARACTERS].lower())
        codes.extend(seen.setdefault(word, len(seen)) for word in found)
        sizes[row] = len(found)
    return Units(np.array(codes, dtype=np.int64), sizes)


def characters(texts: Sequence[str]) -> Units:
    """The code points of each text, lower-cased and with runs of white space made one space."""
    plain = [" ".join(text[:MAX_CHARACTERS].lower().split()) for text in texts]
    # A lone surrogate cannot be written as UTF-32; it counts as a question mark.
    flat = "".join(plain).encode("utf-32-le", errors="replace")
    codes = np.frombuffer(flat, dtype="<u4").astype(np.int64)
    return Units(codes, np.array([len(text) for text in plain], dtype=np.int64))


def ngrams(
    units: Units, length: int
) -> tuple[Int[np.ndarray, " grams"], UInt64[np.ndarray, " grams"]]:
    """Every run of `length` units inside a text: (its text's row, a 64-bit key of the run).

    A text shorter than `length` is one run by itself; an empty one has none. Two different runs
    share a key once in 2^64 / runs cases, which no data set will see.
    """
    starts = np.cumsum(units.sizes) - units.sizes
    row_of = np.repeat(np.arange(len(units.sizes)), units.sizes)
    place = np.arange(len(units.codes)) - starts[row_of]
    left = units.sizes[row_of] - place
    first = np.flatnonzero((left >= length) | (place == 0))
    reach = np.minimum(left[first], length)
    # The length of the run is mixed in, so that a short text never equals the head of a long one.
    keys = _mixed(reach.astype(np.uint64))
    for step in range(length):
        inside = np.flatnonzero(step < reach)
        unit = units.codes[first[inside] + step].astype(np.uint64)
        keys[inside] = _mixed(keys[inside] ^ _mixed(unit + np.uint64(step + 1)))
    return row_of[first], keys


def _mixed(keys: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Spread 64-bit keys: two rounds of multiply and shift, wrapping on purpose."""
    keys = (keys + np.uint64(1)) * _MIX
    keys = (keys ^ (keys >> np.uint64(29))) * _MIX
    return keys ^ (keys >> np.uint64(32))
