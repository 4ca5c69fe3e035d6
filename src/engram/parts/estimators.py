"""scikit-learn estimators as plain arrays: fitted by scikit-learn, stored and asked without pickle.

What an estimator has learnt is a few arrays. Class probabilities are computed from those alone,
so a stored estimator needs no code and no object of a library's version to be opened. Where an
array comes from outside it is checked before it is used as an index.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from engram.core import EngramError, nearest
from engram.parts.boosting import boosted, boosting_learnt, newton_learnt
from engram.parts.support_vectors import damaged, support_vector_shares, support_vectors_learnt
from engram.parts.tree_arrays import LEAF, leaves_of, packed

Arrays = Mapping[str, np.ndarray]
Features = Float[np.ndarray, "n features"]
Probabilities = Float[np.ndarray, "n classes"]
BLOCK = 4096


@dataclass(frozen=True)
class Kind:
    """One kind of estimator.

    Attributes:
        address: Where it is: `module:Class`, of scikit-learn or called as its estimators are.
        parameters: The parameters that may be set, and what we use where they are not.
        arrays: The arrays that are stored, with the number of their axes.
        learnt: The arrays of a fitted estimator, beside its `classes`.
        ask: Class probabilities from the arrays.
        random: Whether it takes a `random_state`.
    """

    address: str
    parameters: Mapping[str, Any]
    arrays: Mapping[str, int]
    learnt: Callable[[Any], dict[str, np.ndarray]]
    ask: Callable[[Arrays, Features], Probabilities]
    random: bool = False


def kind_of(name: str) -> Kind:
    """The kind called `name`.

    Raises:
        EngramError: There is none; the nearest names are given.
    """
    if name not in KINDS:
        raise EngramError(
            f"there is no estimator called {name!r}",
            hint=nearest(name, KINDS, f"the estimators are {', '.join(KINDS)}"),
        )
    return KINDS[name]


def fitted(
    name: str,
    parameters: Mapping[str, Any],
    features: Features,
    labels: Int[np.ndarray, " n"],
    random_state: int,
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Fit it. Returns what was learnt, and what scikit-learn warned of.

    Raises:
        EngramError: A parameter is unknown or refused, or the data has a single class.
    """
    kind = kind_of(name)
    if unknown := sorted(set(parameters) - set(kind.parameters)):
        raise EngramError(
            f"{name} has no parameter {unknown[0]!r}",
            hint=nearest(unknown[0], kind.parameters, f"it has {', '.join(kind.parameters)}"),
        )
    module, _, attribute = kind.address.partition(":")
    given = {**kind.parameters, **parameters}
    if kind.random:
        given["random_state"] = random_state
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            estimator = getattr(import_module(module), attribute)(**given)
            estimator.fit(features.astype(np.float64), labels)
        except (ValueError, TypeError) as problem:
            raise EngramError(
                f"{name} cannot be fitted: {' '.join(str(problem).split())[:200]}",
                hint="look at --parameters, and at the number of records and classes",
            ) from None
    arrays = {"classes": np.asarray(estimator.classes_, np.int64), **kind.learnt(estimator)}
    return arrays, tuple(" ".join(str(w.message).split())[:200] for w in said)


def probabilities(name: str, arrays: Arrays, features: Features) -> Probabilities:
    """Class probabilities, a block of records at a time."""
    ask, features = kind_of(name).ask, features.astype(np.float64)
    blocks = [ask(arrays, features[i : i + BLOCK]) for i in range(0, len(features), BLOCK)]
    return np.concatenate([np.empty((0, len(arrays["classes"]))), *blocks])


def check_arrays(name: str, arrays: Arrays, features: int) -> None:
    """Refuse arrays from outside that do not make an estimator of this kind.

    Raises:
        EngramError: An array is missing, has another shape, is not finite, or points nowhere.
    """
    wanted = {"classes": 1, **kind_of(name).arrays}
    sizes = {key: array.ndim for key, array in arrays.items()}
    if sizes != wanted:
        raise _damaged(name, f"arrays {sorted(sizes)} where {sorted(wanted)} belong")
    if any(not np.isfinite(a).all() for a in arrays.values()):
        raise _damaged(name, "a number that is not finite")
    classes, checks = len(arrays["classes"]), SHAPES[name](features, len(arrays["classes"]))
    for key, shape in checks.items():
        found = arrays[key].shape
        if any(w not in (None, f) for w, f in zip(shape, found, strict=True)):
            raise _damaged(name, f"{key} of shape {found}")
    if classes < 1 or (np.diff(arrays["classes"]) <= 0).any():
        raise _damaged(name, "classes that are not in ascending order")
    if "left" in arrays:
        _check_trees(name, arrays, features)
    CHECKS.get(name, _nothing)(name, arrays)


