"""Ask about forgotten records again, with what a prompt may say about them put before.

Forgetting changes what a model was trained on, and a prompt can say anything. Where a model
learns from its prompt, whoever gives it the definition of what it has forgotten (every word of
which it may well keep) has the knowledge back, though the records were removed for certain. So
ask without context, and after k statements of several kinds: answers to other questions, the
axioms from which the answer follows, axioms in other words, axioms under another name, the answer
itself (which is copied, not concluded), wrong axioms, and irrelevant statements for a control.

    U(context) = [acc(M | context) - acc(M)] / [acc(M_full) - acc(M_exact) + 1e-9]

with M_full (`original`) trained on everything, and M_exact (`retrained`) trained without the
records. A model that cannot learn from a prompt makes everything look safe: the first findings
are about a control, concepts that it has never seen, and where it fails them every score says
so. acc counts the questions whose right answer is the likeliest of those offered, which no
refusal hides; "written" is what a user reads, and refusals are counted.

Differs from the paper: 1. The paper argues and has no formula; this one, and the contexts, are
ours. 2. Where full and exact model hardly differ there is no score. 3. Options are compared by
log-probability per token.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Int

from engram.core import Access, Finding, Paper, Run, Split, Target
from engram.methods.measures.in_context_reintroduction.score import score_finding, warning_of
from engram.parts.context_answers import Answers, answers
from engram.parts.contexts import (
    AXIOMS,
    DEFINED,
    asked_of,
    can_be_asked,
    contexts_of,
    in_context,
)
from engram.parts.record_bootstrap import share_of_owners
from engram.parts.retrained import forgotten_of, retrained_model
from engram.parts.training import check_at_least
from engram.stats.owners import owner_index

METHOD = "in-context-reintroduction"
CONTROL = "control accuracy"
BARE = "no context"


@dataclass(frozen=True)
class InContextReintroduction:
    """What a prompt gives back of forgotten records."""

    paper: ClassVar[Paper] = Paper(
        title="UnUnlearning: Unlearning is not sufficient for content regulation in advanced "
        "generative AI",
        authors="Shumailov et al.",
        year=2024,
        url="https://arxiv.org/abs/2407.00106",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens", "text"})
    access: ClassVar[Access] = "logits"

    original: str = ""
    """The model that was trained on everything: a target's folder, or a model's name."""
    retrained: str = ""
    """The model that was trained without the records."""
    control: str = ""
    """Records with the same columns about what no model has seen; by default the outsiders."""
    statements: tuple[int, ...] = (1, 4)
    """How many statements are put before a question: each of these numbers is tried."""
    sample: int = 200
    """The most questions that are asked: a random sample."""
    least_gap: float = 0.1
    """The smallest difference of the accuracies of original and retrained model for a score."""

    def __post_init__(self) -> None:
        check_at_least("statements", min(self.statements, default=0), 1, "1 4 are usual")
        check_at_least("sample", self.sample, 2, "200 is usual")
        check_at_least("least_gap", self.least_gap, 1e-6, "0.1 is usual")

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the control, the accuracies in every context, and the scores."""
        name, split = forgotten_of(splits)
        reason = can_be_asked(split)
        if not reason and AXIOMS not in split.columns:
            reason = f"the records have no column {AXIOMS!r}: the statements they follow from"
        if reason:
            found: list[Finding] = [Finding.missing("accuracy", reason, len(split))]
        else:
            control = run.records(self.control, target) if self.control else None
            control = splits.get("outsiders") if control is None else control
            split = self._sampled(split, name, run)
            able = list(self._control(target, control, run))
            warning = warning_of(able[1:])
            found = [each for each, _ in able]
            found += self._asked(target, split, run, warning)
        return tuple(each.tagged(method=METHOD, split=name) for each in found)

    def _sampled(self, split: Split, name: str, run: Run) -> Split:
        if len(split) <= self.sample:
            return split
        rows = run.stream(METHOD, name, "sample").choice(len(split), self.sample, replace=False)
        return split.take(np.sort(rows))

    def _control(
        self, target: Target, control: Split | None, run: Run
    ) -> Iterator[tuple[Finding, float]]:
        """Whether it can learn from a prompt at all, and what a guess would do.

        The first is without context, the others are with definitions.
        """
        reason = "there are no records for a control" if control is None else can_be_asked(control)
        if control is None or reason:
            yield Finding.missing(f"{CONTROL}, {BARE}", reason), 0.0
            return
        control = self._sampled(control, "control", run)
        bare, owner = asked_of(control), _concepts(control)
        chance, title = 1 / len(bare.options[0]), f"{CONTROL}, {BARE}"
        hits = answers(target, bare, run).chosen
        yield share_of_owners(title, hits, owner, run.stream(METHOD, title)), chance
        for k in self.statements:
            title, rng = f"{CONTROL}, axioms, {k}", run.stream(METHOD, "control", k)
            asked, lacking = in_context(control, DEFINED, k, rng, bare)
            if asked is None:
                yield Finding.missing(title, lacking, len(control)), chance
                continue
            hits = answers(target, asked, run).chosen
            yield share_of_owners(title, hits, owner, run.stream(METHOD, title)), chance

    def _asked(self, target: Target, split: Split, run: Run, warning: str) -> Iterator[Finding]:
        bare, owner = asked_of(split), _concepts(split)
        others, reason = [], ""
        for where, what in ((self.original, "original"), (self.retrained, "retrained")):
            other, lacking = retrained_model(where, target, run)
            reason = reason or (lacking.replace("retrained", what) if other is None else "")
            reason = reason or ("" if where else f"name the {what} model with --{what}")
            others.append(None if other is None else answers(other, bare, run))
        alone = answers(target, bare, run)
        yield from self._shares(BARE, alone, owner, run)
        for found, what in zip(others, ("original", "retrained"), strict=True):
            if found is not None:
                title = f"accuracy of the {what} model, {BARE}"
                yield share_of_owners(title, found.chosen, owner, run.stream(METHOD, title))

        def stream(kind: str, k: int) -> np.random.Generator:
            return run.stream(METHOD, "order", kind, k)

        for kind, k, asked, lacking in contexts_of(split, self.statements, stream):
            title = f"{kind.name}, {k}"
            if asked is None:
                yield Finding.missing(f"accuracy, {title}", lacking, len(split))
                continue
            said = answers(target, asked, run)
            yield from self._shares(title, said, owner, run)
            yield from self._scores(title, said, alone, others, owner, run, reason, warning)

    def _shares(
        self, title: str, said: Answers, owner: Int[np.ndarray, " n"], run: Run
    ) -> Iterator[Finding]:
        whole = {"accuracy": said.chosen, "written": said.right, "refused": said.refused}
        for what, hits in whole.items():
            name = f"{what}, {title}"
            yield share_of_owners(name, hits, owner, run.stream(METHOD, name))

    def _scores(
        self,
        title: str,
        said: Answers,
        alone: Answers,
        others: Sequence[Answers | None],
        owner: Int[np.ndarray, " n"],
        run: Run,
        reason: str,
        warning: str,
    ) -> Iterator[Finding]:
        for name, what in (("ununlearning", "chosen"), ("ununlearning in writing", "right")):
            whole = f"{name}, {title}"
            if reason:
                yield Finding.missing(whole, reason, len(owner))
                continue
            hits: list[Bool[np.ndarray, " n"]] = [
                getattr(each, what) for each in (said, alone, *others)
            ]
            rng = run.stream(METHOD, whole)
            found = score_finding(whole, tuple(hits), owner, self.least_gap, rng)
            yield found.tagged(note="; ".join(filter(None, (found.note, warning))))


def _concepts(split: Split) -> Int[np.ndarray, " n"]:
    return owner_index(split.owners, len(split))
