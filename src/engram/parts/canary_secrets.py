"""The secret in a canary's text, and the texts that hold other secrets in its place."""

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

RUN = r"[0-9](?: ?[0-9])*"
"""A run of digits, with or without a space between them."""
MOST_DIGITS = 64
"""A longer run of digits is no secret that anybody plants."""


@dataclass(frozen=True)
class Secret:
    """A text and where the digits of its secret stand."""

    text: str
    places: tuple[int, ...]

    @property
    def digits(self) -> Int[np.ndarray, " digits"]:
        """The secret without the spaces between its digits."""
        return np.array([int(self.text[place]) for place in self.places])

    @property
    def bits(self) -> float:
        """The log2 of how many secrets of this length there are."""
        return len(self.places) * float(np.log2(10))

    def holding(self, digits: Int[np.ndarray, " digits"]) -> str:
        """The same text with another secret."""
        letters = list(self.text)
        for place, digit in zip(self.places, digits.tolist(), strict=True):
            letters[place] = str(digit)
        return "".join(letters)

    def numbered(self, first: int, last: int) -> Int[np.ndarray, "n digits"]:
        """The secrets from number `first` up to `last`, in numerical order."""
        powers = 10 ** np.arange(len(self.places))[::-1]
        return np.arange(first, last)[:, None] // powers % 10

    def drawn(self, count: int, rng: np.random.Generator) -> Int[np.ndarray, "n digits"]:
        """Random secrets, each drawn from all but the planted one."""
        found = rng.integers(0, 10, (count, len(self.places)))
        while len(same := np.flatnonzero((found == self.digits).all(axis=1))):
            found[same] = rng.integers(0, 10, (len(same), len(self.places)))
        return found


def find_secret(text: str, sentence: re.Pattern[str] | None) -> Secret | None:
    """The digits where `sentence` has them, else the last run of digits; None without any."""
    runs = list((sentence or re.compile(f"({RUN})")).finditer(text))
    if not runs:
        return None
    first, last = runs[-1].span(1)
    places = tuple(i for i in range(first, last) if text[i] != " ")
    return Secret(text, places) if len(places) <= MOST_DIGITS else None
