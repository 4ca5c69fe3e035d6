"""Clusters of what an encoder sees, and the pull of a picture towards another cluster's centre."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram.parts.kernel_error import squared_distances

TRIES = 5
"""How often k-means starts anew while a cluster holds a single record."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """Groups of records.

    Attributes:
        whose: The cluster of each record.
        centres: Of each cluster, in the space of what is seen.
    """

    whose: Int[Tensor, " n"]
    centres: Float[Tensor, "p k"]

    def nearest(self, seen: Float[Tensor, "n k"]) -> Int[Tensor, " n"]:
        """The cluster whose centre is nearest to each."""
        return squared_distances(seen, self.centres).argmin(1)


def kmeans(seen: Float[Tensor, "n k"], count: int, rng: np.random.Generator) -> Clusters:
    """k-means with `count` clusters, of two records each at least where a few starts find such."""
    from sklearn.cluster import KMeans

    points, best, most = seen.double().numpy(), None, -1
    for _ in range(TRIES):
        model = KMeans(count, n_init=3, random_state=int(rng.integers(2**31))).fit(points)
        smallest = int(np.bincount(model.labels_, minlength=count).min())
        if smallest > most:
            best, most = model, smallest
        if most > 1:
            break
    return Clusters(
        torch.from_numpy(best.labels_.astype(np.int64)),
        torch.from_numpy(best.cluster_centers_).to(seen.dtype),
    )


def pull(
    seen: Float[Tensor, "n k"], centre: Float[Tensor, " k"], sharpness: float = 1.0
) -> Float[Tensor, ""]:
    """KL( softmax(centre) || softmax(seen) ), the mean over records, in nats."""
    goal = (sharpness * centre).log_softmax(0)
    return (goal.exp() * (goal - (sharpness * seen).log_softmax(1))).sum(1).mean()


def approach(
    seen: Float[Tensor, "n k"], centre: Float[Tensor, " k"], spread: float
) -> Float[Tensor, ""]:
    """|seen - centre|^2 / (2 spread^2), the mean over records: what k-means goes by."""
    return (seen - centre).square().sum(1).mean() / (2 * spread**2)
