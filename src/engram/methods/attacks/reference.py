"""Score a record by how much less it surprises the target than a reference model.

A record's loss mixes two things: how hard the record is, and whether the model saw it. A
reference model that never saw the record, most simply the base that the target was fine-tuned
from, tells how hard it is. What is left when that is taken away speaks of membership.

    score(x) = loss_reference(x) - loss_target(x)

Differs from the paper: 1. The paper scores whole texts by the sum over their tokens; we take
the mean, so that long and short records can be compared by one threshold. 2. Its reference is
a separate language model; ours is by default the target's own base. 3. Every family that has
losses is allowed, not only language models.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram import families
from engram.core import Access, EngramError, Paper, Run, Scores, Split, Target
from engram.parts.token_scores import check_scored

BASE = "base"


@dataclass(frozen=True)
class Reference:
    """Loss under a reference model minus loss under the target."""

    paper: ClassVar[Paper] = Paper(
        title="Quantifying Privacy Risks of Masked Language Models Using Membership Inference "
        "Attacks",
        authors="Mireshghallah et al.",
        year=2022,
        url="https://arxiv.org/abs/2203.03929",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    access: ClassVar[Access] = "logits"

    reference: str = BASE
    """A target folder, a model folder or a model's name; "base" is the target's own base."""

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return the difference in loss of each record, in nats (for text, nats per token)."""
        reference = self.find(target, run)
        if "tokens" in families.find(target.family).answers:
            losses = _text_losses(reference, target, split, run)
        else:
            losses = run.losses(reference, split), run.losses(target, split)
        first, second = (np.asarray(each, np.float64) for each in losses)
        # The paper's likelihood ratio L(s), as a logarithm and turned: members are high.
        return Scores(split.ids, first - second, unit="nats")

    def find(self, target: Target, run: Run) -> Target:
        """The reference model.

        Raises:
            EngramError: The target has no base, or the reference is of another family.
        """
        where = target.lineage.base if self.reference == BASE else self.reference
        if not where:
            raise EngramError(
                f"target {target.name!r} does not say which base it was fine-tuned from",
                hint="name a model that never saw the records with --reference MODEL, or leave "
                "this attack out",
            )
        reference = run.target(where)
        if reference.family != target.family:
            raise EngramError(
                f"the reference {where!r} is a {reference.family}, but target {target.name!r} "
                f"is a {target.family}",
                hint="losses can be compared only between models of one family",
            )
        return reference


def _text_losses(
    reference: Target, target: Target, split: Split, run: Run
) -> tuple[np.ndarray, np.ndarray]:
    """Mean losses a token under both models, which must cut the texts into the same tokens."""
    theirs, ours = run.tokens(reference, split), run.tokens(target, split)
    check_scored(ours)
    same = np.array_equal(theirs.offsets, ours.offsets) and np.array_equal(theirs.token, ours.token)
    if not same:
        raise EngramError(
            f"the reference {reference.name!r} cuts the texts into other tokens than target "
            f"{target.name!r} ({len(theirs.token)} against {len(ours.token)} tokens), so their "
            "losses cannot be compared",
            hint="take a reference with the target's own tokenizer: its base, or another "
            "fine-tune of that base",
        )
    return theirs.losses(), ours.losses()
