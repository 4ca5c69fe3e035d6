"""Which share of the records the model goes on writing word for word, seen from outside.

Whoever may only ask a model to write can still ask it for the rest of a text that he knows the
beginning of. Give it the first part of a record and let it write on, always its likeliest token:
if the next `suffix` words are the record's own, the record can be read out of the model. This
needs neither probabilities nor the model's tokens, so it also works through a server.

    extracted(x)  = the first S words of greedy(prefix of x) are the next S words of x
    rate          = share of records extracted, with its exact interval
    words         = mean over records of the leading words that are right, of S

The same numbers on outsiders tell how much can be guessed without having been memorised.

Differs from the paper: 1. The paper cuts prompt and continuation by tokens, 50 and more; we cut by
words, since text access does not tell the tokens. 2. The prompt is the start of the record, a
share of its words. 3. Records with fewer than S words after the prompt are left out, and counted.
4. Of more than `sample` records a random sample is asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.continuations import check_cut, cut_at, leading, tokens_for
from engram.stats.intervals import mean_finding, proportion


@dataclass(frozen=True)
class VerbatimContinuation:
    """Extraction through text access alone."""

    paper: ClassVar[Paper] = Paper(
        title="Quantifying Memorization Across Neural Language Models",
        authors="Carlini et al.",
        year=2023,
        url="https://arxiv.org/abs/2202.07646",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"text"})
    access: ClassVar[Access] = "text"

    given: float = 0.5
    """Share of a record's words that the model is given."""
    suffix: int = 10
    """Words that it must reproduce exactly; about the 50 tokens of the paper are 35."""
    words: int = 256
    """Words of a record that are used."""
    tokens_per_word: float = 3.0
    """Tokens that the model may write for each word of the suffix."""
    sample: int = 256
    """The most records of a split that are asked about: a random sample."""

    def __post_init__(self) -> None:
        check_cut(self.given, self.words, self.tokens_per_word)
        for name in ("suffix", "sample"):
            if getattr(self, name) < 1:
                raise EngramError(
                    f"{name} is {getattr(self, name)}, but must be at least 1",
                    hint="10 words in a row are hardly ever written by chance",
                )

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the extraction rate and the share of leading words, on every split."""
        found = []
        for name, split in splits.items():
            right, asked, short = self.right_words(target, split, run, name)
            notes = [f"{short} records too short for {self.suffix} words left out"] if short else []
            notes += [f"on a sample of {self.sample:,}"] if asked < len(split) - short else []
            tags = {"method": "verbatim-continuation", "split": name, "better": "lower"}
            for number in self.findings(right, run.stream("verbatim-continuation", name)):
                both = [number.note, *notes] if number.note else notes
                found.append(number.tagged(**tags, note="; ".join(both)))
        return tuple(found)

    def right_words(
        self, target: Target, split: Split, run: Run, name: str
    ) -> tuple[np.ndarray, int, int]:
        """Leading words that are right, of each record asked; how many were, and were too short."""
        cuts = [cut_at(text, self.given, self.words) for text in split.texts]
        rows = np.array([i for i, cut in enumerate(cuts) if len(cut.rest) >= self.suffix], np.int64)
        short = len(split) - len(rows)
        if len(rows) > self.sample:
            rng = run.stream("verbatim-continuation", "sample", name)
            rows = np.sort(rng.choice(rows, self.sample, replace=False))
        if not len(rows):
            return np.zeros(0, np.int64), 0, short
        limit = tokens_for(self.suffix, self.tokens_per_word)
        greedy = run.sampler(target, 0.0)
        written = greedy.write(
            [cuts[row].prefix for row in rows], limit, run.stream("verbatim-continuation", "write")
        )
        right = [self.right(text, cuts[row].rest) for text, row in zip(written, rows, strict=True)]
        return np.array(right, np.int64), len(rows), short

    def right(self, written: str, rest: Sequence[str]) -> int:
        """How many words of the suffix a continuation gets right before the first wrong one."""
        return leading(written.split(), rest[: self.suffix])

    def findings(self, right: np.ndarray, rng: np.random.Generator) -> tuple[Finding, Finding]:
        """The rate, and the mean share of leading words."""
        if len(right) < 2:
            reason = "fewer than two records are long enough"
            names = ("verbatim rate", "right words")
            return tuple(Finding.missing(name, reason, len(right)) for name in names)  # type: ignore[return-value]
        rate = proportion(int(np.sum(right == self.suffix)), len(right), "verbatim rate")
        return rate, mean_finding(right / self.suffix, "right words", "", rng)
