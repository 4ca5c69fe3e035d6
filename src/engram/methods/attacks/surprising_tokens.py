"""Score a text by the tokens at which the model was sure of itself, and wrong.

An unlikely token means little where the model had no opinion: many words could have stood
there. It means much where the model was sure of another word. So of the least likely tokens
keep those at which the model's own distribution is narrow, and average them: somebody who has
read the text is seldom sure and wrong.

    S(x)     = {t: H_t < entropy, and log p(x_t | x_<t) among the ceil(fraction * T) smallest}
    H_t      = - sum over tokens v of p(v | x_<t) log p(v | x_<t)
    score(x) = mean of log p(x_t | x_<t) over t in S(x)

Differs from the paper: 1. A text without any surprising token falls back on all of its
ceil(fraction * T) least likely ones, as Min-K% does, so that every record has a score on the
same scale. 2. The number of tokens is rounded up, and ties at the border stay inside. 3. The
paper chooses both thresholds for each benchmark; ours are fixed unless told otherwise.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from engram.core import Access, EngramError, Paper, Run, Scores, Split, Target
from engram.parts.token_scores import check_fraction, check_scored, count_of


@dataclass(frozen=True)
class SurprisingTokens:
    """Mean log-probability of the tokens that are unlikely where the model was sure."""

    paper: ClassVar[Paper] = Paper(
        title="Adaptive Pre-training Data Detection for Large Language Models via Surprising "
        "Tokens",
        authors="Zhang and Wu",
        year=2024,
        url="https://arxiv.org/abs/2407.21248",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"

    fraction: float = 0.2
    """Share of the tokens that count as unlikely, in (0, 1]."""
    entropy: float = 2.0
    """Below this entropy, in nats, the model counts as sure; above 0."""

    def __post_init__(self) -> None:
        check_fraction("fraction", self.fraction, hint="0.2 takes the least likely fifth")
        if not self.entropy > 0:
            raise EngramError(
                f"entropy is {self.entropy}, but must be above 0",
                hint="2 nats are about seven words that are equally likely",
            )

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return the mean log-probability of each text's surprising tokens, in nats."""
        signals = run.tokens(target, split)
        check_scored(signals)
        values = np.zeros(len(split))
        for row in range(len(split)):
            here = signals.record(row)
            logprob = np.asarray(signals.logprob[here], np.float64)
            entropy = -np.asarray(signals.mean[here], np.float64)
            values[row] = surprise(logprob, entropy, self.fraction, self.entropy)
        return Scores(split.ids, values, unit="nats")


def surprise(
    logprob: Float[np.ndarray, " tokens"],
    entropy: Float[np.ndarray, " tokens"],
    fraction: float,
    limit: float,
) -> float:
    """Mean of the unlikely tokens' log-probabilities where the entropy is below `limit`.

    Of all unlikely tokens, where there is none of low entropy.
    """
    worst = np.partition(logprob, count_of(len(logprob), fraction) - 1)
    unlikely = logprob <= worst[count_of(len(logprob), fraction) - 1]
    sure = unlikely & (entropy < limit)
    return float(logprob[sure if sure.any() else unlikely].mean())
