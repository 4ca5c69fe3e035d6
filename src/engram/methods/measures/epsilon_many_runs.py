"""Bound epsilon from below by training many models, with and without one record.

If a training is differentially private with a small epsilon, nobody can tell from the model much
better than by tossing a coin whether one record was in. So train the same recipe again and again,
half of the time with the record and half without, guess each time from the model's loss on the
record, and count the mistakes. Few mistakes of either kind mean that epsilon is large. It is the
plainest of all audits and the dearest one: each guess costs a training.

    epsilon >= max( log (1 - delta - FPR) / FNR,  log (1 - delta - FNR) / FPR )

with both rates at the upper ends of their Clopper-Pearson intervals. The guess is "with" where
the loss is below a threshold, which the first trainings choose and the others are judged by.

The record is the one that is named, or else the planted canary, or the outsider, of largest loss
under the target: what is unlike everything else shows most. All members of the target are always
in. Trainings are kept in the store, so that more of them may be added later.

Differs from the paper: 1. The paper makes a poisoned record that moves the model most; we take one
that is there. 2. The threshold is chosen on trainings that are not counted; the paper corrects for
the choice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.partition import groups
from engram.stats.epsilon import NAME, epsilon_finding, many_run_epsilon
from engram.stats.intervals import LEVEL

FEWEST = 8
"""Fewest trainings: two of each kind to choose the threshold, and two to be judged by it."""


@dataclass(frozen=True)
class EpsilonManyRuns:
    """What many trainings surely give away of one record, as an epsilon."""

    paper: ClassVar[Paper] = Paper(
        title="Auditing Differentially Private Machine Learning: How Private is Private SGD?",
        authors="Jagielski, Ullman and Oprea",
        year=2020,
        url="https://arxiv.org/abs/2006.07709",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    access: ClassVar[Access] = "logits"
    trains: ClassVar[bool] = True

    runs: int = 32
    """Models to train, half of them with the record. 32 can show an epsilon of 1.0, 64 one of
    1.8, 500 one of 3.9."""
    delta: float = 1e-5
    """The delta of the guarantee that is tested, in [0, 1); the one that the training claims."""
    confidence: float = LEVEL
    """That the bound holds."""
    record: str = ""
    """The id of the record, a member or an outsider; empty: chosen as said above."""

    def __post_init__(self) -> None:
        if self.runs < FEWEST or self.runs % 2:
            raise EngramError(
                f"runs is {self.runs}, but must be even and at least {FEWEST}",
                hint="32 are the fewest that show an epsilon of 1",
            )
        many_run_epsilon(0, 1, 0, 1, self.delta, self.confidence)  # refuses bad ones

    @property
    def pilots(self) -> int:
        """Trainings of each kind that choose the threshold: a quarter of them."""
        return max(2, self.runs // 8)

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the bound for one record in or out.

        Raises:
            EngramError: No record is called `record`, or the target does not carry its recipe.
        """
        tags = {"method": "epsilon-many-runs", "split": "members, outsiders"}
        members, outsiders = (splits.get(name, ()) for name in ("members", "outsiders"))
        if not len(members) or not len(outsiders):
            missing = "there are no " + ("outsiders" if len(members) else "members")
            return (Finding.missing(NAME, missing).tagged(**tags),)
        one, why = self.chosen(target, members, outsiders, run)
        if one is None:
            return (Finding.missing(NAME, why).tagged(**tags),)
        scores, inside = self.scores(target, members, one, run)
        bound, counted, how = self.judged(scores, inside)
        note = f"{how}; one record in or out: {one.ids[0]} ({why})"
        found = epsilon_finding(bound, counted, self.delta, self.confidence, note)
        return (found.tagged(**tags),)

    def chosen(
        self, target: Target, members: Split, outsiders: Split, run: Run
    ) -> tuple[Split | None, str]:
        """The record, and why it is this one; or nothing, and why."""
        both = members.joined(outsiders, name="both")
        if self.record:
            if self.record not in both.ids:
                raise EngramError(
                    f"no record is called {self.record!r}",
                    hint=f"ids look like {both.ids[0]!r}; leave --record out to have one chosen",
                )
            return both.select([self.record]), "named"
        group = groups(both)
        alone = np.bincount(group, minlength=len(both))[group] == 1
        free = alone[len(members) :]
        planted = np.array(outsiders.canaries or (False,) * len(outsiders)) & free
        rows = np.flatnonzero(planted if planted.any() else free)
        if not len(rows):
            return None, "no outsider stands alone: all have copies or owners with other records"
        losses = np.asarray(run.losses(target, outsiders.take(rows)), np.float64)
        what = "canary" if planted.any() else "outsider"
        return outsiders.take(rows[[int(losses.argmax())]]), f"the {what} of largest loss"

    def scores(
        self, target: Target, members: Split, one: Split, run: Run
    ) -> tuple[Float[np.ndarray, " runs"], Bool[np.ndarray, " runs"]]:
        """Minus the record's loss under each new model, and whether the model saw it."""
        without = members.where([record != one.ids[0] for record in members.ids])
        with_it = without.joined(one, name="with")
        # By id, so that what is trained does not depend on the order of the records.
        sides = [s.take(np.argsort(np.array(s.ids))) for s in (without, with_it)]
        inside = np.arange(self.runs) % 2 == 1
        models = run.retrained(target, [sides[saw] for saw in inside.astype(int)], "many runs")
        return np.array([-float(run.losses(model, one)[0]) for model in models]), inside

    def judged(
        self, scores: Float[np.ndarray, " runs"], inside: Bool[np.ndarray, " runs"]
    ) -> tuple[float, int, str]:
        """The bound, how many trainings it rests on, and how it came about."""
        first = np.arange(self.runs) < 2 * self.pilots
        cut = threshold(scores[first & inside], scores[first & ~inside])
        trained, left_out = scores[~first & inside], scores[~first & ~inside]
        misses, alarms = int((trained <= cut).sum()), int((left_out > cut).sum())
        settings = (self.delta, self.confidence)
        bound = many_run_epsilon(alarms, len(left_out), misses, len(trained), *settings)
        most = many_run_epsilon(0, len(left_out), 0, len(trained), *settings)
        how = f"{misses} of {len(trained)} trainings with it and {alarms} of {len(left_out)} "
        how += f"without it guessed wrongly; so few could show {most:.2f} at most"
        return bound, len(trained) + len(left_out), how


def threshold(inside: Float[np.ndarray, " a"], outside: Float[np.ndarray, " b"]) -> float:
    """The cut that makes fewest mistakes on these scores; of equals, in the widest gap."""
    values = np.unique(np.concatenate([inside, outside]))
    cuts = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
    wrong = [np.mean(inside <= cut) + np.mean(outside > cut) for cut in cuts]
    gaps = np.diff(values) if len(values) > 1 else np.zeros(1)
    best = np.lexsort((-gaps, np.round(wrong, 9)))
    return float(cuts[best[0]])
