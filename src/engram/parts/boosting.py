"""Boosted trees as plain arrays, and more trees on top of those that are there.

    F(x) = prior + rate * sum over trees of the value of x's leaf
    p(x) = sigmoid(F(x)) for two classes, else softmax over the classes' F

Values are stored with their rate in them. With more than two classes there is a tree a class in
each round. What scikit-learn grows is read as it is. What `NewtonBoosting` grows differs in one
thing: the value of a leaf is shrunk, as XGBoost's is (Chen and Guestrin, 2016, equation 5):

    value = sum over the leaf of (y - p)  /  (shrinkage + sum over the leaf of p (1 - p))

Where the trees so far are sure and wrong, p (1 - p) is next to nothing; without the shrinkage a
tree that is grown on other records than those before it takes steps without bound there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit, softmax

from engram.core import EngramError
from engram.parts.tree_arrays import leaves_of, packed

Arrays = Mapping[str, np.ndarray]
Scores = Float[np.ndarray, "n scores"]
LEAST = float(np.finfo(np.float64).eps)
NOTHING = 1e-150
"""Denominators below this have no value to give."""


def boosting_learnt(estimator: Any) -> dict[str, np.ndarray]:
    """The arrays of a fitted GradientBoostingClassifier that began with the share of classes."""
    trees = [tree.tree_ for tree in estimator.estimators_.ravel()]
    values = np.concatenate([t.value[:, 0, :] for t in trees]) * estimator.learning_rate
    return {**packed(trees), "value": values, "prior": prior_of(estimator.init_.class_prior_)}


def prior_of(shares: Float[np.ndarray, " classes"]) -> Float[np.ndarray, " scores"]:
    """The scores of records of which nothing is known but how frequent each class is."""
    shares = np.clip(shares, LEAST, 1 - LEAST)
    return logit(shares[1:]) if len(shares) == 2 else np.log(shares) - np.log(shares).mean()


def boosted(
    arrays: Arrays, features: Float[np.ndarray, "n features"]
) -> Float[np.ndarray, "n classes"]:
    """Class probabilities."""
    return _probabilities(scores_of(arrays, features))


def scores_of(arrays: Arrays, features: Float[np.ndarray, "n features"]) -> Scores:
    """F(x): one number a record for two classes, else one a class."""
    scores, count = np.tile(arrays["prior"], (len(features), 1)), len(arrays["prior"])
    for number, leaves in enumerate(leaves_of(arrays, features)):
        scores[:, number % count] += arrays["value"][leaves, 0]
    return scores


def _probabilities(scores: Scores) -> Float[np.ndarray, "n classes"]:
    if scores.shape[1] == 1:
        return np.hstack([expit(-scores), expit(scores)])
    return softmax(scores, axis=1)


@dataclass
class NewtonBoosting:
    """Boosted trees with shrunk leaves, called as scikit-learn's estimators are.

    Each tree is a regression tree of scikit-learn on y - p. With `shrinkage` 0 it is scikit-learn's
    GradientBoostingClassifier.

    Attributes:
        n_estimators: Rounds; a round grows a tree, or one a class if there are more than two.
        learning_rate: What each tree counts.
        max_depth: Of a tree.
        min_samples_leaf: The least records in a leaf.
        shrinkage: Added to the denominator of a leaf's value; XGBoost's lambda, which is 1.
        random_state: Decides between splits that are equally good.
    """

    n_estimators: int = 100
    learning_rate: float | int = 0.1
    max_depth: int | None = 3
    min_samples_leaf: int = 1
    shrinkage: float | int = 1.0
    random_state: int = 0

    def fit(
        self, features: Float[np.ndarray, "n features"], labels: Int[np.ndarray, " n"]
    ) -> "NewtonBoosting":
        """Grow all trees.

        Raises:
            ValueError: There is one class alone, or a number is out of its range.
        """
        self.classes_, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
        if len(self.classes_) < 2:
            raise ValueError(f"all {len(labels)} records are of one class")
        if not self.shrinkage >= 0:
            raise ValueError(f"shrinkage is {self.shrinkage}, but must be at least 0")
        prior = prior_of(counts / len(labels))
        scores = np.tile(prior, (len(labels), 1))
        self.arrays = {**self.grow(scores, features, place, len(self.classes_)), "prior": prior}
        return self

    def grow(
        self,
        scores: Scores,
        features: Float[np.ndarray, "n features"],
        place: Int[np.ndarray, " n"],
        classes: int,
    ) -> dict[str, np.ndarray]:
        """The arrays of new trees, on top of what has these scores; `scores` moves with them.

        Args:
            scores: F of each record so far.
            features: Of each record.
            place: Of each record, the number of its class.
            classes: How many there are.
        """
        from sklearn.tree import DecisionTreeRegressor

        features = np.ascontiguousarray(features, np.float32)
        rng = np.random.RandomState(self.random_state)
        true = np.eye(classes)[place][:, -scores.shape[1] :]
        # Friedman (2001), algorithm 6: with more than two classes a step is (K - 1) / K of Newton's
        part = self.learning_rate * ((classes - 1) / classes if classes > 2 else 1.0)
        trees, values = [], []
        for _ in range(self.n_estimators):
            told = _probabilities(scores)[:, -scores.shape[1] :]
            for c in range(scores.shape[1]):
                slope = true[:, c] - told[:, c]
                tree = DecisionTreeRegressor(
                    max_depth=self.max_depth, min_samples_leaf=self.min_samples_leaf,
                    random_state=rng,
                ).fit(features, slope, check_input=False).tree_  # fmt: skip
                leaf = tree.apply(features)
                bend = np.bincount(leaf, told[:, c] * (1 - told[:, c]), tree.node_count)
                total = np.bincount(leaf, slope, tree.node_count)
                below = bend + self.shrinkage
                value = np.divide(total, below, np.zeros_like(total), where=below > NOTHING) * part
                scores[:, c] += value[leaf]
                trees.append(tree)
                values.append(value)
        return {**packed(trees), "value": np.concatenate(values)[:, None]}


def newton_learnt(estimator: NewtonBoosting) -> dict[str, np.ndarray]:
    """The arrays of a fitted `NewtonBoosting`."""
    return estimator.arrays


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
        arrays: Of a boosted model.
        parameters: As `NewtonBoosting` calls them; `n_estimators` is the number of new rounds.
        features: Of the records.
        labels: Each one of the model's classes.
        random_state: Decides between splits that are equally good.

    Raises:
        EngramError: The model does not know a label, or there is one class alone.
    """
    classes = arrays["classes"]
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
    estimator = NewtonBoosting(**parameters, random_state=random_state)
    scores, place = scores_of(arrays, features), np.searchsorted(classes, labels)
    more, nodes = estimator.grow(scores, features, place, len(classes)), len(arrays["left"])
    for name in ("root", "left", "right"):
        more[name] = np.where(more[name] >= 0, more[name] + nodes, more[name])
    joined = {name: np.concatenate([arrays[name], more[name]]) for name in more}
    return {**joined, "classes": classes, "prior": arrays["prior"]}
