"""Who proposes what could stand in a token's place: pure chance here, models in `models`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from engram.core import Run, Split
from engram.methods.attacks.neighbourhood.plan import Cut, Pieces, Plan, plans

Made = list[tuple[int, int, str]]
"""Neighbours as (row of the record, number of the neighbour from 1, text)."""
Draws = dict[tuple[int, int, int], int]
"""The token drawn for each (record, neighbour, place)."""
CHUNK = 256
"""Records whose proposals are made together: memory does not grow with the split."""


def draws_from(
    logits: Float[np.ndarray, " vocabulary"],
    allowed: Bool[np.ndarray, " vocabulary"],
    original: int,
    uniforms: Sequence[float],
) -> list[int]:
    """Draw allowed tokens other than `original` with probability exp(logits), renormalised.

    Args:
        logits: Any constant away from log-probabilities, in nats.
        allowed: Which tokens may be drawn; at least one beside the original.
        original: The token that stood there.
        uniforms: One number in [0, 1) for each draw: inverse transform sampling.
    """
    open_to = np.flatnonzero(allowed)
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
        """`count` neighbours of each record, in the order of the records."""
        made: Made = []
        for first in range(0, len(split), CHUNK):
            part = split.take(range(first, min(first + CHUNK, len(split))))
            cuts = [Cut.of(self.tokenizer, text) for text in part.texts]
            planned = [
                plans(
                    self.candidates(cut),
                    len(cut.ids),
                    count,
                    share,
                    run.stream("neighbourhood", record),
                )
                for cut, record in zip(cuts, part.ids, strict=True)
            ]
            drawn = self.draws(cuts, planned)
            for row, cut in enumerate(cuts):
                for number, plan in enumerate(planned[row]):
                    pieces = {p: self.pieces.texts[drawn[row, number, p]] for p in plan.places}
                    made.append((first + row, number + 1, cut.replaced(pieces)))
            run.progress(first + len(part), len(split), "neighbours")
        return made

    def candidates(self, cut: Cut) -> list[int]:
        """Tokens of the text that may be replaced: here, all."""
        return list(range(len(cut.ids)))

    def draws(self, cuts: list[Cut], planned: list[tuple[Plan, ...]]) -> Draws:
        """A token for everything that the plans replace."""
        open_to = np.flatnonzero(self.pieces.allowed)
        drawn = {}
        for record, cut in enumerate(cuts):
            for number, plan in enumerate(planned[record]):
                for place, uniform in zip(plan.places, plan.uniforms, strict=True):
                    others = open_to[open_to != cut.ids[place]]
                    drawn[record, number, place] = int(others[int(uniform * len(others))])
        return drawn
