"""A blind test of attacks: records are scored first, and only then is it looked up who trained."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engram.core import EngramError, Split, Target, check_disjoint
from engram.engine.run import EngineRun


@dataclass(frozen=True)
class Labelled:
    """Scores joined with who was a member, records in the order members, outsiders."""

    records: Split
    blind: Split
    """The same records as the attacks saw them: shuffled, without canary marks."""
    is_member: np.ndarray
    scores: Mapping[str, np.ndarray]
    units: Mapping[str, str]


@dataclass(frozen=True)
class Trial:
    """Members and outsiders, shuffled together before any attack sees them.

    Raises:
        EngramError: One side is empty, or a record is on both.
    """

    members: Split
    outsiders: Split

    def __post_init__(self) -> None:
        for side, what in ((self.members, "members"), (self.outsiders, "outsiders")):
            if not len(side):
                raise EngramError(
                    f"there are no {what}, so there is nothing to tell apart",
                    hint="an audit needs records that were trained on and records that were "
                    "not: train with --holdout, or give --members and --outsiders",
                )
        check_disjoint(self.members, self.outsiders)

    def run(self, attacks: Mapping[str, Any], target: Target, run: EngineRun) -> Labelled:
        """Score every record with every attack; the target's ledger is sealed away."""
        both = self.members.joined(self.outsiders, name="records")
        order = run.stream("trial").permutation(len(both))
        blind = replace(both.take(order), canaries=None)
        back = np.argsort(order)
        scores, units = {}, {}
        for done, (name, attack) in enumerate(attacks.items()):
            run.progress(done, len(attacks), f"attack {name}")
            found = attack(target.sealed(), blind, run)
            if found.ids != blind.ids:
                raise EngramError(
                    f"attack {name} did not score the records it was given, in their order",
                    hint="this is a mistake in the attack, not in your data",
                )
            scores[name], units[name] = found.values[back], found.unit
        run.progress(len(attacks), len(attacks), "attacks")
        is_member = np.arange(len(both)) < len(self.members)
        return Labelled(both, blind, is_member, scores, units)
