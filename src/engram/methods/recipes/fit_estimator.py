"""Fit a classical classifier of scikit-learn: regression, naive Bayes, neighbours, SVM or trees.

Not every model that gives its records away is a neural network: nearest neighbours *are* their
records, and a deep tree is a list of them. What was fitted is kept as plain arrays, never as a
pickle, and answers with the same probabilities as the estimator that scikit-learn fitted.

    logistic-regression    min over W, b of  sum log-loss + ||W||^2 / (2 C)
    gaussian-naive-bayes   p(y) prod over features of N(x_j; mean, variance)
    nearest-neighbours     share of the k nearest records
    rbf-svm                sum over support vectors of coefficients times exp(-gamma |x - s|^2)
    decision-tree          share of the records in a leaf
    random-forest          mean over trees
    gradient-boosting      sigmoid or softmax of  prior + rate * sum over trees
    newton-boosting        the same, with leaves that are shrunk as XGBoost's are

An SVM (`rbf-svm`) knows no probabilities: the softmax of its scores by class stands for them.

Differs from the paper: 1. Features are float32 before anything is fitted. 2. `newton-boosting` is
not in scikit-learn: its trees are, its leaves are our own.
"""

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from engram.core import Draft, EngramError, Paper, Run, Split
from engram.families.estimator import FAMILY, EstimatorModel
from engram.parts.estimators import fitted, kind_of
from engram.parts.labelled import features_of, labels_of
from engram.parts.soft_labels import refuse_soft_labels


@dataclass(frozen=True)
class FitEstimator:
    """A scikit-learn classifier."""

    paper: ClassVar[Paper] = Paper(
        title="Scikit-learn: Machine Learning in Python",
        authors="Pedregosa et al.",
        year=2011,
        url="https://jmlr.org/papers/v12/pedregosa11a.html",
    )
    family: ClassVar[str] = "estimator"

    estimator: str = "logistic-regression"
    """logistic-regression, gaussian-naive-bayes, nearest-neighbours, rbf-svm, decision-tree,
    random-forest, gradient-boosting or newton-boosting."""
    parameters: tuple[str, ...] = ()
    """What to set, as scikit-learn calls it: `C=0.1`, `n_neighbors=1`, `max_depth=4`."""

    def __post_init__(self) -> None:
        kind_of(self.estimator)
        self.settings()

    def settings(self) -> dict[str, Any]:
        """The parameters by name; values are read as JSON, else as words."""
        return dict(_setting(entry) for entry in self.parameters)

    def __call__(self, split: Split, run: Run) -> Draft:
        """Fit on the columns `features` and `label`."""
        FAMILY.check(split)
        if not len(split):
            raise EngramError(f"split {split.name!r} has no records", hint="give at least one")
        refuse_soft_labels(split, "fit-estimator")
        run.progress(0, 1, "fitting")
        features, labels = features_of(split), labels_of(split)
        seed = int(run.stream("fit").integers(2**31))
        arrays, warned = fitted(self.estimator, self.settings(), features, labels, seed)
        for message in warned:
            run.log(warning=message)
        model = EstimatorModel(self.estimator, arrays, features.shape[1], self.settings())
        loss = float(FAMILY.losses(model, split).mean())
        run.log(loss=loss)
        run.progress(1, 1, "fitting")
        return Draft(self.family, model, ({"step": 0, "loss": loss},))


def _setting(entry: str) -> tuple[str, Any]:
    name, equals, value = entry.partition("=")
    if not name or not equals:
        raise EngramError(
            f"parameter {entry!r} is not of the form name=value", hint="for example C=0.1"
        )
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), {"None": None, "True": True, "False": False}.get(value, value)
