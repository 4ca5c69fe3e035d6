"""Score a text by how much worse the model finds it in lower case.

A model that memorised a text knows its capitals too. Written in lower case the text says the
same but is no longer what was memorised, so a member's loss rises more than an outsider's.

    score(x) = loss(lower(x)) / loss(x)          how = "ratio", the paper's
    score(x) = loss(lower(x)) - loss(x)          how = "difference"

where the loss is the logarithm of the perplexity.

Differs from the paper: 1. A text that lower-casing leaves as it is, or leaves with fewer than
two tokens, gets the neutral value (ratio 1, difference 0): it says nothing either way. 2. A loss
below 1e-6 nats counts as 1e-6 in the ratio's denominator, so that a wholly memorised text has a
finite score.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from engram.core import Access, EngramError, Paper, Run, Scores, Split, Target
from engram.parts.token_scores import check_scored

FLOOR = 1e-6
HOW = ("ratio", "difference")


@dataclass(frozen=True)
class Lowercase:
    """Log-perplexity of the lower-cased text against that of the text itself."""

    paper: ClassVar[Paper] = Paper(
        title="Extracting Training Data from Large Language Models",
        authors="Carlini et al.",
        year=2021,
        url="https://arxiv.org/abs/2012.07805",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logprobs"})
    access: ClassVar[Access] = "logits"
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm", "api-lm"})

    how: Literal["ratio", "difference"] = "ratio"
    """Divide the two log-perplexities, as the paper does, or subtract them."""

    def __post_init__(self) -> None:
        if self.how not in HOW:
            raise EngramError(f"how is {self.how!r}", hint=f"it is one of {', '.join(HOW)}")

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return the rise in log-perplexity: a ratio, or a difference in nats per token."""
        signals = run.tokens(target, split)
        check_scored(signals)
        own, lowered = signals.losses(), signals.losses()
        texts = split.texts
        changed = np.array([i for i, text in enumerate(texts) if text.lower() != text], np.int64)
        if len(changed):
            part = split.take(changed, f"{split.name}-lowercase")
            answers = run.tokens(target, part.with_texts([texts[i].lower() for i in changed]))
            scored = answers.lengths > 0
            lowered[changed[scored]] = answers.losses()[scored]
        unit = "nats/token" if self.how == "difference" else ""
        return Scores(split.ids, rise(own, lowered, self.how), unit=unit)


def rise(
    own: Float[np.ndarray, " n"], lowered: Float[np.ndarray, " n"], how: str
) -> Float[np.ndarray, " n"]:
    """How much larger the losses are in lower case; both in nats per token."""
    if how == "difference":
        return lowered - own
    # Section 5.2, "lowercase": exactly 1 where the text did not change.
    return np.where(lowered == own, 1.0, lowered / np.maximum(own, FLOOR))
