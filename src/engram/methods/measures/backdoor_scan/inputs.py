"""STRIP: whether the answer to a picture outlives what is laid over it (Gao et al., 2019)."""

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.special import softmax
from torch import Tensor

from engram.parts.networks import Network


def blend_entropies(
    network: Network,
    pictures: Float[Tensor, "n d"],
    others: Float[Tensor, "m d"],
    blends: int,
    rng: np.random.Generator,
) -> Float64[np.ndarray, " n"]:
    """The mean entropy, in nats, of what a network says of each picture blended with others.

        H(x) = (1 / N) sum over N others y of  - sum over classes of p log p,   p = f((x + y) / 2)

    A picture with a trigger on it stays what it is whatever is laid over it.
    """
    total = np.zeros(len(pictures))
    with torch.no_grad():
        for _ in range(blends):
            drawn = torch.from_numpy(rng.integers(0, len(others), len(pictures)))
            logits = network((pictures + others[drawn]) / 2).double().cpu().numpy()
            chances = softmax(logits, axis=1)
            total -= (chances * np.log(np.maximum(chances, 1e-300))).sum(1)
    return total / blends
