"""Score a text by how much less it surprises the model than its near neighbours do.

Change a few words of a text and you have a neighbour that is about as hard to predict. If the
model saw the text itself, the text lies in a dip of the loss: all its neighbours are worse. If
it did not, text and neighbours are much alike. No reference model is needed for the comparison.

    score(x) = mean over neighbours x' of loss(x')  -  loss(x)

A neighbour is the text with a share of its tokens replaced, each by a draw from what the
filler thinks could stand there: a causal model reads what comes before, p(v | x_<t); a masked
model reads both sides of a mask; "random" draws from the whole vocabulary. The token that
stood there is never drawn. What is not replaced stays as it was, to the letter.

Differs from the paper: 1. The paper replaces one to three words and takes the candidates of
highest score under a masked model whose input embedding has dropout; we draw from the filler's
distribution, and a share of the tokens. 2. It makes 100 neighbours of a text, we make 10 unless
told otherwise. 3. All proposals of a causal filler are drawn given the original text before
them. 4. Its score is turned, so that members are high. 5. A text without a token to replace, or
all of whose neighbours have fewer than two tokens, gets the neutral value 0.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int

from engram.core import Access, EngramError, Paper, Run, Scores, Split, Target
from engram.parts.paraphrasers.made import Paraphrases, mean_by_row
from engram.parts.paraphrasers.models import filler_of
from engram.parts.token_scores import check_fraction, check_scored

FILLERS = ("causal", "masked", "random")


@dataclass(frozen=True)
class Neighbourhood:
    """Loss of perturbed copies of a text minus its own."""

    paper: ClassVar[Paper] = Paper(
        title="Membership Inference Attacks against Language Models via Neighbourhood Comparison",
        authors="Mattern et al.",
        year=2023,
        url="https://arxiv.org/abs/2305.18462",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"

    filler: Literal["causal", "masked", "random"] = "causal"
    """Who proposes replacements: a causal model, a masked model, or pure chance."""
    model: str = ""
    """Folder or name of the filler's model; for "causal" the target's base if this is empty, and
    where it has no base the target itself."""
    neighbours: int = 10
    """Neighbours of each text; the paper uses 100."""
    share: float = 0.05
    """Share of the tokens that a neighbour replaces, in (0, 1]; always at least one token."""

    def __post_init__(self) -> None:
        if self.filler not in FILLERS:
            raise EngramError(
                f"filler is {self.filler!r}", hint=f"it is one of {', '.join(FILLERS)}"
            )
        if self.neighbours < 1:
            raise EngramError(
                f"neighbours is {self.neighbours}, but must be at least 1", hint="10 is usual"
            )
        check_fraction("share", self.share, hint="0.05 replaces one token in twenty")
        if self.filler == "masked" and not self.model:
            raise EngramError(
                "the masked filler has no model",
                hint="name a masked language model with --model, or take --filler causal",
            )

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return mean neighbour loss minus own loss of each text, in nats per token."""
        own = run.tokens(target, split)
        check_scored(own)
        made = self.perturbed(target, split, run)
        values = np.zeros(len(split))
        if len(made.owner_row):
            answers = run.tokens(target, made.split)
            scored = answers.lengths > 0
            rows = made.owner_row[scored]
            values = excess_loss(own.losses(), answers.losses()[scored], rows)
        return Scores(split.ids, values, unit="nats/token")

    def perturbed(self, target: Target, split: Split, run: Run) -> Paraphrases:
        """All neighbours of all records: one split, so that the model is asked once."""
        filler = filler_of(self.filler, self.model, target, run)
        made = filler.neighbours(split, self.neighbours, self.share, run)
        return Paraphrases.of(split, made, "neighbours")


def excess_loss(
    own: Float[np.ndarray, " n"],
    losses: Float[np.ndarray, " neighbours"],
    rows: Int[np.ndarray, " neighbours"],
) -> Float[np.ndarray, " n"]:
    """Mean loss of each record's neighbours minus its own; 0 where it has no neighbour."""
    return np.nan_to_num(mean_by_row(losses, rows, len(own)) - own, nan=0.0)
