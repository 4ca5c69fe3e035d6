"""Score a text by how much less energy a masked language model gives it than a reference does.

A masked language model guesses hidden words; it has no probability for a whole text, only an
energy: low where the text suits the model. A low energy alone says little, for plain sentences
suit every model. A reference that learnt the same language, but never saw these records, tells
how plain a sentence is. What the target does better than that is what training on it gave.

    p(s; theta) = exp(-E(s; theta)) / Z(theta)
    score(s) = E(s; reference) - E(s; target) = log p(s; target) - log p(s; reference) + constant

The energy E hides tokens behind the mask token and asks the model for them:

    loss: mean over K random masks of the mean of -log p(token | tokens that are not hidden)
    norm: mean over all tokens of -log p(token | all others), each hidden by itself
    raw:  minus the sum over all tokens of the logit of the token, each hidden by itself

Both models are asked about the same hidden tokens: masks are drawn from the text and the seed.

Differs from the paper: 1. The score is turned, so that members are high, and it is left to the
audit to try every threshold; the paper flags a text whose ratio is below what a tenth of known
outsiders have. 2. The reference is by default the target's own base, not a model from elsewhere.
3. A text that is longer than the context is read in windows that together cover it.
4. Records of one person are averaged by the audit, in its findings by owner.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from engram import families
from engram.core import SCORED, Access, EngramError, Paper, Run, Scores, Split, Target
from engram.parts.training import check_at_least
from engram.signals.references import BASE, check_same_tokenizer, find_reference

ENERGIES = ("loss", "norm", "raw")


@dataclass(frozen=True)
class LikelihoodRatio:
    """Energy under a reference masked language model minus energy under the target."""

    paper: ClassVar[Paper] = Paper(
        title="Quantifying Privacy Risks of Masked Language Models Using Membership Inference "
        "Attacks",
        authors="Mireshghallah et al.",
        year=2022,
        url="https://arxiv.org/abs/2203.03929",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"energies"})
    access: ClassVar[Access] = "logits"

    reference: str = BASE
    """A target folder, a model folder or a model's name; "base" is the target's own base."""
    energy: Literal["loss", "norm", "raw"] = "loss"
    """loss hides random tokens together, as the paper does; norm and raw hide each by itself."""
    draws: int = 20
    """Random masks of each text, for energy=loss; the paper takes 20."""
    share: float = 0.15
    """Share of a text's tokens that one mask hides, in (0, 1]; the paper takes 0.15."""

    def __post_init__(self) -> None:
        if self.energy not in ENERGIES:
            raise EngramError(
                f"energy is {self.energy!r}, but must be one of {', '.join(ENERGIES)}",
                hint="loss is the paper's",
            )
        check_at_least("draws", self.draws, 1, "20 is the paper's value")
        if not 0 < self.share <= 1:
            raise EngramError(
                f"share is {self.share}, but must be in (0, 1]", hint="0.15 is the paper's value"
            )

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return the energy that the target saves on each record: in nats a token, or logits."""
        check_answers(target)
        reference = find_reference(self.reference, target, run)
        check_same_tokenizer(reference, target)
        check_maskable(target, split)
        first, second = (self.energies(model, split, run) for model in (reference, target))
        # The paper's L(s) with its sign turned; both partition functions Z are constants.
        return Scores(split.ids, first - second, unit="logits" if self.energy == "raw" else "nats")

    def energies(self, model: Target, split: Split, run: Run) -> np.ndarray:
        """The energy of each record under one model: computed once, then stored."""
        settings: dict[str, Any] = {"energy": self.energy}
        if self.energy == "loss":
            settings |= {"draws": self.draws, "share": self.share, "seed": run.seed}
        family: Any = families.find(model.family)

        def work() -> np.ndarray:
            return family.energies(model.model, split, **settings, progress=run.progress)

        return np.asarray(run.computed("energies", model, split, settings, work), np.float64)


def check_answers(target: Target) -> None:
    """Refuse a model that guesses no hidden tokens."""
    if "energies" not in families.find(target.family).answers:
        raise EngramError(
            f"target {target.name!r} is a {target.family}, which has no energies",
            hint="likelihood-ratio is for masked language models; reference compares any losses",
        )


def check_maskable(target: Target, split: Split) -> None:
    """Refuse records in which there is nothing to hide; the engine leaves them out before."""
    outcomes = families.find(target.family).outcomes(target.model, split)
    bad = [record for record, found in zip(split.ids, outcomes, strict=True) if found != SCORED]
    if bad:
        raise EngramError(
            f"record {bad[0]!r} has no token that can be masked, so the model says nothing of it "
            f"({len(bad)} of {len(split)} records)",
            hint="leave such records out; `engram audit` does, and reports them",
        )
