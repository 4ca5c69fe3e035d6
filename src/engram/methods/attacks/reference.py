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

from engram.core import Access, Paper, Run, Scores, Split, Target
from engram.signals.references import BASE, both_losses, find_reference


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
        reference = find_reference(self.reference, target, run)
        first, second = both_losses(reference, target, split, run)
        # The paper's likelihood ratio L(s), as a logarithm and turned: members are high.
        return Scores(split.ids, first - second, unit="nats")
