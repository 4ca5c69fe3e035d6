"""The tokens of a sentence with any secret in it, mostly without asking the tokenizer again."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from engram.methods.measures.exposure.reading import Rows
from engram.parts.canary_secrets import Secret

CHECKED = 16
"""Secrets on which tokens that were put together are compared with the tokenizer's own."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """One sentence and its tokens.

    Attributes:
        secret: The sentence.
        tokenizer: What cuts it into tokens.
        base: Its tokens with zeros for a secret.
        slots: Which of these tokens each digit is; None where digits are not tokens of their own.
        numbers: The token of each digit in each place.
    """

    secret: Secret
    tokenizer: Any
    base: Int[np.ndarray, " width"]
    slots: Int[np.ndarray, " digits"] | None
    numbers: Int[np.ndarray, "digits 10"]

    @classmethod
    def of(cls, tokenizer: Any, secret: Secret, rng: np.random.Generator) -> "Candidates":
        """See where digits stand among the tokens, and check it on random secrets."""
        length = len(secret.places)
        singles = np.zeros((length, 10, length), np.int64)
        for place in range(length):
            singles[place, :, place] = np.arange(10)
        rows = Rows.of(tokenizer, [secret.holding(d) for d in singles.reshape(-1, length)])
        plain = cls(secret, tokenizer, rows.table[0], None, np.zeros((length, 10), np.int64))
        if len(set(rows.lengths.tolist())) > 1:
            return plain
        table = rows.table.reshape(length, 10, -1)
        changed = (table != table[:, :1]).any(axis=1)
        if not (changed.sum(axis=1) == 1).all():
            return plain
        slots = changed.argmax(axis=1)
        numbers = np.take_along_axis(table, slots[:, None, None], axis=2)[:, :, 0]
        made = cls(secret, tokenizer, rows.table[0], slots, numbers)
        some = rng.integers(0, 10, (CHECKED, length))
        given, expected = made.rows(some), plain.rows(some)
        return made if np.array_equal(given.table, expected.table) else plain

    @property
    def single(self) -> bool:
        """Whether each digit is one token, so that all secrets have as many tokens."""
        return self.slots is not None

    def rows(self, digits: Int[np.ndarray, "n digits"]) -> Rows:
        """Tokens of the sentence with each of these secrets."""
        if self.slots is None:
            return Rows.of(self.tokenizer, [self.secret.holding(each) for each in digits])
        table = np.tile(self.base, (len(digits), 1))
        table[:, self.slots] = np.take_along_axis(self.numbers, digits.T, axis=1).T
        return Rows(table, np.full(len(digits), len(self.base)))
