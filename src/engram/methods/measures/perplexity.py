"""How many tokens the model hesitates between, on average, when it reads these records.

A perplexity of 20 means that the model is as unsure of each token as if it had to choose
between 20 equally likely ones. Lower is a better model; much lower on members than on
outsiders is a model that has learnt its members by heart.

    perplexity = exp( - sum over all tokens of log p(x_t | x_<t) / number of tokens )

Every token counts the same, so long records count more. The 95 % interval resamples records, or
owners where they are known.

Differs from the paper: Nowhere that we know.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.record_bootstrap import by_owner, ratio_interval, resampled_by

LARGEST = 700.0
"""exp(709.8) is the largest number of double precision."""


@dataclass(frozen=True)
class Perplexity:
    """Token-weighted perplexity on every split."""

    paper: ClassVar[Paper] = Paper(
        title="Perplexity - a measure of the difficulty of speech recognition tasks",
        authors="Jelinek et al.",
        year=1977,
        url="https://doi.org/10.1121/1.2016299",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"

    resamples: int = 1000
    """Bootstrap resamples behind the interval."""

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise EngramError(
                f"resamples is {self.resamples}, but must be at least 100", hint="1000 is usual"
            )

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the perplexity on each split, in the order given."""
        return tuple(self.on(name, target, split, run) for name, split in splits.items())

    def on(self, name: str, target: Target, split: Split, run: Run) -> Finding:
        """The perplexity on one split; missing where it has fewer than two scored records."""
        signals = run.tokens(target, split)
        lengths = signals.lengths.astype(np.float64)
        nll = signals.losses() * lengths
        scored = lengths > 0
        records = split if scored.all() else split.where(scored)
        nll, lengths = nll[scored], lengths[scored]
        tags = {"method": "perplexity", "split": name, "better": "lower"}
        if len(nll) < 2:
            reason = "fewer than two records have tokens that the model scores"
            return Finding.missing("perplexity", reason, len(nll)).tagged(**tags)
        rng = run.stream("perplexity", name)
        low, high = ratio_interval(*by_owner(records, nll, lengths), rng, self.resamples)
        if high > LARGEST:
            reason = f"the mean loss is {nll.sum() / lengths.sum():.0f} nats: too large to state"
            return Finding.missing("perplexity", reason, len(nll)).tagged(**tags)
        value = float(nll.sum() / lengths.sum())
        low, value, high = (float(np.exp(x)) for x in (low, value, high))
        note = resampled_by([records])
        return Finding("perplexity", value, low, high, len(nll), note=note).tagged(**tags)
