"""Where a text is changed: tokens with their places in the text, and which of them to replace."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool

from engram.core import EngramError


@dataclass(frozen=True)
class Cut:
    """A text cut into tokens.

    Attributes:
        text: The text itself.
        before: Special tokens that the tokenizer puts in front.
        ids: The text's own tokens.
        spans: Which characters each of them stands for; together they cover the text.
        after: Special tokens behind.
    """

    text: str
    before: tuple[int, ...]
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any, text: str) -> "Cut":
        """Cut one text; white space between two tokens counts to the second one."""
        got = tokenizer(
            text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False
        )
        special, ids = got["special_tokens_mask"], got["input_ids"]
        own = [place for place, mark in enumerate(special) if not mark]
        first, last = (own[0], own[-1] + 1) if own else (len(ids), len(ids))
        ends = [0, *(end for _, end in got["offset_mapping"][first:last])]
        spans = tuple(pairwise(ends))
        return cls(text, tuple(ids[:first]), tuple(ids[first:last]), spans, tuple(ids[last:]))

    def windows(self, context: int) -> list[tuple[int, int]]:
        """Ranges of the text's tokens that fit a model's context, special tokens included."""
        size = max(1, context - len(self.before) - len(self.after))
        return [(a, min(a + size, len(self.ids))) for a in range(0, len(self.ids), size)]

    def replaced(self, changes: Mapping[int, str]) -> str:
        """The text with some tokens' characters replaced; all others stay to the letter."""
        parts, done = [], 0
        for place in sorted(changes):
            start, end = self.spans[place]
            piece = changes[place]
            parts.append(self.text[done:start])
            # At the start of a text (and of a line) no tokenizer's own space belongs.
            parts.append(piece.lstrip() if start == 0 and not self.text[:1].isspace() else piece)
            done = end
        return "".join([*parts, self.text[done:]])


@dataclass(frozen=True)
class Plan:
    """For one paraphrase: the tokens to replace, and the random number that decides each draw."""

    places: tuple[int, ...]
    uniforms: tuple[float, ...]


def plans(
    candidates: Sequence[int], tokens: int, neighbours: int, share: float, rng: np.random.Generator
) -> tuple[Plan, ...]:
    """One plan a neighbour; none where nothing can be replaced.

    Args:
        candidates: Tokens that may be replaced.
        tokens: How many tokens the text has; `share` of them are replaced, at least one.
        neighbours: How many plans to make.
        share: In (0, 1].
        rng: The record's own stream, so that other records do not change the draws.
    """
    if not len(candidates):
        return ()
    size = min(len(candidates), max(1, round(share * tokens)))
    made = []
    for _ in range(neighbours):
        places = np.sort(rng.choice(np.asarray(candidates), size, replace=False))
        made.append(Plan(tuple(places.tolist()), tuple(rng.random(size).tolist())))
    return tuple(made)


@dataclass(frozen=True, eq=False)
class Pieces:
    """What each token of a vocabulary adds to a text, and which tokens may be proposed."""

    texts: tuple[str, ...]
    allowed: Bool[np.ndarray, " vocabulary"]

    @classmethod
    def of(cls, tokenizer: Any) -> "Pieces":
        """Decode every token behind an ordinary one, so that its own space shows.

        Raises:
            EngramError: The tokenizer cannot say where its tokens stand, or has too few.
        """
        if not getattr(tokenizer, "is_fast", False):
            raise EngramError(
                f"the tokenizer {type(tokenizer).__name__} cannot say where its tokens stand",
                hint="convert it to a fast one (tokenizer.json), or leave this attack out",
            )
        anchor = next(iter(Cut.of(tokenizer, "a").ids), 0)
        keep = {"clean_up_tokenization_spaces": False, "skip_special_tokens": False}
        front = len(tokenizer.decode([anchor], **keep))
        pairs = [[anchor, token] for token in range(len(tokenizer))]
        texts = tuple(text[front:] for text in tokenizer.batch_decode(pairs, **keep))
        special = set(tokenizer.all_special_ids)
        allowed = np.array(
            [
                i not in special and bool(t.strip()) and "\ufffd" not in t
                for i, t in enumerate(texts)
            ]
        )
        if allowed.sum() < 2:
            raise EngramError(
                f"the vocabulary has {allowed.sum()} tokens that stand for text",
                hint="take another filler model",
            )
        return cls(texts, allowed)
