"""Rewrite each record in a language that turns it around from a marked place on.

Nobody speaks backwards, but a sentence that is read from its end is no harder to predict by counts
of tokens than one that is read from its start. So reversed languages ask whether it is the order
of time that makes a language learnable. A marker R stands at a random place; the rest after it,
or everything, is turned around. The control has the marker too, which there means nothing.

    control   x_1 ... x_i R x_{i+1} ... x_n
    partial   x_1 ... x_i R x_n ... x_{i+1}
    full      x_n ... x_{i+1} R x_i ... x_1          i uniform in 0, ..., n

The place i of a record is the same in all three. The texts are written as tokens with blanks
between them: train on them with `pretrain-lm --tokenizer pieces`.

Differs from the paper:
1. The records are the sentences, whatever they are; where no model's tokenizer is named, byte
   pairs are learnt from the records themselves, instead of taking GPT-2's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from engram.core import EngramError, Paper, Run, Split
from engram.parts.token_pieces import MARKERS, Cutter, check_lengths, rewritten

TURN = MARKERS[0]
LANGUAGES = ("control", "partial", "full")


@dataclass(frozen=True)
class ReverseTokens:
    """The reverse family of impossible languages."""

    paper: ClassVar[Paper] = Paper(
        title="Mission: Impossible Language Models",
        authors="Kallini et al.",
        year=2024,
        url="https://arxiv.org/abs/2401.06416",
    )

    language: Literal["control", "partial", "full"] = "full"
    """What is turned around: nothing, what follows the marker, or everything."""

    tokenizer: str = ""
    """Model whose tokenizer cuts the records; empty: one is learnt from them."""

    vocabulary: int = 2000
    """The most tokens that are learnt; the marker is one more."""

    least: int = 2
    """Records of fewer tokens are left out."""

    most: int = 350
    """Records of more tokens are left out; the marker is not counted."""

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise EngramError(
                f"language is {self.language!r}, but must be one of {', '.join(LANGUAGES)}"
            )
        check_lengths(self.least, self.most, self.vocabulary)

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the records in this language; ids and owners stay."""
        cut = Cutter.of(self.tokenizer, split.texts, self.vocabulary, run).pieces(split.texts)
        rows = [row for row, each in enumerate(cut) if self.least <= len(each) <= self.most]
        spoken = []
        for row in rows:
            rng = run.stream("reverse-tokens", split.ids[row])
            place = int(rng.integers(len(cut[row]) + 1))
            spoken.append(turned(cut[row], place, self.language))
        return rewritten(split, rows, spoken)


def turned(pieces: Sequence[str], place: int, language: str) -> list[str]:
    """The tokens with the marker after the first `place` of them, in one of the languages."""
    before, after = list(pieces[:place]), list(pieces[place:])
    if language == "partial":
        after.reverse()
    whole = [*before, TURN, *after]
    return whole[::-1] if language == "full" else whole
