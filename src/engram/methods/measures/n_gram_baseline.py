"""How well counts of a few tokens in a row predict the same records, without any network.

What a model finds hard may be hard for everybody: a language whose tokens come in random order has
little to predict. Counting which tokens follow which other ones, up to `order` in a row, is the
plainest way to learn a language, and shows how much of its order is local. The counts are of the
members, and the outsiders are predicted. Smoothing is that of Kneser and Ney: what remains of the
discounted counts goes to the shorter context, and there a token counts by how many different
tokens it was seen after.

    P_k(w | h) = max(c(h w) - D_k, 0) / c(h)  +  D_k N(h) / c(h)  P_{k-1}(w | h without its first)
    P_0(w)     = 1 / vocabulary              D_k = n_1 / (n_1 + 2 n_2)

with c the counts of the longest context, and for shorter ones the number of different tokens
before; N(h) the number of different tokens after h, n_j how many k-grams have the count j. A
context that was never seen leaves P_k = P_{k-1}.

Differs from the paper:
1. The records of the members are sequences of their own, each begun by a token that is not
   predicted; no n-gram reaches from one record into another.
2. It is interpolated, as Chen and Goodman (1999) advise, instead of backed off.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.stats.intervals import mean_finding

Gram = tuple[int, ...]
START = -1
"""Stands before the first token of every record."""


@dataclass(frozen=True)
class NGramBaseline:
    """Sentence perplexity of Kneser-Ney n-grams, of order 2 to `order`."""

    paper: ClassVar[Paper] = Paper(
        title="Improved backing-off for M-gram language modeling",
        authors="Kneser and Ney",
        year=1995,
        url="https://doi.org/10.1109/ICASSP.1995.479394",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"

    order: int = 5
    """The longest run of tokens that is counted, at least 2."""

    def __post_init__(self) -> None:
        if not 2 <= self.order <= 20:
            raise EngramError(f"order is {self.order}, but must be from 2 to 20", hint="5 is usual")

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the sentence perplexity of the outsiders, for each order."""
        tags = {"method": "n-gram-baseline", "split": "outsiders", "better": "lower"}
        names = [f"{k}-gram sentence perplexity" for k in range(2, self.order + 1)]
        sides = [splits.get(side) for side in ("members", "outsiders")]
        if any(side is None or len(side) < 2 for side in sides):
            reason = "needs at least 2 members and 2 outsiders"
            return tuple(Finding.missing(name, reason).tagged(**tags) for name in names)
        seen, asked = (
            [each.tolist() for each in signals.ragged(signals.token) if len(each)]
            for signals in (run.tokens(target, side) for side in sides if side is not None)
        )
        losses = self.losses(seen, asked, len({t for each in [*seen, *asked] for t in each}))
        rng = run.stream("n-gram-baseline")
        return tuple(
            _exponential(mean_finding(losses[:, row], name, "", rng)).tagged(**tags)
            for row, name in enumerate(names)
        )

    def losses(
        self, seen: Sequence[list[int]], asked: Sequence[list[int]], vocabulary: int
    ) -> Float[np.ndarray, "asked orders"]:
        """Mean loss of a token of each record asked, for the orders from 2 on; in nats.

        `vocabulary` is how many different tokens there are.
        """
        model = KneserNey(self.order, seen, vocabulary)
        return np.array([model.losses(each)[1:] for each in asked])


class KneserNey:
    """Interpolated Kneser-Ney models of the orders 1 to `order`, which share their counts."""

    def __init__(self, order: int, records: Sequence[list[int]], vocabulary: int) -> None:
        self.order, self.vocabulary = order, vocabulary
        begun = [[START, *record] for record in records]
        raw = [Counter(grams(begun, k)) for k in range(1, order + 1)]
        del raw[0][START,]  # it is never predicted
        before = [Counter(gram[1:] for gram in counts) for counts in raw[1:]]
        self.longest = [Level(counts) for counts in raw]
        self.shorter = [Level(counts) for counts in before]

    def losses(self, record: list[int]) -> Float[np.ndarray, " orders"]:
        """Mean of - log P over the tokens of a record, for each order; in nats."""
        logs, begun = np.zeros((len(record), self.order)), [START, *record]
        for place, token in enumerate(record):
            below = 1 / self.vocabulary  # P_0
            for k in range(self.order):
                context = tuple(begun[max(0, place + 1 - k) : place + 1])
                if len(context) < k:  # a record's beginning has no longer context
                    logs[place, k] = logs[place, k - 1]
                    continue
                logs[place, k] = np.log(self.longest[k].smoothed(context, token, below))
                if k < self.order - 1:
                    below = self.shorter[k].smoothed(context, token, below)
        return -logs.mean(0)


class Level:
    """Counts of the grams of one length."""

    def __init__(self, counts: Mapping[Gram, int]) -> None:
        self.counts = counts
        self.total: defaultdict[Gram, int] = defaultdict(int)
        self.kinds: defaultdict[Gram, int] = defaultdict(int)
        for gram, count in counts.items():
            self.total[gram[:-1]] += count
            self.kinds[gram[:-1]] += 1
        once, twice = (sum(c == j for c in counts.values()) for j in (1, 2))
        self.discount = once / (once + 2 * twice) if once and twice else 0.5

    def smoothed(self, context: Gram, token: int, below: float) -> float:
        """P_k from P_{k-1}."""
        total = self.total.get(context, 0)
        if not total:
            return below
        kept = max(self.counts.get((*context, token), 0) - self.discount, 0.0)
        return (kept + self.discount * self.kinds[context] * below) / total


def grams(records: Sequence[list[int]], length: int) -> list[Gram]:
    """All runs of `length` tokens inside records."""
    return [
        tuple(record[i : i + length]) for record in records for i in range(len(record) - length + 1)
    ]


def _exponential(found: Finding) -> Finding:
    """Of a mean loss, the perplexity."""
    if found.value is None or found.low is None or found.high is None:
        return found
    value, low, high = (float(np.exp(x)) for x in (found.value, found.low, found.high))
    return Finding(found.name, value, low, high, found.n)
