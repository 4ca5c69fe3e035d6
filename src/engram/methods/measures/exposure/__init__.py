"""How many guesses the model saves whoever looks for a planted secret.

A canary is a sentence with random digits in it, planted among the records (`plant-canaries`).
Put all other digits in their place and sort by how likely the model finds each sentence: if the
planted digits come first, the model gives them away, and if it never saw them they may come
anywhere. Each bit of exposure halves the number of guesses. Canaries that were held out are the
control.

    perplexity(s) = - sum over tokens of log p(s_t | s_<t)        in nats; R: all secrets
    exposure(s)   = log2 |R| - log2 rank of s in R by perplexity                      exact
                    log2 n - log2(1 + how many of n random secrets are no more perplexing)  rank
                    - log2 of the skew-normal probability of at most perplexity(s)   skew-normal

Differs from the paper: 1. A secret as perplexing as the canary is guessed before it, so a model
without opinions exposes nothing. 2. The tail of the skew-normal distribution is computed in
logarithms, and what it says beyond log2 |R| is cut there and counted. 3. Intervals come from
counting the random secrets alone, however far the distribution reaches beyond them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Bool

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target, nearest
from engram.methods.measures.exposure.ranking import Measured, enumerated, estimated, sampled
from engram.methods.measures.exposure.secrets import Planted, pattern_of
from engram.stats.exposure import BY_CHANCE
from engram.stats.intervals import mean_finding

METHODS = ("auto", "exact", "rank", "skew-normal")
CONTROL = "outsiders"


@dataclass(frozen=True)
class Exposure:
    """Exposure of planted canaries, in bits."""

    paper: ClassVar[Paper] = Paper(
        title="The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural "
        "Networks",
        authors="Carlini et al.",
        year=2019,
        url="https://arxiv.org/abs/1802.08232",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm"})

    method: str = "auto"
    """exact (all secrets are tried), rank or skew-normal (from a random sample), or auto: exact
    up to the limit, skew-normal beyond it."""

    samples: int = 1000
    """Random secrets that each canary is compared with, where not all are tried."""

    limit: int = 10_000
    """The most secrets that are tried for one canary: 10,000 are those of four digits."""

    format: str = ""
    """What canaries look like, as in `The secret number of {name} is {digits}.`; by default the
    last run of digits in the text is the secret."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise EngramError(
                f"method is {self.method!r}, but must be one of {', '.join(METHODS)}",
                hint=nearest(self.method, METHODS, "auto takes the exact one where it can"),
            )
        if self.samples < 100:
            raise EngramError(
                f"samples is {self.samples}, but must be at least 100",
                hint="1000 give ten bits by rank",
            )
        if self.limit < 10:
            raise EngramError(
                f"limit is {self.limit}, but must be at least 10", hint="10000 is the default"
            )
        pattern_of(self.format)

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return mean and largest exposure on every split, and by how often it was planted.

        Raises:
            EngramError: All secrets are to be tried, but there are more than the limit.
        """
        found: list[Finding] = []
        for name, split in splits.items():
            planted = Planted.of(split, pattern_of(self.format), target.model)
            if planted.secrets:
                numbers = self._numbers(name, target, planted, run)
            else:
                numbers = [
                    Finding.missing(f"{what} exposure", planted.nothing, unit="bits")
                    for what in ("mean", "largest")
                ]
            tags = {"method": "exposure", "split": name, "better": "lower"}
            found += [number.tagged(**tags) for number in numbers]
        return tuple(found)

    def _numbers(self, name: str, target: Target, planted: Planted, run: Run) -> list[Finding]:
        measured = self.measured(target, planted, run)
        rng = run.stream("exposure", name)
        notes = [measured.note, planted.note]
        everything = np.ones(len(planted.secrets), bool)
        groups: dict[str, Bool[np.ndarray, " n"]] = {"": everything}
        times = np.unique(planted.copies)
        if name == CONTROL:
            notes.append(f"not planted: {BY_CHANCE:.2f} bits are expected by chance")
        elif len(times) > 1:
            groups |= {f", {_copies(int(k))}": planted.copies == k for k in times}
        else:
            notes.append(f"each planted as {_copies(int(times[0]))}")
        note = "; ".join(each for each in notes if each)
        return [
            number.tagged(note="; ".join(each for each in (number.note, note) if each))
            for what, chosen in groups.items()
            for number in (
                _mean(measured, chosen, f"mean exposure{what}", rng),
                _largest(measured, chosen, f"largest exposure{what}"),
            )
        ]

    def measured(self, target: Target, planted: Planted, run: Run) -> Measured:
        """The exposure of each canary with its own interval."""
        most = max(len(secret.places) for secret in planted.secrets)
        method = self.method
        if method == "auto":
            method = "exact" if 10**most <= self.limit else "skew-normal"
        if method == "exact":
            if 10**most > self.limit:
                raise EngramError(
                    f"{most} digits make 10^{most} secrets, but at most {self.limit:,} are tried",
                    hint="--method skew-normal estimates the exposure; --limit raises the limit",
                )
            return enumerated(target, planted, run)
        return estimated(method, sampled(target, planted, run, self.samples), planted)


def _mean(
    measured: Measured, chosen: Bool[np.ndarray, " n"], name: str, rng: np.random.Generator
) -> Finding:
    """Mean over canaries; of one alone its own exposure.

    The interval is that of drawing canaries, but never inside what counting says of these: where
    all are ahead of their whole samples, the same number twelve times is not a certain one.
    """
    if chosen.sum() == 1:
        return _largest(measured, chosen, name)
    found = mean_finding(measured.value[chosen], name, "bits", rng)
    low, high = float(measured.low[chosen].mean()), float(measured.high[chosen].mean())
    return replace(found, low=min(found.low, low), high=max(found.high, high))


def _largest(measured: Measured, chosen: Bool[np.ndarray, " n"], name: str) -> Finding:
    """The largest of some exposures is at least each lower, and at most the largest upper, end."""
    value, low, high = (
        float(each[chosen].max()) for each in (measured.value, measured.low, measured.high)
    )
    return Finding(name, value, low, high, int(chosen.sum()), "bits")


def _copies(times: int) -> str:
    return "1 copy" if times == 1 else f"{times} copies"
