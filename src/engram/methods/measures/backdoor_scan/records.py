"""Which training records set themselves apart from others of their class: three ways to look.

Each gives a score a record; higher is more suspect.
"""

import numpy as np
from jaxtyping import Float, Float64, Int

SMALLEST, DIRECTIONS, MINORITY, TINY = 10, 10, 0.35, 1e-9
"""Records of a class that can be parted; directions that are kept; the largest small group."""


def spectral_scores(
    features: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """How far each record is out along the main direction of its class.

        score = ((psi(x) - mean of the class) . v)^2,   v the first right singular vector

    Poisoned records of a class are a group of their own, and that is what v finds.
    """
    scores = np.zeros(len(labels))
    for label in np.unique(labels):
        own = labels == label
        centred = features[own].astype(np.float64) - features[own].mean(0)
        _, _, ways = np.linalg.svd(centred, full_matrices=False)
        scores[own] = (centred @ ways[0]) ** 2
    return scores


def cluster_scores(
    features: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], rng: np.random.Generator
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " classes"]]:
    """Activation clustering (Chen et al., 2018): is a class two groups, one of them small?

    The features of a class, reduced to their 10 main directions, are parted in two by 2-means. A
    record's score is how much nearer it is to the middle of the smaller group than to that of the
    larger one, in distances between the two. A class's score is the silhouette of the parting (how
    much nearer records are to their own group than to the other), times whether the smaller group
    has less than 0.35 of the records: only then a part of the class may have been put there.

    Args:
        features: What goes into the last layer.
        labels: Of the records.
        rng: Decides where 2-means begins.

    Returns:
        The score of each record, and of each class from 0 on; 0 for a class of under 10 records.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    scores, classes = np.zeros(len(labels)), np.zeros(int(labels.max(initial=-1)) + 1)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        centred = features[own].astype(np.float64) - features[own].mean(0)
        _, lengths, ways = np.linalg.svd(centred, full_matrices=False)
        if len(own) < SMALLEST or lengths[0] < TINY:
            continue
        reduced = centred @ ways[:DIRECTIONS].T
        means = KMeans(2, n_init=5, random_state=int(rng.integers(2**31))).fit(reduced)
        sizes = np.bincount(means.labels_, minlength=2)
        small = int(np.argmin(sizes))
        far = np.linalg.norm(reduced[:, None] - means.cluster_centers_[None], axis=2)
        apart = float(np.linalg.norm(np.subtract(*means.cluster_centers_)))
        scores[own] = (far[:, 1 - small] - far[:, small]) / max(apart, TINY)
        if sizes[small] > 1 and sizes[small] < MINORITY * len(own):
            classes[label] = max(0.0, float(silhouette_score(reduced, means.labels_)))
    return scores, classes


def neighbour_disagreement(
    features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], neighbours: int
) -> Float64[np.ndarray, " n"]:
    """The share of each record's nearest other records that have another label.

    A record that was given a label of the attacker's choice still looks like its old class: the
    neighbours of a poisoned seven are sevens. Above one half, they would outvote its label.
    """
    from sklearn.neighbors import NearestNeighbors

    many = min(neighbours, len(labels) - 1)
    if many < 1:
        return np.zeros(len(labels))
    search = NearestNeighbors(n_neighbors=many).fit(features)
    found = search.kneighbors(return_distance=False)
    return (labels[found] != labels[:, None]).mean(1)
