"""Spectral signatures, activation clustering and neighbours' labels, as findings."""

import numpy as np

from engram.core import Finding
from engram.methods.measures.backdoor_scan.looking import (
    CLUSTERS,
    CLUSTERS_AUC,
    DIVIDED,
    ENOUGH,
    METHOD,
    MISLABELLED,
    RELABELLED,
    RELABELLED_AUC,
    SPECTRAL,
    Scanned,
    Way,
    worst_class,
)
from engram.methods.measures.backdoor_scan.records import (
    cluster_scores,
    neighbour_disagreement,
    spectral_scores,
)
from engram.parts.labelled import features_of, labels_of


def spectral(look: Scanned) -> Finding:
    """Spectral signatures."""
    features = look.member_features()
    if features is None or look.members is None:
        return Finding.missing(SPECTRAL, "there are no members, or no features to look at")
    scores = spectral_scores(features, labels_of(look.members))
    return look.over_members(SPECTRAL, scores, look.members)


def clusters(look: Scanned) -> Way:
    """Activation clustering."""
    features = look.member_features()
    if features is None or look.members is None:
        why = "there are no members, or no features to look at"
        return Way((Finding.missing(CLUSTERS, why),))
    rng = look.run.stream(METHOD, "clusters")
    scores, classes = cluster_scores(features, labels_of(look.members), rng)
    found = worst_class(CLUSTERS, classes, DIVIDED)
    judged = look.over_members(CLUSTERS_AUC, scores, look.members)
    return Way((found, judged), bool(found.value > DIVIDED))


def relabelled(look: Scanned, neighbours: int) -> Way:
    """Labels that the nearest other members would outvote."""
    if look.members is None or len(look.members) < 2:
        return Way((Finding.missing(RELABELLED, "there are no members"),))
    labels = labels_of(look.members)
    scores = neighbour_disagreement(features_of(look.members), labels, neighbours)
    classes = np.array([
        (scores[labels == c] > 0.5).mean() if (labels == c).sum() >= ENOUGH else 0.0
        for c in range(int(labels.max()) + 1)
    ])  # fmt: skip
    found = worst_class(RELABELLED, classes, MISLABELLED)
    judged = look.over_members(RELABELLED_AUC, scores, look.members)
    return Way((found, judged), bool(found.value > MISLABELLED))
