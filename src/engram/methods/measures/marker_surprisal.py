"""How much a model expects a grammatical marker where the language's rule puts it.

In some made languages a marker stands where a rule says: right after a verb, or four words later
(`hop-markers`). A model that learnt the rule is not surprised by the marker in its place; and
there it would rather see the marker than the token that follows when the marker is left out.

    surprisal    = - log2 p(marker | what stands before it)
    preference   = - log2 p(next token | the same, marker left out)  -  surprisal

in bits, averaged over the markers of a record and then over records. The preference compares two
continuations of one beginning; it is above 0 where the marker is the likelier one.

Differs from the paper:
1. A marker that nothing follows has no pair, and counts only for the surprisal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.blank_pieces import words_of
from engram.parts.token_pieces import MARKERS
from engram.stats.intervals import mean_finding

NAMES = ("marker surprisal", "marker preference")
BIT = float(np.log(2))


@dataclass(frozen=True)
class MarkerSurprisal:
    """Surprisal of markers in their places, and against leaving them out."""

    paper: ClassVar[Paper] = Paper(
        title="Mission: Impossible Language Models",
        authors="Kallini et al.",
        year=2024,
        url="https://arxiv.org/abs/2401.06416",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"

    markers: tuple[str, ...] = MARKERS[1:]
    """The markers, as they are written in the records."""

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return both numbers on each split."""
        found = []
        for name, split in splits.items():
            tags = {"method": "marker-surprisal", "split": name}
            for number in self.on(name, target, split, run):
                found.append(number.tagged(**tags))
        return tuple(found)

    def on(self, name: str, target: Target, split: Split, run: Run) -> list[Finding]:
        """The mean surprisal and the mean preference on one split, in bits."""
        words = [words_of(text) for text in split.texts]
        slots = [
            Slot(row, place)
            for row, each in enumerate(words)
            for place, word in enumerate(each)
            if word in self.markers
        ]
        if len({slot.row for slot in slots}) < 2:
            reason = f"fewer than two records have one of {' '.join(self.markers)}"
            return [Finding.missing(each, reason, unit="bits") for each in NAMES]
        here = self.surprisals(target, split, words, slots, run)
        paired = [i for i, slot in enumerate(slots) if slot.place + 1 < len(words[slot.row])]
        pairs = [slots[i] for i in paired]
        preferred = following(target, words, pairs, run) - here[paired]
        rng = run.stream("marker-surprisal", name)
        return [
            mean_of_records(here, slots, NAMES[0], rng),
            mean_of_records(preferred, pairs, NAMES[1], rng),
        ]

    def surprisals(
        self,
        target: Target,
        split: Split,
        words: Sequence[Sequence[str]],
        slots: Sequence["Slot"],
        run: Run,
    ) -> Float[np.ndarray, " slots"]:
        """Of each marker in its place, in bits."""
        signals = run.tokens(target, split)
        for row in {slot.row for slot in slots}:
            if len(words[row]) != (read := int(signals.lengths[row])):
                raise EngramError(
                    f"record {split.ids[row]!r} is written as {len(words[row])} tokens, but "
                    f"target {target.name!r} scores {read}",
                    hint="train it on such records with `pretrain-lm --tokenizer pieces`",
                )
        at = [int(signals.offsets[slot.row]) + slot.place for slot in slots]
        return -np.asarray(signals.logprob, np.float64)[at] / BIT


@dataclass(frozen=True)
class Slot:
    """Where a marker stands: the record, and which of its tokens."""

    row: int
    place: int


def following(
    target: Target, words: Sequence[Sequence[str]], slots: Sequence[Slot], run: Run
) -> Float[np.ndarray, " slots"]:
    """Surprisal of the token after each marker, had the marker been left out; in bits."""
    texts = [
        " ".join([*words[slot.row][: slot.place], words[slot.row][slot.place + 1]])
        for slot in slots
    ]
    table = pa.table({"text": pa.array(texts, pa.string())})
    signals = run.tokens(target, Split.from_table("markers left out", table))
    return -np.asarray(signals.logprob, np.float64)[np.asarray(signals.offsets)[1:] - 1] / BIT


def mean_of_records(
    values: Float[np.ndarray, " slots"],
    slots: Sequence[Slot],
    name: str,
    rng: np.random.Generator,
) -> Finding:
    """Averaged inside each record first, since the markers of one are not independent."""
    rows = np.array([slot.row for slot in slots], np.int64)
    means = np.array([values[rows == row].mean() for row in np.unique(rows)])
    if len(means) < 2:
        reason = "fewer than two records have a token after a marker"
        return Finding.missing(name, reason, len(means), "bits")
    return mean_finding(means, name, "bits", rng)
