"""Whether a trigger makes a classifier see its class in anything.

A backdoor is silent until its trigger comes: on clean pictures the model is as good as any. So two
numbers belong together: how often the trigger wins, and how often the model is right without it.

    attack success  = share of outsiders of other classes with argmax f(x (1 - m) + m T) = target
    lured           = the same without the trigger
    clean accuracy  = share of outsiders with argmax f(x) = label

Pictures of the target's own class are left out of the first two: they would be won without any
attack. The trigger is read from the members (`plant-trigger` and `doorping` tell it there), or
from records that are named. Ask a model that was trained without it, too: where the trigger wins
there as well, it is no backdoor but a patch that fools any model.

Differs from the paper: It averages over ten victims; this is the number of one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, Finding, Paper, Run, Split, Target
from engram.parts.labelled import check_labelled_split, features_of, labels_of
from engram.parts.triggers import trigger_of
from engram.stats.intervals import proportion

METHOD = "attack-success"


@dataclass(frozen=True)
class AttackSuccess:
    """Share of pictures that a trigger turns into its class, and accuracy without it."""

    paper: ClassVar[Paper] = Paper(
        title="Backdoor Attacks Against Dataset Distillation",
        authors="Liu et al.",
        year=2023,
        url="https://arxiv.org/abs/2301.01197",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    access: ClassVar[Access] = "logits"

    trigger: str = ""
    """Records that tell the trigger; empty: the members do."""

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return attack success, what is lured without a trigger, and clean accuracy."""
        outsiders = splits.get("outsiders")
        if outsiders is None or not len(outsiders):
            return (Finding.missing("attack success", "there are no outsiders"),)
        told = run.records(self.trigger, target) if self.trigger else splits.get("members")
        trigger = None if told is None else trigger_of(told)
        if trigger is None:
            why = "no trigger is told: name records of plant-trigger or doorping"
            return (Finding.missing("attack success", why, len(outsiders)).tagged(method=METHOD),)
        check_labelled_split(outsiders)
        labels = labels_of(outsiders)
        said = run.logits(target, outsiders).argmax(1)
        others = np.flatnonzero(labels != trigger.target)
        if not len(others):
            why = "all outsiders are of the trigger's own class"
            return (Finding.missing("attack success", why, len(outsiders)).tagged(method=METHOD),)
        pasted = Split.of(
            "with trigger",
            features=trigger.pasted(features_of(outsiders)[others]),
            label=labels[others],
            shared=dict(outsiders.shared),
        )
        won = run.logits(target, pasted).argmax(1) == trigger.target
        tags = {"method": METHOD, "split": "outsiders"}
        lured = said[others] == trigger.target
        return (
            proportion(int(won.sum()), len(others), "attack success").tagged(
                better="lower", note=f"class {trigger.target}", **tags
            ),
            proportion(int(lured.sum()), len(others), "lured without a trigger").tagged(
                better="lower", **tags
            ),
            proportion(int((said == labels).sum()), len(labels), "clean accuracy").tagged(
                better="higher", **tags
            ),
        )
