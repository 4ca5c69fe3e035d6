"""Score a text by its log-likelihood for each bit that zlib needs to write it.

Some texts are easy for every model: lists, repetitions, boilerplate. Their loss is small
although nobody memorised them. A compressor finds them easy too, and it has no memory; so the
text that the model finds much easier than zlib does is the suspicious one.

    score(x) = sum over t of log p(x_t | x_<t) / (8 * bytes of zlib(x))

Differs from the paper: 1. The paper divides the logarithm of the perplexity, a mean over
tokens, and all its samples have the same 256 tokens. With records of many lengths that mean
over a growing number of bits favours long records, so by default we divide the sum: for equal
lengths the ranking is the same. `average=True` divides the mean, as the paper's formula reads.
"""

import zlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, Paper, Run, Scores, Split, Target
from engram.parts.token_scores import check_scored


@dataclass(frozen=True)
class Zlib:
    """Log-likelihood over the bits of the compressed text."""

    paper: ClassVar[Paper] = Paper(
        title="Extracting Training Data from Large Language Models",
        authors="Carlini et al.",
        year=2021,
        url="https://arxiv.org/abs/2012.07805",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logprobs"})
    access: ClassVar[Access] = "logits"
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm", "api-lm"})

    average: bool = False
    """Divide the mean log-probability of the tokens, not their sum."""

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return the log-likelihood of each text for each bit, in nats per bit."""
        signals = run.tokens(target, split)
        check_scored(signals)
        likelihood = -signals.losses()
        if not self.average:
            likelihood = likelihood * signals.lengths
        # One text at a time: `split.texts` would keep all of them beside the table.
        texts = (text.as_py() or "" for text in split.column("text"))
        bits = np.fromiter(map(zlib_bits, texts), np.float64, len(split))
        return Scores(split.ids, likelihood / bits, unit="nats/bit")  # section 5.2, "zlib"


def zlib_bits(text: str) -> int:
    """Bits of the text, as UTF-8, after zlib at its default level; 64 for the empty text."""
    return 8 * len(zlib.compress(text.encode("utf-8", "surrogatepass")))
