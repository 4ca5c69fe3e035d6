"""Bound epsilon from below by guessing who was in the training data of one model.

If a training is differentially private with a small epsilon, nobody can tell much better than by
tossing a coin which records it saw. So let chance decide who is in, guess from the trained model,
and count: the more guesses are right, the larger epsilon must be, however the model was trained.
Whoever is unsure may pass. One model is enough, because many records are guessed at once.

    epsilon >= the largest e at which  P(v or more right of r guesses | (e, delta)-DP)  <  1 - c

at confidence c. A record's score is minus its loss, or its loss under the target's base minus
that under the target. Made-up records (canaries) are the best ones to guess, for nothing but the
training can have told the model of them.

`design="pairs"` is for models whose held-out records were a number fixed in advance, as `engram
train` has it: each held-out record meets a trained one at random, and the guess is which of the
two was in. Exchanging two records is two steps, so the bound on one step is about half of it.
`design="coins"` is for records that were each put in by an independent fair coin, as `engram train
--holdout 0.5 --coins` does: one step each, so that as many records show about twice as much.

Differs from the paper: 1. `pairs`, see above: without it nothing is guaranteed here, since with a
fixed number the coins depend on each other. 2. The paper reports the best of many numbers of
guesses; we try few, fixed in advance, and correct for having looked at all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from engram import families
from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.chance_units import Units, matched, units_of
from engram.signals.references import both_losses
from engram.stats.epsilon import (
    NAME,
    Guesses,
    best_epsilon,
    coin_guesses,
    epsilon_finding,
    guess_counts,
    most_possible,
    one_run_epsilon,
    pair_guesses,
)
from engram.stats.intervals import LEVEL

EXCHANGE = "epsilon lower bound (exchange of a record)"
SIDES = ("members", "outsiders")
UNFAIR = 0.001
"""Below this probability, the number of records that were in is not that of fair coins."""


@dataclass(frozen=True)
class EpsilonLowerBound:
    """What one trained model surely gives away, as an epsilon."""

    paper: ClassVar[Paper] = Paper(
        title="Privacy Auditing with One (1) Training Run",
        authors="Steinke, Nasr and Jagielski",
        year=2023,
        url="https://arxiv.org/abs/2305.08846",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    access: ClassVar[Access] = "logits"

    delta: float = 1e-5
    """The delta of the guarantee that is tested, in [0, 1); the one that the training claims."""
    confidence: float = LEVEL
    """That the bound holds. The paper uses 0.95."""
    score: Literal["auto", "loss", "reference"] = "auto"
    """loss: minus the loss; reference: the loss under the target's base minus that; auto: reference
    where the base can be asked."""
    records: Literal["auto", "canaries", "all"] = "auto"
    """Which records to guess; auto: the canaries where any were planted, else all."""
    unit: Literal["record", "owner"] = "record"
    """Whose epsilon: record guesses only those that stand alone (no copies, no other record of the
    same owner); owner guesses all records of an owner, or all copies, at once."""
    design: Literal["auto", "pairs", "coins"] = "auto"
    """How chance decided who is in: a fixed number by lot (pairs), or an independent fair coin
    each (coins); auto: coins where the target says that it was trained so, with fair ones."""
    share: float = 0.0
    """Share of the units to guess, in [0, 1]; 0 tries all, a half, a quarter, ... of them."""

    def __post_init__(self) -> None:
        one_run_epsilon(Guesses(1, 1, 0), self.delta, self.confidence)  # refuses bad ones
        guess_counts(1, self.share)
        for name, known in (
            ("score", ("auto", "loss", "reference")),
            ("records", ("auto", "canaries", "all")),
            ("unit", ("record", "owner")),
            ("design", ("auto", "pairs", "coins")),
        ):
            if getattr(self, name) not in known:
                raise EngramError(
                    f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(known)}",
                    hint=f"{known[0]} is the default",
                )

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the bound for one record in or out; with pairs, also for an exchange."""
        tags = {"method": "epsilon-lower-bound", "split": "members, outsiders"}
        try:
            units, about = self._units(splits)
            scores, how = self._scores(target, units, run)
            fair = target.lineage.coins == 0.5
            tossed = fair if self.design == "auto" else self.design == "coins"
            found = self._coins if tossed else self._pairs
            numbers = found(units, units.mean(scores), f"{about}; {how}", run)
        except _NothingToGuessError as problem:
            numbers = (Finding.missing(NAME, str(problem)),)
        return tuple(number.tagged(**tags) for number in numbers)

    def _units(self, splits: Mapping[str, Split]) -> tuple[Units, str]:
        """What is guessed, and a note that says what it is."""
        for name in SIDES:
            if name not in splits or not len(splits[name]):
                raise _NothingToGuessError(f"there are no {name}")
        members, outsiders = (splits[name] for name in SIDES)
        planted = any(members.canaries or ()) or any(outsiders.canaries or ())
        if self.records == "canaries" and not planted:
            raise _NothingToGuessError("no canaries were planted")
        canaries = planted and self.records != "all"
        units = units_of(members, outsiders, alone=self.unit == "record", canaries=canaries)
        what = "canaries" if canaries else "records, not canaries"
        if not len(units.inside):
            raise _NothingToGuessError(
                f"none of the {what} stands alone: all have copies, or owners with more records "
                "(guess owners with --unit owner)"
            )
        if self.unit == "owner":
            most = int(units.sizes.max())
            return units, f"{what}, whole owners (up to {most} records each) in or out"
        return units, f"{what} that stand alone ({len(units.inside)} of {units.seen})"

    def _scores(self, target: Target, units: Units, run: Run) -> tuple[np.ndarray, str]:
        """One score a record, higher where it is more likely in, and how it was made."""
        loss = np.asarray(run.losses(target, units.records), np.float64)
        if self.score == "loss":
            return -loss, "by loss"
        try:
            base = self._base(target, run)
            first, second = both_losses(base, target, units.records, run)
            return first - second, "by reference"
        except EngramError as problem:
            if self.score == "reference":
                raise
            return -loss, f"by loss ({problem})"

    def _base(self, target: Target, run: Run) -> Target:
        if not target.lineage.base:
            raise EngramError(
                f"target {target.name!r} names no base",
                hint="use score=loss, which needs none",
            )
        base = run.target(target.lineage.base)
        if "losses" not in families.find(base.family).answers or base.family != target.family:
            raise EngramError(
                f"the base is a {base.family}, and the target a {target.family}",
                hint="use score=loss, which needs none",
            )
        return base

    def _pairs(self, units: Units, scores: np.ndarray, about: str, run: Run) -> tuple[Finding, ...]:
        trained, held_out = matched(units, run.stream("epsilon-lower-bound", "pairs"))
        if not len(trained):
            raise _NothingToGuessError(f"no two {about} can be paired, one in and one out")
        rng = run.stream("epsilon-lower-bound", "ties")
        tries = pair_guesses(scores[trained], scores[held_out], rng, self.share)
        about += "; holds if who was held out was drawn by lot, as `engram train` does"
        found = []
        for name, steps in ((NAME, 2), (EXCHANGE, 1)):
            bound, best = best_epsilon(tries, self.delta, self.confidence, steps)
            most = most_possible(tries, self.delta, self.confidence, steps)
            how = f"{best.right} of {best.made} guesses right on {best.units} pairs, {about}"
            how += f"; so few could show {most:.2f} at most"
            made = epsilon_finding(bound, len(trained), self.delta, self.confidence, how, name)
            found.append(made)
        return tuple(found)

    def _coins(self, units: Units, scores: np.ndarray, about: str, run: Run) -> tuple[Finding, ...]:
        from scipy.stats import binomtest

        n, inside = len(scores), int(units.inside.sum())
        if binomtest(inside, n, 0.5).pvalue < UNFAIR:
            raise _NothingToGuessError(
                f"{inside} of {n} {about} were in, which fair coins would not do "
                "(use --design pairs, or hold out half)"
            )
        rng = run.stream("epsilon-lower-bound", "ties")
        tries = coin_guesses(scores, units.inside, rng, self.share)
        bound, best = best_epsilon(tries, self.delta, self.confidence)
        most = most_possible(tries, self.delta, self.confidence)
        how = f"{best.right} of {best.made} guesses right, {about}; holds if each was put in by an "
        how += f"independent fair coin; so few could show {most:.2f} at most"
        return (epsilon_finding(bound, n, self.delta, self.confidence, how),)


class _NothingToGuessError(EngramError):
    """These records do not allow a bound: the number is missing, which is no mistake."""
