"""Score a text by how likely its tokens are, each weighed by how rare it is in general.

A text of common words is likely under every model, seen or not. That the model expects a rare
word says more. So a token's probability is multiplied by how surprising the token would be to
somebody who only knows how often each token occurs: a cross-entropy between what the model
expects and what is usual. One glaring token must not decide alone, so each is capped; and a
word that comes again is easy to expect, so only first occurrences count.

    alpha_t  = - p(x_t | x_<t) * log f(x_t),  f(v) = (count(v) + 1) / (total + vocabulary)
    score(x) = mean of min(alpha_t, cap) over the tokens that occur for the first time

Differs from the paper: 1. Frequencies come from the corpus that is named, or else from the
audited records themselves, members and outsiders alike; the paper takes a large public corpus.
2. The first token of each text is not counted, for the model says nothing of it.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from engram.core import Access, EngramError, Paper, Run, Scores, Split, Target
from engram.parts.outside_records import outside_records
from engram.parts.token_examples import encoded
from engram.parts.token_scores import check_scored


@dataclass(frozen=True)
class DcPdd:
    """Token probabilities calibrated by token frequencies."""

    paper: ClassVar[Paper] = Paper(
        title="Pretraining Data Detection for Large Language Models: A Divergence-based "
        "Calibration Method",
        authors="Zhang et al.",
        year=2024,
        url="https://arxiv.org/abs/2409.14781",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"
    relative: ClassVar[bool] = True

    corpus: str = ""
    """Texts to count tokens in: a file or a data set, none of it audited. Empty: the audited
    records."""
    cap: float = 0.01
    """Most that one token may contribute, above 0; the paper uses 0.01."""

    def __post_init__(self) -> None:
        if not self.cap > 0:
            raise EngramError(
                f"cap is {self.cap}, but must be above 0", hint="0.01 is the paper's value"
            )

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return the mean calibrated probability of each text's tokens, in nats."""
        signals = run.tokens(target, split)
        check_scored(signals)
        rarity = -np.log(smoothed(self.counts(target, split, run, np.asarray(signals.token))))
        values = np.zeros(len(split))
        for row in range(len(split)):
            here = signals.record(row)
            token = np.asarray(signals.token[here], np.int64)
            probability = np.exp(np.asarray(signals.logprob[here], np.float64))
            values[row] = calibrated(token, probability, rarity, self.cap)
        return Scores(split.ids, values, unit="nats")

    def counts(
        self, target: Target, split: Split, run: Run, own: Int[np.ndarray, " total"]
    ) -> Int[np.ndarray, " vocabulary"]:
        """How often each token of the vocabulary occurs; `own` are the audited tokens.

        Raises:
            EngramError: The corpus has no tokens, or some of its texts are audited too.
        """
        size = max(len(target.model.tokenizer), int(own.max(initial=-1)) + 1)
        if not self.corpus:
            return np.bincount(own, minlength=size)
        corpus = outside_records(self.corpus, split, target, run, what="corpus")
        counts = np.zeros(size, np.int64)
        for block in encoded(target.model.tokenizer, corpus):
            for ids in block:
                np.add.at(counts, ids[1:], 1)
        if not counts.any():
            raise EngramError(
                f"the corpus {self.corpus!r} has no tokens to count in its {len(corpus)} records",
                hint="give texts of the kind that is audited; some thousand do",
            )
        return counts


def smoothed(counts: Int[np.ndarray, " vocabulary"]) -> Float[np.ndarray, " vocabulary"]:
    """Laplace's estimate of each token's frequency: never 0, summing to 1."""
    # The paper's token frequency distribution p(x; D').
    return (counts + 1) / (counts.sum() + len(counts))


def calibrated(
    token: Int[np.ndarray, " tokens"],
    probability: Float[np.ndarray, " tokens"],
    rarity: Float[np.ndarray, " vocabulary"],
    cap: float,
) -> float:
    """The score of one text of at least one token.

    Args:
        token: Number of each token in the vocabulary.
        probability: What the model gave it.
        rarity: Minus the logarithm of every token's frequency.
        cap: Most that one token contributes.
    """
    first = np.unique(token, return_index=True)[1]  # the paper's FOS(x)
    alpha = probability[first] * rarity[token[first]]
    return float(np.minimum(alpha, cap).mean())  # beta, with the upper bound a on each alpha
