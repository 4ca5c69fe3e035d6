"""Was it removed, or is it only not said? Look for forgotten knowledge in every other way.

A model that was made to forget may answer nothing, and still hold all of it: unlearning often
changes what a model says, not what it knows. So do not ask: probe its layers, word the question
otherwise, put examples before it, round its weights, tune it for a few steps. Every way is tried on
the model before forgetting (o) and on one that never saw the records (c) too, and gives

    residual = clip( (x_m - x_c) / (x_o - x_c), 0, 1 ),      index = the largest of all

    behavioural forgetting B = 1 - (a_m - a_c) / (a_o - a_c),   a: share of questions answered
    removed:    B >= 0.8 and index <= 0.2
    suppressed: B >= 0.8 and index >  0.2;  otherwise it is not forgotten

What x is: the accuracy of the best layer's linear probe for the answer's first token, learnt from
kept questions; the same for telling right answers from wrong ones; the best layer's mean reciprocal
rank of the answer by the logit lens; answers to reworded questions (column `rephrased`), and after
some kept questions with answers; answers of weights rounded to few bits; minus the steps of
tuning, on a few owners' questions or on kept ones, until half of what was known of the others is
answered again. Beside the index stands relearning from all forgotten questions: how soon also
depends on the model.

Without a retrained model the target itself is the control, asked about held-out records: knowledge
that nobody gave it. Relearning from all is left out then, for other records may be harder to learn.

Differs from the paper: 1. It names kinds of evidence; ways of reading, scales and thresholds are
ours. 2. Membership (`forgotten-privacy`) and the distance of the weights stand beside the index,
not in it. 3. Records without questions are asked for their second half. 4. What guards a model is
left aside where weights are looked at: whoever has them can do so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Int

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.record_bootstrap import share_of_owners
from engram.parts.residual import Asked, Battery, Effort, Subject, answer_scores, asked_of
from engram.parts.residual.distance import distance_of
from engram.parts.retrained import forgotten_of, retrained_model
from engram.parts.training import check_at_least
from engram.parts.unlearning import check_above
from engram.stats.residual import (
    MOST,
    NAME,
    SUMMARIES,
    behavioural_forgetting,
    residuals,
    verdict,
)

FEWEST = 2


@dataclass(frozen=True)
class ResidualKnowledge:
    """A battery that looks for forgotten knowledge, and its verdict: removed or suppressed."""

    paper: ClassVar[Paper] = Paper(
        title="SoK: Machine Unlearning for Large Language Models",
        authors="Ren et al.",
        year=2025,
        url="https://arxiv.org/abs/2506.09227",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens", "text"})
    access: ClassVar[Access] = "weights"
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm"})

    original: str = ""
    """The model before forgetting: a target's folder, or a model's name."""
    retrained: str = ""
    """The model that was trained without the records; "": held-out records are the control."""
    most: int = 200
    """The most questions about forgotten records."""
    most_kept: int = 800
    """The most questions about kept records, from which probes learn."""
    shots: int = 3
    """Kept questions with answers before a question; 0 leaves that out."""
    bits: tuple[int, ...] = (8, 4)
    """Bits to which weights are rounded."""
    steps: int = 60
    """The most steps of relearning."""
    every: int = 2
    """Steps between two looks at what is relearnt."""
    learning_rate: float = 3e-4
    """Of relearning; a large published model wants 1e-5."""
    share: float = 0.05
    """Share of the owners whose questions are tuned on, for the others to come back; (0, 1)."""

    def __post_init__(self) -> None:
        for name, least in {"most": 2, "most_kept": 0, "shots": 0, "steps": 1, "every": 1}.items():
            check_at_least(name, getattr(self, name), least, f"{least} is the least that works")
        check_above("learning_rate", self.learning_rate, 0, "3e-4 suits a small model")
        if not 0 < self.share < 1:
            raise EngramError(f"share is {self.share}, but must be in (0, 1)", hint="0.05 is usual")
        for bits in self.bits:
            check_at_least("bits", bits, 2, "8 and 4 are usual")

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return behavioural forgetting, the index with its verdict, and each residual."""
        where, forgotten = forgotten_of(splits)
        found = self._numbers(target, forgotten, splits, run)
        return tuple(f.tagged(method="residual-knowledge", split=where) for f in found)

    def answered(self, target: Target, split: Split, run: Run) -> Finding:
        """Share of the questions in a split that greedy decoding answers whole."""
        asked = asked_of(split, len(split), run.stream("residual", "answered"))
        said, lm = asked.questions, target.model
        hits = answer_scores(lm, lm.model, said.prompts, said.right, whole=True, guard=lm.guard)
        rng = run.stream("residual", "answered", target.fingerprint)
        found = share_of_owners("share of questions answered", hits > 0, asked.owner, rng)
        return found.tagged(better="lower", split=split.name)

    def _numbers(
        self, target: Target, forgotten: Split, splits: Mapping[str, Split], run: Run
    ) -> list[Finding]:
        before, reason = retrained_model(self.original, target, run)
        if before is None:
            reason = "name the model before forgetting with --original"
            return _nothing(reason, len(forgotten))
        never, _ = retrained_model(self.retrained, target, run)
        asked = asked_of(forgotten, self.most, run.stream("residual", "asked"))
        others = asked
        if never is None:
            others = asked_of(
                splits.get("outsiders", forgotten.take([], "none")),
                self.most,
                run.stream("residual", "others"),
            )
        if min(len(asked), len(others)) < FEWEST:
            n = f"{len(asked)} about forgotten records, {len(others)} for the control"
            reason = f"it takes {FEWEST} questions a side, but there are {n}"
            return _nothing(reason, len(forgotten))
        battery = self._battery(target, before, never, asked, others, splits, run)
        return self._judged(battery, (target, never, before), asked.owner, others.owner, run)

    def _battery(
        self,
        target: Target,
        before: Target,
        never: Target | None,
        asked: Asked,
        others: Asked,
        splits: Mapping[str, Split],
        run: Run,
    ) -> Battery:
        name, forgotten = forgotten_of(splits)
        kept = splits["members"] if name != "members" else forgotten.take([], "none")
        effort = Effort(
            self.shots, tuple(self.bits), self.steps, self.every, self.learning_rate, self.share
        )
        return Battery(
            Subject(target, asked),
            Subject(never or target, others),
            Subject(before, asked),
            asked_of(kept, self.most_kept, run.stream("residual", "kept")),
            effort,
            run,
            paired=never is not None,
        )

    def _judged(
        self,
        battery: Battery,
        models: tuple[Target, Target | None, Target],
        owner: Int[np.ndarray, " n"],
        others: Int[np.ndarray, " m"],
        run: Run,
    ) -> list[Finding]:
        plain = battery.behaviour()
        rng = run.stream("residual", "intervals")
        forgetting = behavioural_forgetting(
            plain.target, plain.control, plain.original, owner, others, rng, plain.paired
        )
        left = residuals(list(battery.parts()), owner, others, rng)
        says = verdict(forgetting.value, left.index.value)
        index = left.index
        if index.value is not None:
            worst = max((p for p in left.parts if p.value is not None), key=lambda p: p.value or 0)
            index = index.tagged(note=f"{says}; {MOST}{worst.name}")
        beside = residuals(list(battery.beside()), owner, others, rng).parts
        n, reasons = len(owner), battery.left_out()
        missing = [Finding.missing(name, reason, n) for name, reason in reasons.items()]
        return [forgetting, index, left.mean, *left.parts, *beside, *missing, distance_of(models)]


def _nothing(reason: str, n: int) -> list[Finding]:
    return [Finding.missing(name, reason, n) for name in (NAME, *SUMMARIES)]
