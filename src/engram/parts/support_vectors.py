"""A support vector machine with a radial kernel as arrays: what decides is computed from them.

Between classes a < b, with the support vectors s of both and coefficients that scikit-learn keeps
by pairs,

    d_ab(x) = sum_s coefficient_s exp(-gamma |x - s|^2) + intercept_ab,     d_ab > 0: a wins

Each class gets its victories over the others, and how clear they were breaks ties. Such a machine
knows no probabilities: the softmax of these scores stands for them.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float


def support_vectors_learnt(estimator: Any) -> dict[str, np.ndarray]:
    """The arrays of a fitted scikit-learn SVC with a radial kernel."""
    # With two classes scikit-learn turns the signs round.
    sign = -1.0 if len(estimator.classes_) == 2 else 1.0
    return {
        "vector": np.asarray(estimator.support_vectors_, np.float64),
        "coefficient": sign * np.asarray(estimator.dual_coef_, np.float64),
        "intercept": sign * np.asarray(estimator.intercept_, np.float64),
        "number": np.asarray(estimator.n_support_, np.int64),
        "gamma": np.array([estimator._gamma], np.float64),
    }


def support_vector_scores(
    arrays: Mapping[str, np.ndarray], features: Float[np.ndarray, "n features"]
) -> Float[np.ndarray, "n classes"]:
    """Victories of each class over the others, and less than half a victory for their clearness."""
    from scipy.spatial.distance import cdist

    kernel = np.exp(-arrays["gamma"][0] * cdist(features, arrays["vector"], "sqeuclidean"))
    coefficient, classes = arrays["coefficient"], len(arrays["number"])
    ends = np.concatenate([[0], np.cumsum(arrays["number"])])
    of = [slice(ends[c], ends[c + 1]) for c in range(classes)]
    won, clear = np.zeros((len(features), classes)), np.zeros((len(features), classes))
    for pair, (a, b) in enumerate(combinations(range(classes), 2)):
        decision = kernel[:, of[a]] @ coefficient[b - 1, of[a]]
        decision = decision + kernel[:, of[b]] @ coefficient[a, of[b]] + arrays["intercept"][pair]
        won[:, a] += decision > 0
        won[:, b] += decision <= 0
        clear[:, a] += decision
        clear[:, b] -= decision
    return won + clear / (3 * (np.abs(clear) + 1))


def support_vector_shares(
    arrays: Mapping[str, np.ndarray], features: Float[np.ndarray, "n features"]
) -> Float[np.ndarray, "n classes"]:
    """The softmax of the scores."""
    from scipy.special import softmax

    return softmax(support_vector_scores(arrays, features), axis=1)


def damaged(arrays: Mapping[str, np.ndarray]) -> str:
    """What is wrong with the numbers of vectors; empty where nothing is."""
    number = arrays["number"]
    if (number < 0).any() or number.sum() != len(arrays["vector"]):
        return "numbers of vectors that do not add up"
    if arrays["coefficient"].shape[1] != len(arrays["vector"]):
        return "coefficients that do not fit"
    return "" if arrays["gamma"][0] > 0 else "a kernel without a width"