def _nothing(name: str, arrays: Arrays) -> None:
    """What is to be checked of the other kinds is their shapes alone."""


def _check_trees(name: str, arrays: Arrays, features: int) -> None:
    nodes = len(arrays["left"])
    places = np.arange(nodes)
    columns = [arrays[key] for key in ("left", "right", "feature", "threshold", "value")]
    if any(len(c) != nodes for c in columns) or not nodes:
        raise _damaged(name, "trees of unequal columns")
    inner = arrays["left"] != LEAF
    for side in ("left", "right"):
        child = arrays[side][inner]
        # A child stands behind its parent, so that no path can be endless.
        if ((child <= places[inner]) | (child >= nodes)).any():
            raise _damaged(name, "a branch that points nowhere")
    used = arrays["feature"][inner]
    roots = arrays["root"]
    if ((used < 0) | (used >= features)).any() or ((roots < 0) | (roots >= nodes)).any():
        raise _damaged(name, "a split on no feature")


def _check_neighbours(name: str, arrays: Arrays) -> None:
    label, classes, count = arrays["label"], arrays["classes"], int(arrays["count"][0])
    if len(label) != len(arrays["data"]) or not np.isin(label, classes).all():
        raise _damaged(name, "labels that do not fit")
    if not 1 <= count <= len(label):
        raise _damaged(name, f"{count} neighbours")


def _check_boosting(name: str, arrays: Arrays) -> None:
    trees, scores = len(arrays["root"]), len(arrays["prior"])
    if trees % scores:
        raise _damaged(name, f"{trees} trees for {scores} scores")


def _check_support_vectors(name: str, arrays: Arrays) -> None:
    if wrong := damaged(arrays):
        raise _damaged(name, wrong)


CHECKS: dict[str, Callable[[str, Arrays], None]] = {
    "nearest-neighbours": _check_neighbours,
    "gradient-boosting": _check_boosting,
    "newton-boosting": _check_boosting,
    "rbf-svm": _check_support_vectors,
}
"""What is checked of a kind's arrays beside their shapes."""


def _damaged(name: str, what: str) -> EngramError:
    return EngramError(
        f"this is no {name}: it has {what}",
        hint="the file may be damaged; copy it again, or fit again",
    )


def _logistic_learnt(estimator: Any) -> dict[str, np.ndarray]:
    return {"weight": estimator.coef_, "bias": estimator.intercept_}


def _logistic(arrays: Arrays, features: Features) -> Probabilities:
    """softmax(x W' + b); with two classes one row of weights stands for the second."""
    from scipy.special import expit, softmax

    scores = features @ arrays["weight"].T + arrays["bias"]
    if scores.shape[1] == 1:
        return np.hstack([expit(-scores), expit(scores)])
    return softmax(scores, axis=1)


def _bayes_learnt(estimator: Any) -> dict[str, np.ndarray]:
    return {
        "mean": estimator.theta_,
        "variance": estimator.var_,
        "prior": estimator.class_prior_,
    }


def _bayes(arrays: Arrays, features: Features) -> Probabilities:
    """p(c) prod_j N(x_j; mean_cj, variance_cj), made to sum to 1 over the classes."""
    from scipy.special import softmax

    joint = []
    for mean, variance, prior in zip(
        arrays["mean"], arrays["variance"], arrays["prior"], strict=True
    ):
        spread = np.log(2 * np.pi * variance).sum() / 2
        joint.append(np.log(prior) - spread - ((features - mean) ** 2 / (2 * variance)).sum(1))
    return softmax(np.stack(joint, 1), axis=1)


def _neighbours_learnt(estimator: Any) -> dict[str, np.ndarray]:
    data = np.asarray(estimator._fit_X, np.float32)
    return {
        "data": data,
        "label": np.asarray(estimator.classes_[estimator._y], np.int64),
        "count": np.array([estimator.n_neighbors], np.int64),
        "weighted": np.array([estimator.weights == "distance"], np.int64),
    }


def _neighbours(arrays: Arrays, features: Features) -> Probabilities:
    """Share of the nearest records that are of each class; the records are stored whole."""
    from sklearn.neighbors import KNeighborsClassifier

    weights = "distance" if arrays["weighted"][0] else "uniform"
    estimator = KNeighborsClassifier(int(arrays["count"][0]), weights=weights)
    data = arrays["data"].astype(np.float64)  # as it was fitted, so that ties fall the same way
    return estimator.fit(data, arrays["label"]).predict_proba(features)


