"""Boosted trees as plain arrays, and more trees on top of those that are there.

    F(x) = prior + rate * sum over trees of the value of x's leaf
    p(x) = sigmoid(F(x)) for two classes, else softmax over the classes' F

Values are stored with their rate in them. With more than two classes there is a tree a class in
each round. scikit-learn begins a continued model with the probabilities of the one before, cut off
at the smallest step of a float: `begun` says after how many trees, so that answers are the same.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit, softmax

from engram.core import EngramError
from engram.parts.tree_arrays import leaves_of, packed

Arrays = Mapping[str, np.ndarray]
LEAST = float(np.finfo(np.float64).eps)


def boosting_learnt(estimator: Any) -> dict[str, np.ndarray]:
    """The arrays of a fitted GradientBoostingClassifier that began with the share of classes."""
    shares = np.clip(estimator.init_.class_prior_, LEAST, 1 - LEAST)
    prior = logit(shares[1:]) if len(shares) == 2 else np.log(shares) - np.log(shares).mean()
    return {**_trees(estimator), "prior": prior, "begun": np.zeros(1, np.int64)}


def _trees(estimator: Any) -> dict[str, np.ndarray]:
    trees = [tree.tree_ for tree in estimator.estimators_.ravel()]
    values = np.concatenate([t.value[:, 0, :] for t in trees]) * estimator.learning_rate
    return {**packed(trees), "value": values}


def boosted(
    arrays: Arrays, features: Float[np.ndarray, "n features"]
) -> Float[np.ndarray, "n classes"]:
    """Class probabilities."""
    scores, count = np.tile(arrays["prior"], (len(features), 1)), len(arrays["prior"])
    for number, leaves in enumerate(leaves_of(arrays, features)):
        if number and number == arrays["begun"][0]:
            scores = _begun(scores)
        scores[:, number % count] += arrays["value"][leaves, 0]
    if len(arrays["root"]) == arrays["begun"][0] > 0:
        scores = _begun(scores)
    return _probabilities(scores)


def _probabilities(scores: Float[np.ndarray, "n scores"]) -> Float[np.ndarray, "n classes"]:
    if scores.shape[1] == 1:
        return np.hstack([expit(-scores), expit(scores)])
    return softmax(scores, axis=1)


def _begun(scores: Float[np.ndarray, "n scores"]) -> Float[np.ndarray, "n scores"]:
    """Scores as a model that continues takes them over."""
    found = np.clip(_probabilities(scores), LEAST, 1 - LEAST)
    if scores.shape[1] == 1:
        return logit(found[:, 1:])
    return np.log(found) - np.log(found).mean(1, keepdims=True)


@dataclass
class Before:
    """A boosted model as the beginning of another: what scikit-learn calls `init`."""

    arrays: Arrays

    def fit(self, features: Any, labels: Any, sample_weight: Any = None) -> "Before":
        """It is fitted already."""
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The likeliest class."""
        return self.arrays["classes"][self.predict_proba(features).argmax(1)]

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities."""
        return boosted(self.arrays, features)


def continued(
    arrays: Arrays,
    parameters: Mapping[str, Any],
    features: Float[np.ndarray, "n features"],
    labels: Int[np.ndarray, " n"],
    random_state: int,
) -> dict[str, np.ndarray]:
    """The same trees, and more that are fitted to these records.

    A class of which there is no record any more stays among the answers.

    Args:
        arrays: Of a boosted model that was not continued yet.
        parameters: As scikit-learn calls them; `n_estimators` is the number of new rounds.
        features: Of the records.
        labels: Each one of the model's classes.
        random_state: Of scikit-learn.

    Raises:
        EngramError: The model does not know a label, or there is one class alone.
    """
    from sklearn.ensemble import GradientBoostingClassifier

    features, classes = features.astype(np.float64), arrays["classes"]
    if (strange := labels[~np.isin(labels, classes)]).size:
        raise EngramError(
            f"a record has the label {strange[0]}, which the model to be continued does not know "
            f"(it knows {', '.join(map(str, classes[:20]))})",
            hint="give records of the kind that it was trained on",
        )
    if len(np.unique(labels)) < 2:
        raise EngramError(
            f"all {len(labels)} records are of one class, so no trees can be fitted to them",
            hint="forget fewer records, or delete the model",
        )
    # scikit-learn counts the classes: one without records is named by a record without weight.
    missing = np.setdiff1d(classes, labels)
    features = np.concatenate([features, np.repeat(features[:1], len(missing), 0)])
    weight = np.repeat([1.0, 0.0], [len(labels), len(missing)])
    estimator = GradientBoostingClassifier(
        **parameters, init=Before(arrays), random_state=random_state
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(features, np.concatenate([labels, missing]), sample_weight=weight)
    more, nodes = _trees(estimator), len(arrays["left"])
    for name in ("root", "left", "right"):
        more[name] = np.where(more[name] >= 0, more[name] + nodes, more[name])
    joined = {name: np.concatenate([arrays[name], more[name]]) for name in more}
    begun = np.array([len(arrays["root"])], np.int64)
    return {**joined, "classes": classes, "prior": arrays["prior"], "begun": begun}
