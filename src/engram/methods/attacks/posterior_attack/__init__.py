"""Learn on shadow models what a model's answer to a member looks like.

A model is surer of records that it was trained on, and right about them more often. How much surer,
and how that shows in all its probabilities, depends on the kind of model; so train some of the same
kind on known records, and let a small network learn from their answers which of them are answers to
members. Then show it the target's answers. It sees no record, only the probabilities in order and
whether the label is right.

    z(x)     = (log of the sorted probabilities, largest first;  1 if the label is right, else 0)
    score(x) = a(z(x) of the target),  a = argmin - sum of log p(saw | z) over shadows and records

where p(saw | z) = 1 / (1 + exp(-a(z))).

Differs from the paper: 1. Shadows are trained on halves of the records of the audit, not on a part
of the data set apart; each half trains one and is held out from the other. 2. The network sees
logarithms (`scale`), because members and outsiders of an overfitted model have probabilities that
differ from 1 by ever less; "probability" is as in the paper. 3. One hidden layer and a plain
descent to the end. The code that came with the study of searched cells takes steps of 5e-7,
applies a softmax before the cross-entropy and never clears its gradients, so that its network
hardly learns; its numbers are not to be compared with these.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int

from engram.core import Access, EngramError, Paper, Run, Scores, Split, Target
from engram.methods.attacks.posterior_attack.network import AttackNetwork
from engram.parts.shadow_scores import check_shadows
from engram.parts.training import check_at_least

SCALES = ("log", "probability")


@dataclass(frozen=True)
class PosteriorAttack:
    """Attack network on sorted probabilities, trained on shadow models."""

    paper: ClassVar[Paper] = Paper(
        title="ML-Doctor: Holistic Risk Assessment of Inference Attacks Against Machine Learning "
        "Models",
        authors="Liu et al.",
        year=2022,
        url="https://arxiv.org/abs/2102.02551",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    access: ClassVar[Access] = "logits"
    relative: ClassVar[bool] = True

    shadows: int = 2
    """Shadow models, an even number; the paper trains one."""
    scale: Literal["log", "probability"] = "log"
    """Whether the network sees logarithms of the probabilities, or the probabilities."""
    width: int = 32
    """Hidden numbers of the network."""
    steps: int = 200
    """Steps of its training, each on all answers of all shadows."""

    def __post_init__(self) -> None:
        check_shadows(self.shadows, 2, "each record is in one of two halves")
        if self.scale not in SCALES:
            raise EngramError(f"scale is {self.scale!r}", hint=f"it is {' or '.join(SCALES)}")
        for name in ("width", "steps"):
            check_at_least(name, getattr(self, name), 1, "32 and 200 are a good start")

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return the attack network's log-odds that each record is a member, in nats."""
        if not len(split):
            return Scores(split.ids, np.zeros(0), unit="nats")
        labels = np.asarray(split.matrix("label"), np.int64)
        shadows = run.shadows(target, split, self.shadows)
        # In the order of ids, so that the network does not depend on how the records are ordered.
        rows, seen = np.argsort(np.array(split.ids), kind="stable"), []
        for number, shadow in enumerate(shadows.targets):
            run.progress(number, len(shadows), "shadows asked")
            seen.append(self.answers(run.logits(shadow, split)[rows], labels[rows]))
        run.progress(len(shadows), len(shadows), "shadows asked")
        attack = AttackNetwork.trained(
            np.concatenate(seen),
            shadows.saw[:, rows].reshape(-1),
            run.stream("attack network"),
            width=self.width,
            steps=self.steps,
        )
        values = attack(self.answers(run.logits(target, split), labels))
        return Scores(split.ids, values, unit="nats")

    def answers(
        self, logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, "n columns"]:
        """What the attack network sees of each record: classes + 1 numbers."""
        return answers(logits, labels, logarithms=self.scale == "log")


def answers(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"], logarithms: bool
) -> Float[np.ndarray, "n columns"]:
    """Sorted probabilities, largest first (or their logarithms), and whether the label is right.

    Logits whose largest one is tied give the label that stands first, as a model's answer does.
    """
    from scipy.special import log_softmax

    logprobs = log_softmax(np.asarray(logits, np.float64), axis=1)
    right = (logprobs.argmax(axis=1) == labels).astype(np.float64)
    ordered = -np.sort(-logprobs, axis=1)
    return np.column_stack([ordered if logarithms else np.exp(ordered), right])
