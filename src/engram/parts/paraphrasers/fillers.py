"""Who proposes what could stand in a token's place: pure chance here, models in `models`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from engram.core import Run, Split
from engram.parts.paraphrasers.plan import Cut, Pieces, Plan, plans

Made = list[tuple[int, int, str]]
"""Paraphrases as (row of the record, number of the paraphrase from 1, text)."""
Draws = dict[tuple[int, int, int], int]
"""The token drawn for each (record, paraphrase, place)."""
Planner = Callable[[Cut, Sequence[int], str], tuple[Plan, ...]]
"""(text, tokens that may be replaced, id of the record) -> one plan a paraphrase."""
CHUNK = 256
"""Records whose proposals are made together: memory does not grow with the split."""


def draws_from(
    logits: Float[np.ndarray, " vocabulary"],
    allowed: Bool[np.ndarray, " vocabulary"],
    original: int | None,
    uniforms: Sequence[float],
) -> list[int]:
    """Draw allowed tokens other than `original` with probability exp(logits), renormalised.

    Args:
        logits: Any constant away from log-probabilities, in nats.
        allowed: Which tokens may be drawn; at least one beside the original.
        original: The token that stood there; None where it may be drawn again.
        uniforms: One number in [0, 1) for each draw: inverse transform sampling.
    """
    open_to = np.flatnonzero(allowed)
    if original is not None:
        open_to = open_to[open_to != original]
    weights = np.exp(logits[open_to] - logits[open_to].max())
    cumulated = np.cumsum(weights)
    places = np.searchsorted(cumulated, np.asarray(uniforms) * cumulated[-1], side="right")
    return open_to[np.minimum(places, len(open_to) - 1)].tolist()


@dataclass(frozen=True, eq=False)
class RandomFiller:
    """Draws from the whole vocabulary, each token alike; model fillers build on it."""

    tokenizer: Any

    @cached_property
    def pieces(self) -> Pieces:
        """What each token of the vocabulary stands for."""
        return Pieces.of(self.tokenizer)

    def neighbours(self, split: Split, count: int, share: float, run: Run) -> Made:
        """`count` copies of each record with a share of its tokens replaced by other ones."""

        def planner(cut: Cut, candidates: Sequence[int], record: str) -> tuple[Plan, ...]:
            rng = run.stream("neighbourhood", record)
            return plans(candidates, len(cut.ids), count, share, rng)

        return self.paraphrases(split, planner, run, "neighbours")

    def paraphrases(
        self, split: Split, planner: Planner, run: Run, what: str, *, again: bool = False
    ) -> Made:
        """What the plans make of each record, in the order of the records.

        Args:
            split: Records with a column `text`.
            planner: Says which tokens of a record are replaced.
            run: Told of the progress.
            what: What is made, for the progress.
            again: Whether the token that stood in a place may be drawn for it again.
        """
        made: Made = []
        for first in range(0, len(split), CHUNK):
            part = split.take(range(first, min(first + CHUNK, len(split))))
            cuts = [Cut.of(self.tokenizer, text) for text in part.texts]
            planned = [
                planner(cut, self.candidates(cut), record)
                for cut, record in zip(cuts, part.ids, strict=True)
            ]
            drawn = self.draws(cuts, planned, again)
            for row, cut in enumerate(cuts):
                for number, plan in enumerate(planned[row]):
                    pieces = {p: self.pieces.texts[drawn[row, number, p]] for p in plan.places}
                    made.append((first + row, number + 1, cut.replaced(pieces)))
            run.progress(first + len(part), len(split), what)
        return made

    def candidates(self, cut: Cut) -> list[int]:
        """Tokens of the text that may be replaced: here, all."""
        return list(range(len(cut.ids)))

    def draws(self, cuts: list[Cut], planned: list[tuple[Plan, ...]], again: bool) -> Draws:
        """A token for everything that the plans replace."""
        open_to = np.flatnonzero(self.pieces.allowed)
        drawn = {}
        for record, cut in enumerate(cuts):
            for number, plan in enumerate(planned[record]):
                for place, uniform in zip(plan.places, plan.uniforms, strict=True):
                    others = open_to if again else open_to[open_to != cut.ids[place]]
                    drawn[record, number, place] = int(others[int(uniform * len(others))])
        return drawn
