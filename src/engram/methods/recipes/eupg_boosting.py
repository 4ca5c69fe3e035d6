"""Grow boosted trees on protected records and a few more on the original ones, to forget cheaply.

The same idea as `eupg`, for trees: boosting adds tree to tree, each to mend what those before it
get wrong, so it can stop anywhere and go on with other records. The trees of the protected records
are stored and stay; a request to forget grows the few last ones anew (edit `eupg-redo`).

    F'(x) = prior + sum over rounds 1 ... E on protect(D) of  rate * tree(x)       stored
    F(x)  = F'(x) + sum over rounds 1 ... e on D of           rate * tree(x)       deployed
    F_F   = the same with D - F in the place of D                                  after a request

What is promised of a forgotten record is the guarantee of the protection (k or epsilon), since F'
saw its protected form; labels are protected only if they are included.

The paper's learning rate of 0.5 needs leaves whose values are shrunk, as XGBoost's are: trees that
were grown on k-anonymous records are sure of things that are not so for the original ones, and a
leaf that is not shrunk answers that with a step without bound (study `eupg-boosting`).

Differs from the paper: the paper has XGBoost. Here trees are scikit-learn's regression trees, each
on the slopes of the loss, and leaves have the values that XGBoost would give them.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram.core import Draft, Paper, Run, Split
from engram.families.estimator import EstimatorModel
from engram.families.protected_estimator import FAMILY
from engram.parts.protected_models import ProtectedModel
from engram.parts.protected_training import ProtectedBoosting


@dataclass(frozen=True)
class EupgBoosting(ProtectedBoosting):
    """Boosted trees, most of which saw protected records alone."""

    paper: ClassVar[Paper] = Paper(
        title="Efficient Unlearning with Privacy Guarantees",
        authors="Domingo-Ferrer, Jebreel and Sánchez",
        year=2025,
        url="https://arxiv.org/abs/2507.04771",
    )
    family: ClassVar[str] = "protected-estimator"
    forgets_by: ClassVar[str] = "eupg-redo"
    instead_of: ClassVar[frozenset[str]] = frozenset({"estimator"})

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train on the columns `features` and `label`."""
        FAMILY.check(split)
        run.progress(0, 2, "growing trees on protected records")
        before, found = self.pretrain(split, run)
        run.progress(1, 2, "growing trees on the records")
        after = self.tune(before, split, run.seed)
        width = len(split.matrix("features")[0])
        rounds = {"protected": self.estimators, "deployed": self.estimators + self.tune_estimators}
        protected, deployed = (
            EstimatorModel("newton-boosting", arrays, width, self.parameters(rounds[name]))
            for name, arrays in (("protected", before), ("deployed", after))
        )
        model = ProtectedModel(deployed, protected, found.promise)
        run.progress(2, 2, "growing trees on the records")
        loss = float(FAMILY.losses(model, split).mean())
        return Draft(self.family, model, ({"step": 0, "loss": loss},))
