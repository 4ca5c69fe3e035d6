"""Tell how much of a set of records was used in training: none, a tenth, all of it.

Guess of every record of the set whether it was used. The share of guesses that say yes is off,
for the guess errs; but how often it errs is known from records whose membership is known, and
errors of a known rate can be taken off the total, though not off any one record.

    share = (mean guess over the set  -  FPR) / (TPR - FPR)
    FPR   = mean guess over known outsiders,   TPR = mean guess over known members

The guess is a linear model of several attacks, between 0 and 1, fitted on one half of the known
records; the rates are those of the other half. Name the set with `suspect`; it must be of the same
kind as the known records, and is compared with the outsiders without the model first. Without known
members there is still a lower bound on the share: the largest excess of its scores over those of
the outsiders. Without `suspect`, half of the members and outsiders are mixed to a set whose share
is known, as a check of the method on this model.

Differs from the paper: 1. The paper trains models of its own to learn the error rates of each
record; ours are common to all records, and come from known members and outsiders of the target
itself. 2. Its interval is that of a binomial; ours is Fieller's, which knows that the rates are
estimates too, and widens to [0, 1] where guesses are as good as chance. 3. The lower bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from engram import families
from engram.core import (
    SCORED,
    Access,
    EngramError,
    Finding,
    Paper,
    Run,
    Split,
    Target,
    check_disjoint,
)
from engram.parts.chance_units import halves
from engram.parts.fair_sides import told_apart
from engram.parts.partition import groups
from engram.signals.membership_features import membership_features
from engram.stats.dataset_use import fit_guess, share_at_least, share_used
from engram.stats.intervals import LEVEL

NAME, LEAST, CHECK = "share used", "share used, at least", "share used (self-check)"
FEWEST = 4
"""Records (or owners) of each known side in each half, from which on rates are estimated."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Membership signals of records, and which of the records rise and fall together."""

    features: Float[np.ndarray, "n features"]
    cluster: Int[np.ndarray, " n"]

    @property
    def independent(self) -> int:
        """Owners, or records that are neither one owner's nor copies."""
        return len(np.unique(self.cluster))

    def halved(self, rng: np.random.Generator) -> tuple["Asked", "Asked"]:
        """A random half of the clusters, and the others."""
        first = halves(self.cluster, np.ones(len(self.cluster), bool), rng)
        parts = [Asked(self.features[rows], self.cluster[rows]) for rows in (first, ~first)]
        return parts[0], parts[1]


