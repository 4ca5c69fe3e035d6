"""Records as the pieces that a tokenizer cuts them into, written so that they are not cut again.

What changes the order of tokens must not change which tokens there are. But a text whose words
were put into another order is cut into other tokens. So records are cut first, and then written
as their pieces with a blank between any two: `The dog barks.` becomes `The Ġdog Ġbark s .`, where
Ġ stands for the blank that the piece begins with. A model that takes each run of characters
between blanks as one token (`pretrain-lm --tokenizer pieces`) reads exactly these pieces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engram.core import EngramError, Run, Split
from engram.parts.blank_pieces import words_of
from engram.parts.byte_pairs import byte_pairs

MARKERS = ("<|R|>", "<|S|>", "<|P|>")
"""Reversal, singular, plural: no tokenizer makes these out of a text, since it cuts at `|`."""
ANNOTATIONS = ("words", "lemmas", "upos", "feats", "blanks")
"""Columns that speak of the words of a record one by one, and no longer fit a changed one."""


@dataclass(frozen=True, eq=False)
class Cutter:
    """Cuts texts into pieces; the same for all languages that are made of the same records."""

    tokenizer: Any

    @classmethod
    def of(cls, base: str, texts: Sequence[str], vocabulary: int, run: Run) -> "Cutter":
        """The tokenizer of the model `base`, or byte pairs that are learnt from the texts."""
        if base:
            return cls(run.target(base).model.tokenizer)
        return cls(byte_pairs(texts, vocabulary, 2**20, (), "$A", {}))

    def pieces(self, texts: Sequence[str]) -> list[list[str]]:
        """The pieces of each text, without special tokens."""
        if not texts:
            return []
        found = self.tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        return [self.tokenizer.convert_ids_to_tokens(ids) for ids in found["input_ids"]]


def written(pieces: Sequence[str]) -> str:
    """The pieces with blanks between them, which can be told apart again.

    Raises:
        EngramError: A piece is empty or holds a blank.
    """
    text = " ".join(pieces)
    if words_of(text) != list(pieces):
        bad = next((p for p in pieces if words_of(p) != [p]), text)
        raise EngramError(
            f"the tokenizer has the piece {bad!r}, which is lost between blanks",
            hint="take a byte-level tokenizer, as GPT-2 has one, or let one be learnt",
        )
    return text


def rewritten(split: Split, rows: Sequence[int], pieces: Sequence[Sequence[str]]) -> Split:
    """These records with other texts; ids and owners stay, notes on single words go."""
    kept = split.take(rows).with_texts([written(each) for each in pieces])
    return kept.only([name for name in kept.columns if name not in ANNOTATIONS])


def check_lengths(least: int, most: int, vocabulary: int) -> None:
    """Refuse bounds on the tokens of a record that leave nothing, and a vocabulary of bytes."""
    if not 1 <= least <= most:
        raise EngramError(
            f"least is {least} and most is {most}, but 1 <= least <= most must hold",
            hint="the paper keeps sentences of 2 to 350 tokens",
        )
    if vocabulary < 256:
        raise EngramError(
            f"vocabulary is {vocabulary}, but must be at least 256",
            hint="a byte-level tokenizer begins with the 256 bytes",
        )
