"""At which layer and place a model keeps the number of the verb until the marker is due.

Between a verb and a marker that follows some words later, the model must remember whether the verb
was singular or plural. To find where, exchange what it computes: read a beginning that is to go on
with the singular marker, but put in, at one layer and one place, the vector that the model had
there when it read a beginning that goes on with the plural marker. If the plural marker is now
the likelier one, then that vector carries the number.

    accuracy(layer, place) = share of pairs with
        p(P | base, h[layer, place] <- h_source[layer, place]) > p(S | the same)

Layer l is the residual stream after block l; places are counted back from the last token before
the marker, which is place 0. After the last block only place 0 can matter, and there the answer is
the source's own, so the accuracy is 1 there and 0 elsewhere.

Differs from the paper:
1. Base and source are beginnings of different records, aligned at their ends; the paper fills a
   template, so that both differ in the number of one noun alone.
2. Only pairs count in which the model prefers the right marker in both beginnings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int
from torch import nn

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.methods.measures.interchange_accuracy.exchange import (
    BATCH,
    Batch,
    blocks_of,
    exchanged,
    preferred,
    residual,
    right,
)
from engram.parts.blank_pieces import words_of
from engram.parts.token_examples import encode
from engram.parts.token_pieces import MARKERS
from engram.stats.intervals import proportion


@dataclass(frozen=True)
class InterchangeAccuracy:
    """Share of pairs whose marker changes with one vector, by layer and place."""

    paper: ClassVar[Paper] = Paper(
        title="Mission: Impossible Language Models",
        authors="Kallini et al.",
        year=2024,
        url="https://arxiv.org/abs/2401.06416",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "weights"

    markers: tuple[str, str] = MARKERS[1:]
    """The marker of the base and that of the source, as they are written in the records."""

    places: int = 6
    """How many tokens before the marker are tried."""

    pairs: int = 64
    """The most pairs: a random sample."""

    def __post_init__(self) -> None:
        for name in ("places", "pairs"):
            if getattr(self, name) < 1:
                raise EngramError(f"{name} is {getattr(self, name)}, but must be at least 1")

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the accuracy at each layer and place, on each split."""
        found = []
        for name, split in splits.items():
            rng = run.stream("interchange-accuracy", name)
            for number in self.on(target, split, rng):
                found.append(number.tagged(method="interchange-accuracy", split=name))
        return tuple(found)

    def on(self, target: Target, split: Split, rng: np.random.Generator) -> list[Finding]:
        """The accuracies on one split; missing where there are no pairs."""
        target.require("weights", "interchange-accuracy")
        model, tokenizer = target.model.model, target.model.tokenizer
        model.eval()
        layers = len(blocks_of(model))
        ids = [tokenizer.convert_tokens_to_ids(marker) for marker in self.markers]
        sides: list[list[list[int]]] = [[], []]
        if None not in ids:
            sides = [
                right(model, self.beginnings(tokenizer, split, marker, rng), ids, wanted)
                for wanted, marker in enumerate(self.markers)
            ]
        count = min(self.pairs, *map(len, sides))
        hits = np.zeros((layers, self.places), np.int64)
        for first in range(0, count, BATCH):
            base, source = (Batch.of(side[first : min(count, first + BATCH)]) for side in sides)
            hits += self.hits(model, base, source, ids)
        return [
            proportion(int(hits[layer, place]), count, f"accuracy layer {layer + 1} place {-place}")
            for layer in range(layers)
            for place in range(self.places)
        ]

    def beginnings(
        self, tokenizer: Any, split: Split, marker: str, rng: np.random.Generator
    ) -> list[list[int]]:
        """What stands before each such marker, as tokens; a random sample of twice the pairs."""
        texts = [
            " ".join(words[:place])
            for words in map(words_of, split.texts)
            for place, word in enumerate(words)
            if word == marker and place >= self.places
        ]
        some = rng.permutation(len(texts))[: 2 * self.pairs]
        return encode(tokenizer, [texts[i] for i in some])

    def hits(
        self, model: nn.Module, base: Batch, source: Batch, ids: Sequence[int]
    ) -> Int[np.ndarray, "layers places"]:
        """In how many pairs the source's marker is the likelier one after each exchange."""
        found = []
        for layer, block in enumerate(blocks_of(model)):
            kept = residual(model, source, layer)
            for place in range(self.places):
                vectors = kept[range(len(kept)), source.ends - place]
                with exchanged(block, base.ends - place, vectors):
                    found.append(int((preferred(model, base, ids) == 1).sum()))
        return np.array(found, np.int64).reshape(-1, self.places)
