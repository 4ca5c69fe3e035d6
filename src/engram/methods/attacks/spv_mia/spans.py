"""Which tokens a paraphrase replaces: a few short spans of words, scattered over the text."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engram.core import EngramError, Run, Split
from engram.parts.paraphrasers.fillers import Planner, RandomFiller
from engram.parts.paraphrasers.made import Paraphrases
from engram.parts.paraphrasers.plan import Cut, Plan
from engram.parts.token_scores import check_fraction

TRIES = 5
"""How often a paraphrase that came out as the text itself is made anew."""


@dataclass(frozen=True)
class Spans:
    """How much of a text is replaced.

    Attributes:
        share: Of the words, with the words around a span counted too; in (0, 1].
        span: Words in a span.
        buffer: Words that stay between two spans, at least.
    """

    share: float
    span: int
    buffer: int

    def __post_init__(self) -> None:
        check_fraction("share", self.share, hint="the paper uses 0.3")
        for name, least in (("span", 1), ("buffer", 0)):
            if getattr(self, name) < least:
                raise EngramError(
                    f"{name} is {getattr(self, name)}, but must be at least {least}",
                    hint="the paper has spans of 2 words with 1 word between them",
                )

    @property
    def shortest(self) -> int:
        """Words without which a text is left alone: a span, and one word on either side."""
        return self.span + 2

    def starts(self, words: int, rng: np.random.Generator) -> list[int]:
        """The first word of each span, in the order of the draw; none in a text too short."""
        if words < self.shortest:
            return []
        wanted = max(1, int(self.share * words / (self.span + 2 * self.buffer)))
        free, found = np.ones(words - self.span + 1, bool), []
        while len(found) < wanted and free.any():
            start = int(rng.choice(np.flatnonzero(free)))
            near = self.span + self.buffer
            free[max(0, start - near + 1) : start + near] = False
            found.append(start)
        return found

    def plan(self, words: Sequence[Sequence[int]], rng: np.random.Generator) -> Plan:
        """One paraphrase: the tokens of all words in its spans, and a number for each draw."""
        starts = self.starts(len(words), rng)
        places = sorted(t for a in starts for word in words[a : a + self.span] for t in word)
        return Plan(tuple(places), tuple(rng.random(len(places)).tolist()))


def words_of(cut: Cut, candidates: Sequence[int], fewest: int) -> list[tuple[int, ...]]:
    """The tokens of each word that may be replaced.

    A text of fewer than `fewest` words is taken token by token: some scripts have no spaces.
    """
    starts = [found.start() for found in re.finditer(r"\S+", cut.text)]
    words: list[list[int]] = [[] for _ in starts]
    for token in candidates:
        first, end = cut.spans[token]
        if cut.text[first:end].strip():
            words[bisect_right(starts, end - 1) - 1].append(token)
    filled = [tuple(word) for word in words if word]
    return filled if len(filled) >= fewest else [(t,) for word in filled for t in word]


def paraphrased(
    filler: RandomFiller, split: Split, count: int, spans: Spans, run: Run
) -> Paraphrases:
    """`count` paraphrases of each record that is long enough, all in one split."""
    made = filler.paraphrases(split, _planner(count, spans, run, 0), run, "paraphrases", again=True)
    for attempt in range(1, TRIES):
        same = [place for place, (row, _, text) in enumerate(made) if text == split.texts[row]]
        if not same:
            break
        rows = sorted({made[place][0] for place in same})
        planner = _planner(count, spans, run, attempt)
        anew = filler.paraphrases(split.take(rows), planner, run, "paraphrases", again=True)
        texts = {(rows[row], number): text for row, number, text in anew}
        for place in same:
            row, number, _ = made[place]
            made[place] = (row, number, texts[row, number])
    return Paraphrases.of(split, made, "paraphrases")


def _planner(count: int, spans: Spans, run: Run, attempt: int) -> Planner:
    def plans(cut: Cut, candidates: Sequence[int], record: str) -> tuple[Plan, ...]:
        words = words_of(cut, candidates, spans.shortest)
        if len(words) < spans.shortest:
            return ()
        rng = run.stream("spv-mia paraphrases", record, attempt)
        return tuple(spans.plan(words, rng) for _ in range(count))

    return plans
