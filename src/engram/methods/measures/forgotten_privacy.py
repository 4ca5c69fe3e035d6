"""How far forgotten records still stand out from records never seen, one way or the other.

After forgetting, a membership attack should do on the forgotten records as it does for a model
that never saw them; usually that is an AUC of 0.5, but where the forgotten records are easier or
harder than the others it is not. An AUC far below that of the retrained model is no better than
one far above: the records then stand out by being avoided.

    gap  = | AUC(target) - AUC(retrained) |
    leak = ( AUC(target) - AUC(retrained) ) / AUC(retrained)

where the AUC is that of minus the loss, forgotten records against held-out ones.

Differs from the paper: 1. The paper attacks with Min-K% probability; we with the loss, which
every family of models has (`engram forget` shows the strongest attack of the audit beside it).
2. Intervals, by resampling the records together for both models. 3. Fractions, not percent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram import families
from engram.core import Access, Finding, Paper, Run, Split, Target
from engram.parts.retrained import forgotten_of, retrained_model
from engram.stats.unlearning import two_sided_privacy

NAMES = ("privacy gap", "privacy leak")
FEWEST = 2


@dataclass(frozen=True)
class ForgottenPrivacy:
    """MUSE's PrivLeak, and its size whatever the sign."""

    paper: ClassVar[Paper] = Paper(
        title="MUSE: Machine Unlearning Six-Way Evaluation for Language Models",
        authors="Shi et al.",
        year=2024,
        url="https://arxiv.org/abs/2407.06460",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    access: ClassVar[Access] = "logits"

    retrained: str = ""
    """The model that was trained without the records: a target's folder, or a model's name."""

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return gap and leak of the forgotten records against the outsiders."""
        name, forgotten = forgotten_of(splits)
        found = self._numbers(target, forgotten, splits.get("outsiders"), run)
        tags = {"method": "forgotten-privacy", "split": f"{name}, outsiders"}
        return tuple(f.tagged(**tags) for f in found)

    def _numbers(
        self, target: Target, forgotten: Split, outsiders: Split | None, run: Run
    ) -> tuple[Finding, ...]:
        other, reason = retrained_model(self.retrained, target, run, comparable)
        if other is None:
            return tuple(Finding.missing(each, reason, len(forgotten)) for each in NAMES)
        if outsiders is None or min(len(forgotten), len(outsiders)) < FEWEST:
            reason = "it takes two forgotten and two held-out records"
            return tuple(Finding.missing(each, reason, len(forgotten)) for each in NAMES)
        everyone = forgotten.joined(outsiders, "asked")
        scores = [-run.losses(model, everyone) for model in (target, other)]
        which = np.arange(len(everyone)) < len(forgotten)
        rng = run.stream("forgotten-privacy")
        found = two_sided_privacy(scores[0], scores[1], which, rng)
        note = f"AUC {found.target.value:.3f}; retrained {found.retrained.value:.3f}"
        return found.gap.tagged(note=note), found.leak.tagged(note=note)


def comparable(target: Target, other: Target) -> bool:
    """Whether losses of both mean the same: a model in shards is compared with a whole one."""
    kinds = {target.family, other.family}
    return len(kinds) == 1 or all("logits" in families.find(kind).answers for kind in kinds)