def _trees_learnt(estimator: Any) -> dict[str, np.ndarray]:
    trees = [t.tree_ for t in getattr(estimator, "estimators_", [estimator])]
    return {**packed(trees), "value": np.concatenate([t.value[:, 0, :] for t in trees])}


def _trees(arrays: Arrays, features: Features) -> Probabilities:
    """The mean over trees of the class shares in the leaf that a record falls into."""
    total = np.zeros((len(features), len(arrays["classes"])))
    for leaves in leaves_of(arrays, features):
        total += arrays["value"][leaves]
    return total / total.sum(1, keepdims=True)


TREES = {"root": 1, "left": 1, "right": 1, "feature": 1, "threshold": 1, "value": 2}
BOOSTED = {**TREES, "prior": 1}
KINDS: dict[str, Kind] = {
    "logistic-regression": Kind(
        "sklearn.linear_model:LogisticRegression",
        {"C": 1.0, "max_iter": 1000, "tol": 1e-4, "fit_intercept": True, "class_weight": None},
        {"weight": 2, "bias": 1},
        _logistic_learnt,
        _logistic,
    ),
    "gaussian-naive-bayes": Kind(
        "sklearn.naive_bayes:GaussianNB",
        {"var_smoothing": 1e-9},
        {"mean": 2, "variance": 2, "prior": 1},
        _bayes_learnt,
        _bayes,
    ),
    "nearest-neighbours": Kind(
        "sklearn.neighbors:KNeighborsClassifier",
        {"n_neighbors": 5, "weights": "uniform"},
        {"data": 2, "label": 1, "count": 1, "weighted": 1},
        _neighbours_learnt,
        _neighbours,
    ),
    "rbf-svm": Kind(
        "sklearn.svm:SVC",
        {"C": 1.0, "gamma": "scale", "class_weight": None, "tol": 1e-3},
        {"vector": 2, "coefficient": 2, "intercept": 1, "number": 1, "gamma": 1},
        support_vectors_learnt,
        support_vector_shares,
    ),
    "decision-tree": Kind(
        "sklearn.tree:DecisionTreeClassifier",
        {"max_depth": None, "min_samples_leaf": 1, "criterion": "gini", "max_features": None},
        TREES,
        _trees_learnt,
        _trees,
        random=True,
    ),
    "random-forest": Kind(
        "sklearn.ensemble:RandomForestClassifier",
        {
            "n_estimators": 100,
            "max_depth": None,
            "min_samples_leaf": 1,
            "criterion": "gini",
            "max_features": "sqrt",
        },
        TREES,
        _trees_learnt,
        _trees,
        random=True,
    ),
    "gradient-boosting": Kind(
        "sklearn.ensemble:GradientBoostingClassifier",
        {
            "n_estimators": 100,
            "learning_rate": 0.1,
            "max_depth": 3,
            "min_samples_leaf": 1,
            "subsample": 1.0,
            "max_features": None,
        },
        BOOSTED,
        boosting_learnt,
        boosted,
        random=True,
    ),
    "newton-boosting": Kind(
        "engram.parts.boosting:NewtonBoosting",
        {
            "n_estimators": 100,
            "learning_rate": 0.1,
            "max_depth": 3,
            "min_samples_leaf": 1,
            "shrinkage": 1.0,
        },
        BOOSTED,
        newton_learnt,
        boosted,
        random=True,
    ),
}


def _tree_shapes(features: int, classes: int) -> dict[str, tuple[int | None, ...]]:
    return {"value": (None, classes)}


def _boosted_shapes(features: int, classes: int) -> dict[str, tuple[int | None, ...]]:
    return {"value": (None, 1), "prior": (1 if classes == 2 else classes,)}


SHAPES: dict[str, Callable[[int, int], dict[str, tuple[int | None, ...]]]] = {
    "logistic-regression": lambda features, classes: {
        "weight": (1 if classes == 2 else classes, features),
        "bias": (1 if classes == 2 else classes,),
    },
    "gaussian-naive-bayes": lambda features, classes: {
        "mean": (classes, features),
        "variance": (classes, features),
        "prior": (classes,),
    },
    "nearest-neighbours": lambda features, classes: {
        "data": (None, features),
        "count": (1,),
        "weighted": (1,),
    },
    "rbf-svm": lambda features, classes: {
        "vector": (None, features),
        "coefficient": (classes - 1, None),
        "intercept": (classes * (classes - 1) // 2,),
        "number": (classes,),
        "gamma": (1,),
    },
    "decision-tree": _tree_shapes,
    "random-forest": _tree_shapes,
    "gradient-boosting": _boosted_shapes,
    "newton-boosting": _boosted_shapes,
}
