"""Networks that hold no backdoor, for what a scan finds in any network on such pictures."""

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from engram.core import torch_seeded
from engram.methods.measures.backdoor_scan.neurons import tuned
from engram.parts.networks import Network


def clean_networks(
    network: Network,
    pictures: Float[Tensor, "n d"],
    labels: Int[np.ndarray, " n"],
    *,
    count: int,
    steps: int,
    seed: int,
) -> list[Network]:
    """Networks of the same layout, trained from random weights on clean pictures alone.

    Args:
        network: Whose layout, mean and scale they have; a module of somebody else has none.
        pictures: Clean ones.
        labels: Of each.
        count: How many.
        steps: Of Adam.
        seed: Of weights and batches.
    """
    if network.layout.is_module:
        return []
    found = []
    for number in range(count):
        with torch_seeded(seed, "reference", number):
            made = network.layout.build()
        made.mean.copy_(network.mean)
        made.scale.copy_(network.scale)
        made = tuned(
            made.to(pictures.device), pictures, labels, steps=steps, seed=seed + number, rate=3e-3
        )
        found.append(made.eval())
    return found
