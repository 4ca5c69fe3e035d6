"""Rewrite each record in a language whose verbs are inflected some tokens or words later.

Human languages do not count words. Here a verb in the third person of the present loses its ending
(`barks` becomes `bark`), and a marker says whether it was singular (S) or plural (P): right after
the verb, as an ending would, or after exactly so many tokens or words. Counting is easy to state
and unheard of in human grammar: do models learn it as well?

    control   he clean S his very messy bookshelf today .
    tokens    he clean his very mess y S bookshelf today .       4 tokens after the verb
    words     he clean his very messy bookshelf S today .        4 words after the verb

Punctuation and clitics ('s, n't) are no words here, nor are other markers. Records in which some
marker would have to stand beyond the end are left out of all languages; those without such a verb
are kept in all. The records need notes on their words: see `columns`. The texts are written as
tokens with blanks between them: train on them with `pretrain-lm --tokenizer pieces`.

Differs from the paper:
1. The notes are given with the records (a treebank's, say) instead of made by a tagger.
2. Words are cut into tokens one by one, so that a token belongs to one word; where no model's
   tokenizer is named, byte pairs are learnt from the records themselves.
3. Tokens are counted over the sentence without markers, and blanks are as in the record.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from engram.core import EngramError, Paper, Run, Split
from engram.parts.token_pieces import ANNOTATIONS, MARKERS, Cutter, check_lengths, rewritten

SINGULAR, PLURAL = MARKERS[1:]
LANGUAGES = ("control", "tokens", "words")
CLITICS = frozenset({"n't", "'ll", "'s", "'re", "'ve", "'m", "'d"})
PUNCTUATION = frozenset(string.punctuation)
APOSTROPHE = "\u2019"
"""The typographic one."""


@dataclass(frozen=True)
class HopMarkers:
    """The hop family of impossible languages."""

    paper: ClassVar[Paper] = Paper(
        title="Mission: Impossible Language Models",
        authors="Kallini et al.",
        year=2024,
        url="https://arxiv.org/abs/2401.06416",
    )
    columns: ClassVar[tuple[str, ...]] = ANNOTATIONS
    """What the records must say of their words, one entry a word: `words`, `lemmas`, `upos` and
    `feats` as Universal Dependencies have them, and `blanks`: whether one follows the word."""

    language: Literal["control", "tokens", "words"] = "words"
    """Where the marker stands: after the verb, or after `hop` tokens or words more."""

    hop: int = 4
    """How many tokens or words the marker hops over."""

    tokenizer: str = ""
    """Model whose tokenizer cuts the words; empty: one is learnt from the records."""

    vocabulary: int = 2000
    """The most tokens that are learnt; the two markers are more."""

    least: int = 2
    """Records of fewer tokens are left out."""

    most: int = 350
    """Records of more tokens are left out; markers are not counted."""

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise EngramError(
                f"language is {self.language!r}, but must be one of {', '.join(LANGUAGES)}"
            )
        if self.hop < 1:
            raise EngramError(f"hop is {self.hop}, but must be at least 1", hint="the paper has 4")
        check_lengths(self.least, self.most, self.vocabulary)

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the records in this language; ids and owners stay."""
        if missing := [name for name in self.columns if name not in split.columns]:
            raise EngramError(
                f"hop-markers needs to know the words of a record, but split {split.name!r} has "
                f"no column {missing[0]!r}",
                hint=f"it needs {', '.join(self.columns)}, lists with an entry a word; "
                "the data set ud-english-ewt has them",
            )
        noted = [Noted.of(row) for row in split.records.select(list(self.columns)).to_pylist()]
        cutter = Cutter.of(
            self.tokenizer, ["".join(each.spelt) for each in noted], self.vocabulary, run
        )
        forms = list(dict.fromkeys(form for each in noted for form in each.spelt))
        cut = dict(zip(forms, cutter.pieces(forms), strict=True))
        rows, spoken = [], []
        for row, each in enumerate(noted):
            pieces = [cut[form] for form in each.spelt]
            slots = each.slots(pieces, self.hop)
            total = sum(map(len, pieces))
            if slots is not None and self.least <= total <= self.most:
                rows.append(row)
                spoken.append(marked(pieces, each.verbs, slots[self.language]))
        return rewritten(split, rows, spoken)


@dataclass(frozen=True)
class Noted:
    """What a record says of its words.

    Attributes:
        words: Their forms, verbs of the third person in the present by their lemma.
        spelt: The same, after a blank where there is one.
        upos: Their parts of speech.
        verbs: Which words those verbs are, and the marker of each.
    """

    words: tuple[str, ...]
    spelt: tuple[str, ...]
    upos: tuple[str, ...]
    verbs: dict[int, str]

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Noted":
        """From one record's columns."""
        verbs = {i: m for i, feats in enumerate(row["feats"]) if (m := marker_of(feats or ""))}
        words = [
            (lemma or word) if i in verbs else word
            for i, (word, lemma) in enumerate(zip(row["words"], row["lemmas"], strict=True))
        ]
        before = [False, *row["blanks"]][: len(words)]
        spelt = [" " * blank + word for blank, word in zip(before, words, strict=True)]
        return cls(tuple(words), tuple(spelt), tuple(row["upos"]), verbs)

    def slots(self, pieces: Sequence[Sequence[str]], hop: int) -> dict[str, list[int]] | None:
        """By language, after how many tokens each marker stands; None where one has no place."""
        ends = [0]
        for each in pieces:
            ends.append(ends[-1] + len(each))
        control = [ends[verb + 1] for verb in self.verbs]
        words = [word_after(self.words, self.upos, verb, hop) for verb in self.verbs]
        if None in words or any(slot + hop > ends[-1] for slot in control):
            return None
        return {
            "control": control,
            "tokens": [slot + hop for slot in control],
            "words": [ends[word + 1] for word in words if word is not None],
        }


def marker_of(feats: str) -> str:
    """S or P for a finite verb of the third person in the present; else nothing."""
    found = set(feats.split("|"))
    if not {"Person=3", "Tense=Pres", "VerbForm=Fin"} <= found:
        return ""
    return SINGULAR * ("Number=Sing" in found) or PLURAL * ("Number=Plur" in found)


def word_after(words: Sequence[str], upos: Sequence[str], verb: int, hop: int) -> int | None:
    """The word that a marker stands after: the `hop`-th after the verb, with its clitics."""
    counted = 0
    for place in range(verb + 1, len(words)):
        if is_word(words[place], upos[place]):
            counted += 1
        if counted == hop:
            return _with_clitics(words, place)
    return None


def is_word(form: str, upos: str) -> bool:
    """Whether a form counts as a word: it is neither punctuation nor a clitic."""
    return not (upos == "PUNCT" or _is_clitic(form) or set(form) <= PUNCTUATION)


def _is_clitic(form: str) -> bool:
    return form.replace(APOSTROPHE, "'").lower() in CLITICS


def _with_clitics(words: Sequence[str], place: int) -> int:
    while place + 1 < len(words) and _is_clitic(words[place + 1]):
        place += 1
    return place


def marked(
    pieces: Sequence[Sequence[str]], verbs: dict[int, str], slots: Sequence[int]
) -> list[str]:
    """All tokens, with each verb's marker in its slot; in one slot, in the order of the verbs."""
    at: dict[int, list[str]] = {}
    for marker, slot in zip(verbs.values(), slots, strict=True):
        at.setdefault(slot, []).append(marker)
    whole = [piece for each in pieces for piece in each]
    made = list(at.get(0, []))
    for place, piece in enumerate(whole, 1):
        made += [piece, *at.get(place, [])]
    return made
