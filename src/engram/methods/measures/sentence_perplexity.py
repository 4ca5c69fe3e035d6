"""How many tokens the model hesitates between in a typical sentence.

Perplexity over all tokens lets a few long or strange records decide. To compare how well models
learnt different languages, each sentence is given the same weight: take the perplexity of each,
and then their geometric mean, in which one hopeless sentence does not drown all others.

    perplexity of x = exp( - mean over its tokens t of log p(x_t | x_<t) )
    result          = exp( mean over records of log(perplexity of x) )

The 95 % interval resamples records.

Differs from the paper: Nowhere that we know.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.stats.intervals import mean_finding

LARGEST = 700.0
"""exp(709.8) is the largest number of double precision."""


@dataclass(frozen=True)
class SentencePerplexity:
    """Geometric mean of the records' perplexities, on every split."""

    paper: ClassVar[Paper] = Paper(
        title="Mission: Impossible Language Models",
        authors="Kallini et al.",
        year=2024,
        url="https://arxiv.org/abs/2401.06416",
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
        """Return the mean perplexity of a record on each split, in the order given."""
        return tuple(self.on(name, target, split, run) for name, split in splits.items())

    def on(self, name: str, target: Target, split: Split, run: Run) -> Finding:
        """The number on one split; missing where it has fewer than two scored records."""
        signals = run.tokens(target, split)
        losses = signals.losses()[signals.lengths > 0]
        tags = {"method": "sentence-perplexity", "split": name, "better": "lower"}
        if len(losses) < 2:
            reason = "fewer than two records have tokens that the model scores"
            return Finding.missing("sentence perplexity", reason, len(losses)).tagged(**tags)
        rng = run.stream("sentence-perplexity", name)
        found = mean_finding(losses, "sentence perplexity", "", rng, self.resamples)
        if found.high is None or found.high > LARGEST:
            reason = f"the mean loss is {found.value:.0f} nats: too large to state"
            return Finding.missing("sentence perplexity", reason, len(losses)).tagged(**tags)
        value, low, high = (float(np.exp(x)) for x in (found.value, found.low, found.high))
        return Finding("sentence perplexity", value, low, high, len(losses)).tagged(**tags)
