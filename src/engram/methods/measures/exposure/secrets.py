"""The canaries of a split, each with its secret, and how often it was planted."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from engram.core import EngramError, Split
from engram.parts.canary_secrets import MOST_DIGITS, RUN, Secret, find_secret
from engram.parts.token_examples import encode

SLOT, NAME = "{digits}", "{name}"
LONGEST_NAME = ".{1,200}?"


@dataclass(frozen=True, eq=False)
class Planted:
    """The canaries of a split, each once.

    Attributes:
        split: One record a canary.
        secrets: Their texts and digits.
        copies: How often each stands in the whole split.
        format: What they were recognised by; "" for the last digits.
        note: What was left out.
        nothing: Why there are none, if there are none.
    """

    split: Split
    secrets: tuple[Secret, ...]
    copies: Int[np.ndarray, " n"]
    format: str
    note: str
    nothing: str

    @classmethod
    def of(cls, split: Split, sentence: re.Pattern[str] | None, lm: Any) -> "Planted":
        """All canaries of the split that hold a secret and fit into the model's context."""
        marks = split.canaries or (False,) * len(split)
        rows: dict[str, int] = {}
        copies: Counter[str] = Counter()
        for row in np.flatnonzero(marks).tolist():
            rows.setdefault(split.texts[row], row)
            copies[split.texts[row]] += 1
        found = [(row, find_secret(text, sentence)) for text, row in rows.items()]
        bare = sum(secret is None for _, secret in found)
        kept = [(row, secret) for row, secret in found if secret is not None]
        lengths = map(len, encode(lm.tokenizer, [secret.text for _, secret in kept]))
        fits = [pair for pair, n in zip(kept, lengths, strict=True) if 2 <= n <= lm.context]
        notes = [f"{bare} canaries without a secret of 1 to {MOST_DIGITS} digits left out"] * (
            bare > 0
        )
        if len(fits) < len(kept):
            notes.append(f"{len(kept) - len(fits)} longer than the model's context left out")
        note = "; ".join(notes)
        return cls(
            split.take([row for row, _ in fits], f"{split.name} canaries"),
            tuple(secret for _, secret in fits),
            np.array([copies[secret.text] for _, secret in fits], np.int64),
            sentence.pattern if sentence else "",
            note,
            note or "no canary was planted here",
        )

    @property
    def bits(self) -> Float[np.ndarray, " n"]:
        """The log2 of how many secrets there are for each canary."""
        return np.array([secret.bits for secret in self.secrets])


def pattern_of(sentence: str) -> re.Pattern[str] | None:
    """What texts of a format such as `The secret number of {name} is {digits}.` look like.

    Raises:
        EngramError: The format does not have `{digits}` exactly once.
    """
    if not sentence:
        return None
    if sentence.count(SLOT) != 1:
        raise EngramError(
            f"format is {sentence!r}, but must have {{digits}} once",
            hint="'The secret number of {name} is {digits}.' is one; without a format the last "
            "run of digits in the text is the secret",
        )
    plain = re.escape(sentence)
    named = plain.replace(re.escape(NAME), LONGEST_NAME)
    return re.compile(named.replace(re.escape(SLOT), f"({RUN})"), re.DOTALL)
