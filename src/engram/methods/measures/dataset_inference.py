"""Was this set of records used in training? A test on the whole set, with its false alarms known.

Whether one record was used can hardly be told of a large model: each attack does little better
than chance, and which one works best differs from data to data. But a small difference over a
thousand records is no chance. So learn on one half of the records how to weigh many attacks, and
ask on the other half whether the suspect records look more like training data than records that
were surely held out.

    g   = linear model of the attacks, fitted on halves A (suspect: 1, held out: 0)
    d   = mean of g on the suspect half B  -  mean of g on the held-out half B
    p   = (1 + number of random re-labellings of the B halves with a difference >= d) / (1 + all)

The members are the suspect set, the outsiders the held-out one. A small p-value means that the
two differ, and it means use in training only if they differ in nothing else. So the records are
first compared without the model; where that tells them apart, no claim is made. And the same test
between two halves of the held-out set, where there is nothing to find, is reported as a control.

Differs from the paper: 1. A permutation test instead of a t-test: exact at every n, and owners
and copies stay together. 2. The blind comparison and the control decide whether a claim is made.
3. Our attacks are those that stored answers give: no perturbations, no other models. 4. One split
in halves, not ten. 5. Classifiers are tested too, by likelihood, margin and certainty.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.chance_units import halves, units_of
from engram.parts.fair_sides import told_apart
from engram.signals.membership_features import membership_features
from engram.stats.dataset_use import PermutationTest, fit_guess, permutation_test

NAME, CONTROL = "p-value", "p-value of the control"
FEWEST = 8
"""Units (records, or owners) of each side in each half, from which on the test is made."""


@dataclass(frozen=True)
class DatasetInference:
    """P-value of the claim that the members were not used in training."""

    paper: ClassVar[Paper] = Paper(
        title="LLM Dataset Inference: Did you train on my dataset?",
        authors="Maini et al.",
        year=2024,
        url="https://arxiv.org/abs/2406.06443",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    needs_one_of: ClassVar[frozenset[str]] = frozenset({"tokens", "logits"})
    access: ClassVar[Access] = "logits"

    permutations: int = 10_000
    """Random re-labellings behind each p-value; the smallest p-value is 1 over this."""
    alpha: float = 0.05
    """The p-value below which the set is said to have been used. The paper uses 0.1."""

    def __post_init__(self) -> None:
        if self.permutations < 99:
            raise EngramError(
                f"permutations is {self.permutations}, but must be at least 99",
                hint="10000 is usual",
            )
        if not 0 < self.alpha < 1:
            raise EngramError(
                f"alpha is {self.alpha}, but must be in (0, 1)", hint="0.05 or 0.01 is usual"
            )

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the p-value of the suspect set, and that of the control."""
        names = ("members", "outsiders")
        if reason := _too_few(splits, names):
            return self._tagged(Finding.missing(NAME, reason))
        sides = [splits[name] for name in names]
        units = units_of(*sides, alone=False, canaries=False)
        fewest = int(min(units.inside.sum(), (~units.inside).sum()))
        if fewest < 2 * FEWEST:
            reason = f"one side has {fewest} records (or owners); {2 * FEWEST} are needed"
            return self._tagged(Finding.missing(NAME, reason, len(units.records)))
        _, features = membership_features(target, units.records, run)
        suspect = units.inside[units.unit]
        test = self._test(features, suspect, units.unit, run, "suspect")
        control = self._control(features[~suspect], units.unit[~suspect], run)
        refused, doubt = told_apart(*sides, run.stream("dataset-inference", "split audit"))
        claim = self._claim(test, control, refused, doubt)
        return self._tagged(claim, _control_finding(control))

    def _test(
        self,
        features: Float[np.ndarray, "n features"],
        suspect: Bool[np.ndarray, " n"],
        cluster: Int[np.ndarray, " n"],
        run: Run,
        what: str,
    ) -> PermutationTest:
        """Fit on one half of the clusters of each side, test on the other."""
        fitted = halves(cluster, suspect, run.stream("dataset-inference", what, "halves"))
        guess = fit_guess(features[fitted], suspect[fitted])
        rest = ~fitted
        rng = run.stream("dataset-inference", what, "permutations")
        return permutation_test(
            guess(features[rest]), suspect[rest], rng, cluster[rest], self.permutations
        )

    def _control(
        self, features: Float[np.ndarray, "n features"], cluster: Int[np.ndarray, " n"], run: Run
    ) -> PermutationTest | None:
        """The same between two halves of the held-out records; None where they are too few."""
        if len(np.unique(cluster)) < 4 * FEWEST:
            return None
        rng = run.stream("dataset-inference", "control")
        pretended = halves(cluster, np.ones(len(cluster), bool), rng)
        return self._test(features, pretended, cluster, run, "control")

    def _claim(
        self, test: PermutationTest, control: PermutationTest | None, refused: str, doubt: str
    ) -> Finding:
        if refused:
            reason = f"no claim can be made: {refused}"
            return Finding.missing(NAME, reason, test.n)
        if test.p_value < self.alpha:
            says = "the suspect records look more like training data than the held-out ones do"
        else:
            says = "no evidence that the suspect set was used (which does not show that it was not)"
        if control is not None and control.p_value < self.alpha:
            doubt = "; ".join(filter(None, (doubt, "the control found something too")))
        note = "; ".join(filter(None, (says, f"alpha {self.alpha:g}", doubt)))
        return Finding(NAME, test.p_value, test.low, test.high, test.n).tagged(note=note)

    def _tagged(self, *findings: Finding) -> tuple[Finding, ...]:
        tags = {"method": "dataset-inference", "split": "members, outsiders"}
        return tuple(finding.tagged(**tags) for finding in findings)


def _control_finding(control: PermutationTest | None) -> Finding:
    if control is None:
        reason = f"a control needs {4 * FEWEST} held-out records (or owners)"
        return Finding.missing(CONTROL, reason)
    note = "held-out records against held-out records: any value is equally likely by chance"
    found = Finding(CONTROL, control.p_value, control.low, control.high, control.n)
    return found.tagged(note=note)


def _too_few(splits: Mapping[str, Split], names: tuple[str, ...]) -> str:
    missing = [name for name in names if name not in splits or not len(splits[name])]
    return f"there are no {missing[0]}" if missing else ""