@dataclass(frozen=True)
class UsageCardinality:
    """The share of a set that the target was trained on."""

    paper: ClassVar[Paper] = Paper(
        title="How much of my dataset did you use? Quantitative Data Usage Inference in Machine "
        "Learning",
        authors="Tong et al.",
        year=2025,
        url="https://openreview.net/forum?id=EUSkm2sVJ6",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    needs_one_of: ClassVar[frozenset[str]] = frozenset({"tokens", "logits"})
    access: ClassVar[Access] = "logits"

    suspect: str = ""
    """A file of the records in question; empty: check the method on records that are known."""
    confidence: float = LEVEL
    """Of the interval."""

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise EngramError(
                f"confidence is {self.confidence}, but must be in (0, 1)", hint="0.95 is usual"
            )

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the share with its interval, or a lower bound where no members are known."""
        known = {name: splits[name] for name in ("members", "outsiders") if name in splits}
        known = {name: split for name, split in known.items() if len(split)}
        if "outsiders" not in known:
            found = Finding.missing(NAME, "no outsiders are known, so chance is not either")
        elif self.suspect:
            found = self._of_file(target, known, run)
        else:
            found = self._check(target, known, run)
        where = "suspect" if self.suspect else "members, outsiders"
        return (found.tagged(method="usage-cardinality", split=where),)

    def _of_file(self, target: Target, known: Mapping[str, Split], run: Run) -> Finding:
        suspect = _scorable(target, run.records(self.suspect, target))
        for split in known.values():
            check_disjoint(suspect, split)
        asked = _ask(target, suspect, run)
        rng = run.stream("usage-cardinality", "split audit")
        refused, doubt = told_apart(suspect, known["outsiders"], rng)
        if refused:
            reason = f"the set is of another kind than the outsiders: {refused}"
            return Finding.missing(NAME, reason, len(suspect))
        sides = {name: _ask(target, split, run) for name, split in known.items()}
        if "members" not in sides:
            return self._at_least(asked, sides["outsiders"], doubt)
        return self._estimate(asked, sides, run, NAME, doubt)

    def _check(self, target: Target, known: Mapping[str, Split], run: Run) -> Finding:
        """A set mixed from halves of both sides, estimated by the other halves."""
        if "members" not in known:
            return Finding.missing(CHECK, "no members are known; name a set with --suspect")
        mixed, left = {}, {}
        for name, split in known.items():
            rng = run.stream("usage-cardinality", "mix", name)
            mixed[name], left[name] = _ask(target, split, run).halved(rng)
        inside, outside = mixed["members"], mixed["outsiders"]
        beyond = inside.cluster.max(initial=0) + 1
        suspect = Asked(
            np.concatenate([inside.features, outside.features]),
            np.concatenate([inside.cluster, outside.cluster + beyond]),
        )
        truth = len(inside.cluster) / max(len(suspect.cluster), 1)
        return self._estimate(suspect, left, run, CHECK, f"the true share is {truth:.3f}")

    def _estimate(
        self, suspect: Asked, sides: Mapping[str, Asked], run: Run, name: str, doubt: str
    ) -> Finding:
        """Fit the guess on one half of the known records, and take its rates from the other."""
        n = len(suspect.cluster)
        for side, asked in sides.items():
            if asked.independent < 2 * FEWEST:
                reason = f"too few {side} (or owners of theirs) are left: {asked.independent}"
                return Finding.missing(name, reason, n)
        if suspect.independent < 2:
            return Finding.missing(name, "the set has fewer than two records (or owners)", n)
        parts = {
            s: a.halved(run.stream("usage-cardinality", "halves", s)) for s, a in sides.items()
        }
        (fitted_in, rest_in), (fitted_out, rest_out) = parts["members"], parts["outsiders"]
        both = np.concatenate([fitted_in.features, fitted_out.features])
        guess = fit_guess(both, np.arange(len(both)) < len(fitted_in.features))
        three = (suspect, rest_in, rest_out)
        values, clusters = zip(*((guess(a.features), a.cluster) for a in three), strict=True)
        share = share_used(*values, clusters, self.confidence)
        power = f"TPR - FPR of the guess is {share.power:.3f}"
        if share.power <= 0:
            return Finding.missing(name, f"guesses are no better than chance ({power})", n)
        note = "; ".join(filter(None, (doubt, power, f"{100 * self.confidence:g} % interval")))
        return Finding(name, share.value, share.low, share.high, n).tagged(note=note)

    def _at_least(self, suspect: Asked, outsiders: Asked, doubt: str) -> Finding:
        """By the first signal alone: without members there is nothing to fit on."""
        n = len(suspect.cluster)
        if any(asked.independent < len(asked.cluster) for asked in (suspect, outsiders)):
            reason = "a lower bound needs records that are independent, one an owner and no copies"
            return Finding.missing(LEAST, reason, n)
        bound = share_at_least(suspect.features[:, 0], outsiders.features[:, 0], self.confidence)
        says = f"no members are known; {100 * self.confidence:g} % lower bound"
        note = "; ".join(filter(None, (says, doubt)))
        return Finding(LEAST, bound, bound, 1.0, n).tagged(note=note)


def _ask(target: Target, split: Split, run: Run) -> Asked:
    return Asked(membership_features(target, split, run)[1], groups(split))


def _scorable(target: Target, split: Split) -> Split:
    """The records that the model can be asked about; an error where there are none."""
    family = families.find(target.family)
    family.check(split)
    kept = split.where([o == SCORED for o in family.outcomes(target.model, split)], "suspect")
    if not len(kept):
        raise EngramError(
            f"none of the {len(split)} records of the suspect set can be scored",
            hint="a text needs at least two tokens",
        )
    return kept
