"""How many tokens a masked language model hesitates between, on average, when one is hidden.

A masked language model has no perplexity, for it gives a text no probability. But each token can
be hidden in turn, and the model asked for it with everything else in view. How unsure it is then,
over all tokens, reads like a perplexity: lower is a better model; much lower on members than on
outsiders is a model that has learnt its members by heart.

    pseudo-perplexity = exp( - sum over all tokens of log p(x_t | all other tokens) / their number )

Every token counts the same, so long records count more. The 95 % interval resamples records. It
costs a pass of the model a token. Numbers of models with different tokenizers, or perplexities
of causal models, are not on the same scale.

Differs from the paper: 1. A text that is longer than the context is read in windows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from engram import families
from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.record_bootstrap import ratio_interval

LARGEST = 700.0
"""exp(709.8) is the largest number of double precision."""


@dataclass(frozen=True)
class PseudoPerplexity:
    """Token-weighted pseudo-perplexity on every split."""

    paper: ClassVar[Paper] = Paper(
        title="Masked Language Model Scoring",
        authors="Salazar et al.",
        year=2020,
        url="https://arxiv.org/abs/1910.14659",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"energies"})
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
        """Return the pseudo-perplexity on each split, in the order given."""
        return tuple(self.on(name, target, split, run) for name, split in splits.items())

    def on(self, name: str, target: Target, split: Split, run: Run) -> Finding:
        """The number on one split; missing where fewer than two records can be asked about."""
        family: Any = families.find(target.family)
        lengths = family.windows(target.model, split).per_record().astype(np.float64)

        def work() -> np.ndarray:
            return family.energies(target.model, split, "norm", progress=run.progress)

        energies = run.computed("energies", target, split, {"energy": "norm"}, work)
        nll, lengths = (energies * lengths)[lengths > 0], lengths[lengths > 0]
        tags = {"method": "pseudo-perplexity", "split": name, "better": "lower"}
        if len(nll) < 2:
            reason = "fewer than two records have tokens that can be masked"
            return Finding.missing("pseudo-perplexity", reason, len(nll)).tagged(**tags)
        rng = run.stream("pseudo-perplexity", name)
        low, high = ratio_interval(nll, lengths, rng, self.resamples)
        if high > LARGEST:
            reason = f"the mean loss is {nll.sum() / lengths.sum():.0f} nats: too large to state"
            return Finding.missing("pseudo-perplexity", reason, len(nll)).tagged(**tags)
        low, value, high = (float(np.exp(x)) for x in (low, nll.sum() / lengths.sum(), high))
        return Finding("pseudo-perplexity", value, low, high, len(nll)).tagged(**tags)
