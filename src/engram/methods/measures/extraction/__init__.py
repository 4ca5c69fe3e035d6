"""Which share of the records the model writes out when it is given their beginning.

Prompt the model with the first `prefix_length` tokens of a record and let it write on, always
its likeliest token. If the next `suffix_length` tokens are the record's own, whoever knows the
beginning can read out the rest. This is no statistical hint: it is the leak itself.

    extracted(x)     = greedy(x_1 .. x_P) continues with exactly x_P+1 .. x_P+S
    extraction rate  = share of records extracted, with its exact interval
    n-gram share     = mean over records of the share of places i in the suffix at which
                       the n generated tokens from i on are the record's own

Greedy decoding writes the suffix exactly if, given the true text before it, every suffix token
is the model's first choice: as long as all tokens so far were right, prompt and text are the
same. So the rate is read off the stored answers; only the n-gram share needs generation. The
same numbers on outsiders tell how much can be guessed without having been memorised.

Differs from the paper: 1. The papers cut the prompt out of long documents; we take the start of
the record, so that another prefix length also means another suffix. 2. Records shorter than
prefix and suffix together are left out, and counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram import families
from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target, TokenSignals
from engram.methods.measures.extraction.prompts import Prompts
from engram.parts.ngram_memorisation import aligned_shares
from engram.stats.intervals import mean_finding, proportion


@dataclass(frozen=True)
class Example:
    """One record, its continuation as the model wrote it, and how far that was right."""

    id: str
    prefix: str
    truth: str
    generated: str
    matched: int
    """Leading suffix tokens that the model reproduced."""
    total: int
    """Tokens of the suffix."""


@dataclass(frozen=True)
class Extraction:
    """Discoverable extraction by greedy decoding."""

    paper: ClassVar[Paper] = Paper(
        title="Quantifying Memorization Across Neural Language Models",
        authors="Carlini et al.",
        year=2023,
        url="https://arxiv.org/abs/2202.07646",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"

    prefix_length: int = 50
    """Tokens of the record that the model is given; the paper uses 50 and more."""
    suffix_length: int = 50
    """Tokens that it must reproduce exactly; the paper uses 50."""
    ngram: int = 4
    """Length of the runs of tokens in the n-gram share; 0 leaves it out, and saves generation."""

    sample: int = 256
    """The most records of a split that are continued for the n-gram share: a random sample."""

    more_prefixes: tuple[int, ...] = ()
    """Further prefix lengths at which the rate alone is read off the stored answers."""

    def __post_init__(self) -> None:
        for name in ("prefix_length", "suffix_length", "sample"):
            if getattr(self, name) < 1:
                raise EngramError(
                    f"{name} is {getattr(self, name)}, but must be at least 1",
                    hint="50 is the paper's length" if name != "sample" else "256 is quick",
                )
        if not 0 <= self.ngram <= self.suffix_length:
            raise EngramError(
                f"ngram is {self.ngram}, but must be between 0 and the suffix's "
                f"{self.suffix_length} tokens",
                hint="0 leaves the n-gram share out",
            )
        lengths = (self.prefix_length, *self.more_prefixes)
        if min(lengths) < 1 or len(set(lengths)) < len(lengths):
            raise EngramError(
                f"more_prefixes is {self.more_prefixes}, but must be different numbers of at "
                f"least 1, and other than {self.prefix_length}",
                hint="(10, 100) asks for two more rates",
            )

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the extraction rate (or rates), and the n-gram share, on every split.

        Raises:
            EngramError: Prefix and suffix do not fit into the model's context.
        """
        self.check_context(target)
        found = []
        for name, split in splits.items():
            prompts = self.prompts(run.tokens(target, split))
            numbers = [self._rate(prompts)]
            if self.ngram:
                numbers.append(self._ngram_share(target, split, prompts, run, name))
            found += [self._noted(number, prompts, name) for number in numbers]
            for prefix in self.more_prefixes:
                more = Prompts.of(prompts.signals, prefix, self.suffix_length)
                rate = self._rate(more, f"extraction rate, prefix {prefix}")
                found.append(self._noted(rate, more, name))
        return tuple(found)

    def _noted(self, number: Finding, prompts: Prompts, split: str) -> Finding:
        """Say where a number is from, and how many records were too short for it."""
        notes = [number.note] if number.note else []
        if short := len(prompts.signals) - len(prompts.rows):
            notes.append(
                f"{short} records shorter than {prompts.prefix + prompts.suffix} tokens left out"
            )
        tags = {"method": "extraction", "split": split, "better": "lower"}
        return number.tagged(**tags, note="; ".join(notes))

    def check_context(self, target: Target) -> None:
        """Refuse a prefix and suffix that do not fit into the model's context together."""
        context = families.find(target.family).describe(target.model)["context"]
        prefix = max(self.prefix_length, *self.more_prefixes, 0)
        if prefix + self.suffix_length > context:
            raise EngramError(
                f"a prefix of {prefix} and a suffix of {self.suffix_length} tokens "
                f"do not fit into the model's context of {context}",
                hint=f"choose lengths that add up to {context} or less",
            )

    def prompts(self, signals: TokenSignals) -> Prompts:
        """The records that are long enough, cut into prefix and suffix."""
        return Prompts.of(signals, self.prefix_length, self.suffix_length)

    def _rate(self, prompts: Prompts, name: str = "extraction rate") -> Finding:
        exact = int(np.sum(prompts.matched() == self.suffix_length))
        return proportion(exact, len(prompts.rows), name)

    def _ngram_share(
        self, target: Target, split: Split, prompts: Prompts, run: Run, name: str
    ) -> Finding:
        what = f"{self.ngram}-gram share"
        n = len(prompts.rows)
        if n < 2:
            return Finding.missing(what, "fewer than two records are long enough", n)
        rng = run.stream("extraction", name)
        if n > self.sample:
            prompts = prompts.take(np.sort(rng.choice(n, self.sample, replace=False)))
        written = prompts.continued(target.model, split, run)
        shares = aligned_shares(written, prompts.truth(), self.ngram)
        found = mean_finding(shares, what, "", rng)
        return found.tagged(note=f"on a sample of {self.sample:,}") if n > self.sample else found

    def examples(self, target: Target, split: Split, run: Run, limit: int = 5) -> list[Example]:
        """The records whose suffix is reproduced furthest, with what the model wrote instead.

        Raises:
            EngramError: Prefix and suffix do not fit into the model's context.
        """
        self.check_context(target)
        prompts = self.prompts(run.tokens(target, split))
        prompts = prompts.take(np.argsort(-prompts.matched(), kind="stable")[:limit])
        if not len(prompts.rows):
            return []
        matched, truth = prompts.matched(), prompts.truth()
        prefixes = prompts.prefixes(target.model, split)
        written = prompts.continued(target.model, split, run)
        decode = target.model.tokenizer.decode
        return [
            Example(
                split.ids[row],
                decode(prefixes[i], skip_special_tokens=True),
                decode(truth[i]),
                decode(written[i]),
                int(matched[i]),
                self.suffix_length,
            )
            for i, row in enumerate(prompts.rows)
        ]
