"""Compare a record's confidence with what is usual for non-members of its kind.

One threshold for all records is a weak test: easy records pass it unseen. Shadow models learn a
threshold for each record, and cost dearly. Here a single regression learns it, from records
that the target never saw: given what a record looks like (never how the target answers it), how
sure is the target usually, and how much does that vary? A record that the target is surer of
than nearly all non-members of its kind was probably trained on.

    phi(x)   = log(p / (1 - p)),  p = exp(-loss(x))
    score(x) = (phi(x) - mean(z)) / spread(z),  z = features of x

"gaussian" learns mean and spread by two ridge regressions; "quantile" learns the quantiles
0.159, 0.5 and 0.841 by boosted trees under the pinball loss, and takes the middle one and half
the distance between the others. A threshold on the score is then a quantile for each record.

Differs from the paper: 1. The paper fits a neural network on raw images; we fit small
regressions on features that are cheap to have: for texts lengths, compressibility, kinds of
characters, hashed words and, where there is one, the loss of the target's base; else the
record's own features and its label. 2. The spread of "gaussian" is learnt from errors on
records that were left out. 3. For texts, p is the geometric mean of the tokens' probabilities.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from engram import families
from engram.core import SCORED, Access, EngramError, Paper, Run, Scores, Split, Target
from engram.methods.attacks.quantile_regression.features import RecordFeatures
from engram.methods.attacks.quantile_regression.regressions import gaussian, quantiles
from engram.parts.outside_records import outside_records
from engram.parts.shadow_scores import Statistic, check_losses, check_statistic, statistic_of
from engram.signals.references import BASE, both_losses, find_reference

FEWEST = 50
NONE = "none"


@dataclass(frozen=True)
class QuantileRegression:
    """How far a record's confidence lies above what is usual for non-members like it."""

    paper: ClassVar[Paper] = Paper(
        title="Scalable Membership Inference Attacks via Quantile Regression",
        authors="Bertran et al.",
        year=2023,
        url="https://arxiv.org/abs/2307.03694",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    access: ClassVar[Access] = "logits"
    requires: ClassVar[tuple[str, ...]] = ("population",)

    population: str = ""
    """Records that the target never saw, none of them audited: a file or a data set. At least
    50; some thousand make a sharp regression. Must be given."""
    regression: Literal["gaussian", "quantile"] = "gaussian"
    """What is learnt: mean and spread by ridge regression, or quantiles by boosted trees."""
    statistic: Statistic = "logit"
    """logit of exp(-loss); or loss, for losses that are not minus a log-probability."""
    reference: str = ""
    """A model whose loss tells how hard a record is; empty: the target's base, if it has one;
    "none" takes no model."""

    def __post_init__(self) -> None:
        if self.regression not in ("gaussian", "quantile"):
            raise EngramError(
                f"regression is {self.regression!r}", hint="it is one of gaussian, quantile"
            )
        check_statistic(self.statistic)

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return the z-score of each record among non-members like it."""
        if not self.population:
            raise EngramError(
                "there are no records that the target never saw to learn thresholds from",
                hint="name a file of them with --population F, or leave this attack out",
            )
        public = self.public(target, split, run)
        kind = RecordFeatures.like(public.only([c for c in public.columns if c in split.columns]))
        known, asked = (self._phi(target, each, run) for each in (public, split))
        train, rows = (self._features(kind, target, each, run) for each in (public, split))
        rng = run.stream("quantile-regression")
        learn = gaussian if self.regression == "gaussian" else quantiles
        middle, spread = learn(train, known, rng)(rows)
        # The paper's threshold q(z), for every false-positive rate at once.
        return Scores(split.ids, (asked - middle) / spread, unit="standard deviations")

    def public(self, target: Target, split: Split, run: Run) -> Split:
        """The population's records that the model can be asked about.

        Raises:
            EngramError: There are fewer than 50, or some are audited too.
        """
        found = outside_records(self.population, split, target, run, least=FEWEST)
        family = families.find(target.family)
        family.check(found)
        scored = [each == SCORED for each in family.outcomes(target.model, found)]
        if sum(scored) < FEWEST:
            raise EngramError(
                f"the model can be asked about only {sum(scored)} of the {len(found)} records of "
                f"the population {self.population!r}, but at least {FEWEST} are needed",
                hint="give longer texts of the kind that is audited",
            )
        return found.where(scored)

    def _phi(self, target: Target, split: Split, run: Run) -> Float[np.ndarray, " n"]:
        losses = np.asarray(run.losses(target, split), np.float64)
        check_losses(losses, self.statistic, target)
        return statistic_of(losses, self.statistic)

    def _features(
        self, kind: RecordFeatures, target: Target, split: Split, run: Run
    ) -> Float[np.ndarray, "n columns"]:
        plain = kind.of(split)
        where = self.reference or (BASE if target.lineage.base else NONE)
        if where == NONE or not len(split):
            extra = np.zeros((len(split), int(where != NONE)))
            return np.column_stack([plain, extra])
        reference = find_reference(where, target, run)
        return np.column_stack([plain, both_losses(reference, target, split, run)[0]])
