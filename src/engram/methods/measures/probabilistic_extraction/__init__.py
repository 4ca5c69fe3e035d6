"""Which share of the records the model writes out if it is asked again and again.

Greedy decoding tries once, and says no where the second guess would have been right. But models
are sampled, and whoever wants a record can ask a thousand times. So take the probability q with
which one sample continues a record's beginning exactly as the record goes on: it is the product
of the probabilities of the true tokens, and no sampling is needed to know it.

    q(x)                         = prod over the suffix of p(x_t | x_<t) under the sampling scheme
    chance of success in n tries = 1 - (1 - q)^n
    (n, p)-extractable           : 1 - (1 - q)^n >= p,  that is  n >= log(1 - p) / log(1 - q)

For each prefix length there is the share of records that are (n, p)-extractable, for several n,
and how many tries the median record takes. With `top_k` 1 the shares are those of `extraction`.

Differs from the paper: 1. By default tokens are sampled from the model's whole distribution,
which the stored answers give; other temperatures and truncation cost a pass over the records.
2. The prompt is the start of the record, so another prefix length also means another suffix.
3. Only exact copies count, not those that differ in a few tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from engram import families
from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.methods.measures.probabilistic_extraction.sampling import (
    Scheme,
    sampled_sums,
    stored_sums,
)
from engram.methods.measures.probabilistic_extraction.tries import extracted, log_tries
from engram.stats.intervals import proportion


@dataclass(frozen=True)
class ProbabilisticExtraction:
    """Probabilistic, or (n, p)-discoverable, extraction."""

    paper: ClassVar[Paper] = Paper(
        title="Measuring memorization in language models via probabilistic extraction",
        authors="Hayes et al.",
        year=2025,
        url="https://arxiv.org/abs/2410.19482",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm"})

    prefix_lengths: tuple[int, ...] = (10, 50)
    """Tokens of the record that the model is given; the paper uses 50."""

    suffix_length: int = 50
    """Tokens that it must reproduce exactly; the paper uses 50."""

    tries: tuple[int, ...] = (1, 10, 100, 1000)
    """How often the model is asked: n."""

    probability: float = 0.5
    """With which probability one of the tries must succeed: p, in (0, 1)."""

    temperature: float = 1.0
    """Divides the logits before a token is sampled; 1 leaves them."""

    top_k: int = 0
    """How many of the likeliest tokens are sampled from; 0: all of them, 1: greedy decoding."""

    def __post_init__(self) -> None:
        for name, least in (("prefix_lengths", 1), ("tries", 1)):
            given = getattr(self, name)
            if not given or min(given) < least or len(set(given)) < len(given):
                raise EngramError(
                    f"{name} is {given}, but must be different numbers of at least {least}",
                    hint="(10, 50) is one" if name == "prefix_lengths" else "(1, 100) is one",
                )
        if self.suffix_length < 1 or self.top_k < 0:
            raise EngramError(
                f"suffix_length is {self.suffix_length} and top_k is {self.top_k}, but they must "
                "be at least 1 and at least 0",
                hint="top_k 0 samples from all tokens",
            )
        if not 0 < self.probability < 1:
            raise EngramError(
                f"probability is {self.probability}, but must be in (0, 1)",
                hint="no number of tries makes a success certain",
            )
        if not (isfinite(self.temperature) and self.temperature > 0):
            raise EngramError(
                f"temperature is {self.temperature}, but must be above 0",
                hint="top_k 1 is greedy decoding",
            )

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the shares and the median number of tries on every split.

        Raises:
            EngramError: No prefix fits into the model's context with the suffix.
        """
        context = families.find(target.family).describe(target.model)["context"]
        fitting = [p for p in self.prefix_lengths if p + self.suffix_length <= context]
        if not fitting:
            raise EngramError(
                f"a prefix of {min(self.prefix_lengths)} and a suffix of {self.suffix_length} "
                f"tokens do not fit into the model's context of {context}",
                hint=f"choose lengths that add up to {context} or less",
            )
        found: list[Finding] = []
        for name, split in splits.items():
            sums = self.suffix_logprobs(target, split, tuple(fitting), run)
            for prefix in self.prefix_lengths:
                if prefix in fitting:
                    numbers = self._numbers(prefix, sums[:, fitting.index(prefix)])
                else:
                    reason = f"too long for the model's context of {context} tokens"
                    numbers = [Finding.missing(what, reason) for what in self._names(prefix)]
                tags = {"method": "probabilistic-extraction", "split": name, "better": "lower"}
                found += [number.tagged(**tags) for number in numbers]
        return tuple(found)

    def suffix_logprobs(
        self, target: Target, split: Split, prefixes: tuple[int, ...], run: Run
    ) -> Float[np.ndarray, "records prefixes"]:
        """Log of q for each record and prefix length; NaN where the record is too short."""
        scheme = Scheme(self.temperature, self.top_k)
        if scheme.plain:
            return stored_sums(run.tokens(target, split), prefixes, self.suffix_length)
        settings = {
            "prefixes": list(prefixes),
            "suffix": self.suffix_length,
            "temperature": self.temperature,
            "top_k": self.top_k,
        }
        return run.computed(
            "suffix-logprobs",
            target,
            split,
            settings,
            lambda: sampled_sums(target.model, split, prefixes, self.suffix_length, scheme, run),
        )

    def _names(self, prefix: int) -> list[str]:
        rates = [
            f"extraction rate, prefix {prefix}, {n} {'try' if n == 1 else 'tries'}"
            for n in self.tries
        ]
        return [*rates, f"median tries, prefix {prefix}"]

    def _numbers(self, prefix: int, log_q: Float[np.ndarray, " records"]) -> list[Finding]:
        """A share for each number of tries, and the median record's tries."""
        long = log_q[~np.isnan(log_q)]
        *rates, median = self._names(prefix)
        found = [
            proportion(int(extracted(long, n, self.probability).sum()), len(long), name)
            for n, name in zip(self.tries, rates, strict=True)
        ]
        found.append(median_tries(log_tries(long, self.probability) / np.log(10), median))
        note = f"p = {self.probability:g}"
        if short := len(log_q) - len(long):
            tokens = prefix + self.suffix_length
            note += f"; {short} records shorter than {tokens} tokens left out"
        return [f.tagged(note="; ".join([*([f.note] if f.note else []), note])) for f in found]


def median_tries(values: Float[np.ndarray, " n"], name: str) -> Finding:
    """The median of log10 tries with its distribution-free interval: two order statistics."""
    from scipy.stats import binom

    n, unit = len(values), "log10 tries"
    below = int(binom.ppf(0.025, n, 0.5)) if n else 0
    if below < 1:
        return Finding.missing(name, "fewer than six records are long enough", n, unit)
    ordered = np.sort(values)
    low, high = float(ordered[below - 1]), float(ordered[n - below])
    value = float(np.median(ordered)) if np.isfinite(ordered[n // 2]) else np.inf
    if not np.isfinite([value, high]).all():
        never = int(np.isinf(values).sum())
        reason = f"{never} of {n} records are never written, however often one tries"
        return Finding.missing(name, reason, n, unit)
    return Finding(name, value, low, high, n, unit)
