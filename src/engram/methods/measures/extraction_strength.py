"""How early in a text a model takes over and writes the rest of it by itself.

Verbatim extraction asks whether a model goes on from one chosen place. This asks from which place
on it does: the sooner, the better it knows the text. Where records have a prompt, only the
response counts, and all of the prompt is given.

    ES(x) = 1 - k / T,   k = fewest leading tokens of x from which on every greedy choice is right

1: the model writes the whole text (or response) unasked; 0: not even its last token.

Greedy decoding writes the rest of a text exactly if each of its choices is right given the true
tokens before, so one pass over the text tells it and nothing is generated.

Differs from the paper: Nowhere that we know.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, Finding, Paper, Run, Split, Target
from engram.parts.response_examples import has_prompts, response_lengths
from engram.stats.intervals import mean_finding
from engram.stats.unlearning import extraction_strength

NAME = "extraction strength"


@dataclass(frozen=True)
class ExtractionStrength:
    """Share of each text that the model writes on its own."""

    paper: ClassVar[Paper] = Paper(
        title="Towards Effective Evaluations and Comparisons for LLM Unlearning Methods",
        authors="Wang et al.",
        year=2025,
        url="https://arxiv.org/abs/2406.09179",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the mean extraction strength on every split."""
        found = [self._number(target, name, split, run) for name, split in splits.items()]
        tags = {"method": "extraction-strength", "better": "lower"}
        return tuple(f.tagged(**tags) for f in found)

    def _number(self, target: Target, name: str, split: Split, run: Run) -> Finding:
        signals = run.tokens(target, split)
        hits = list(signals.ragged(np.asarray(signals.greedy)))
        if has_prompts(split):
            answer = response_lengths(target.model.tokenizer, split)
            hits = [part[-n:] if n else part[:0] for part, n in zip(hits, answer, strict=True)]
        values = np.array([extraction_strength(part) for part in hits if len(part)])
        if len(values) < 2:
            reason = "fewer than two records have tokens to be written"
            return Finding.missing(NAME, reason, len(values)).tagged(split=name)
        rng = run.stream("extraction-strength", name)
        return mean_finding(values, NAME, "", rng).tagged(split=name)
