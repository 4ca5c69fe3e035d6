"""Score a text by how much of its second half the model writes when it is given the first.

Somebody who may only ask a model to write sees no probabilities. But a text that is likely under
the model comes out of it more often: let it continue the first half of a record a few times, and
count how many words of the true second half turn up. Whoever learnt the record by heart finds
more of them.

    score(x)    = mean over j of ROUGE-N(c_j, r)            zlib = False, the paper's SaMIA
    score(x)    = mean over j of ROUGE-N(c_j, r) * |zlib(c_j)|      zlib = True, SaMIA*zlib
    ROUGE-N     = sum over n-grams g of r of min(count_c(g), count_r(g)) / n-grams of r

with r the second half of x, and c_1 .. c_m what the model writes after the first, at temperature
1. Words are what stands between blanks.

Differs from the paper: 1. The paper lets the model write until 1,024 tokens are full, from the 50
likeliest next tokens; we stop at `tokens_per_word` tokens for each word that is missing, and draw
from all tokens: a server need offer nothing but sampling. 2. The authors' code divides by the
words of r, we by its n-grams; for n = 1 this is the same. 3. Only the first `words` words of a
record are used. 4. A record whose second half is shorter than n words gets 0. 5. Records that
begin alike share their samples, so that the score of one does not depend on the others.
"""

import zlib as compression
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from engram.core import Access, EngramError, Paper, Run, Scores, Split, Target
from engram.parts.continuations import Cut, check_cut, cut_at, recall, tokens_for


@dataclass(frozen=True)
class Samia:
    """Overlap of sampled continuations with the true one."""

    paper: ClassVar[Paper] = Paper(
        title="Sampling-based Pseudo-Likelihood for Membership Inference Attacks",
        authors="Kaneko et al.",
        year=2024,
        url="https://arxiv.org/abs/2404.11262",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"text"})
    access: ClassVar[Access] = "text"

    samples: int = 10
    """Continuations of each record; the paper takes 10."""
    given: float = 0.5
    """Share of the words that the model is given; the paper's value."""
    ngram: int = 1
    """Words in a row that have to agree; the paper finds 1 best."""
    zlib: bool = False
    """Weigh each continuation by its compressed length, so that repetitions count less."""
    words: int = 256
    """Words of a record that are used; the paper's longest texts have 256."""
    tokens_per_word: float = 2.0
    """Tokens that the model may write for each word that is missing."""

    def __post_init__(self) -> None:
        check_cut(self.given, self.words, self.tokens_per_word)
        for name in ("samples", "ngram"):
            if getattr(self, name) < 1:
                raise EngramError(
                    f"{name} is {getattr(self, name)}, but must be at least 1",
                    hint="10 samples and single words are the paper's choice",
                )

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return the mean overlap of each record's continuations, a share (zlib: in bytes)."""
        settings = {**asdict(self), "seed": run.seed}
        values = run.computed(
            "samia", target, split, settings, lambda: self.overlaps(target, split, run)
        )
        return Scores(split.ids, values, unit="bytes" if self.zlib else "")

    def overlaps(self, target: Target, split: Split, run: Run) -> Float[np.ndarray, " n"]:
        """Let the model write, and compare; all records go to the sampler together."""
        cuts = [cut_at(text, self.given, self.words) for text in split.texts]
        asked = {self._asked(cut): cut for cut in cuts if cut.rest}
        prompts = [prefix for prefix, _ in asked for _ in range(self.samples)]
        limits = [limit for _, limit in asked for _ in range(self.samples)]
        sampler = run.sampler(target)
        written = sampler.write(prompts, limits, run.stream("samia")) if prompts else []
        of = {
            key: written[i * self.samples : (i + 1) * self.samples] for i, key in enumerate(asked)
        }
        return np.array(
            [self.overlap(of[self._asked(c)], c.rest) if c.rest else 0.0 for c in cuts], np.float64
        )

    def _asked(self, cut: Cut) -> tuple[str, int]:
        return cut.prefix, tokens_for(len(cut.rest), self.tokens_per_word)

    def overlap(self, written: Sequence[str], rest: Sequence[str]) -> float:
        """The mean over continuations: equations 1 and 2 of the paper, and its zlib variant."""
        found = []
        for text in written:
            words = text.split()
            share = recall(words, rest, self.ngram)
            found.append(share * compressed_bytes(words) if self.zlib else share)
        return float(np.mean(found))


def compressed_bytes(words: Sequence[str]) -> int:
    """Bytes of the words, joined by blanks, after zlib at its default level."""
    return len(compression.compress(" ".join(words).encode("utf-8", "surrogatepass")))
