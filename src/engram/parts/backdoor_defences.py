"""Ways to find a backdoor in a classifier, as pure functions of a network and of pictures."""

from copy import deepcopy

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from scipy.special import softmax
from torch import Tensor, nn

from engram.core import torch_seeded
from engram.parts.distillation import before_last
from engram.parts.networks import Network

MAD = 1.4826
"""The spread of a normal distribution, by its median absolute deviation."""


def smallest_mask(
    network: Network,
    pictures: Float[Tensor, "n d"],
    label: int,
    low: float,
    high: float,
    *,
    seed: int,
    steps: int = 200,
    rate: float = 0.1,
    weight: float = 0.01,
) -> tuple[float, float]:
    """The size of the smallest patch that makes a network see one class everywhere.

        min over m in [0, 1], p of  mean cross-entropy of f(x (1 - m) + m p) to the class
                                    + weight * sum of m

    Args:
        network: Not changed.
        pictures: Clean ones, of any class.
        label: The class.
        low: Smallest value of a pixel.
        high: Largest value.
        seed: Of the first mask and pattern.
        steps: Of Adam, with betas 0.5 and 0.9.
        rate: Of Adam, on what tanh makes mask and pattern of.
        weight: Of the mask's size. The published code raises it step by step.

    Returns:
        The sum of the mask, and the share of the pictures that it turns into the class.
    """
    with torch_seeded(seed, "mask", label):
        raw = torch.randn(2, pictures.shape[1])
    raw = (0.1 * raw).to(pictures.device).requires_grad_()
    adam = torch.optim.Adam([raw], lr=rate, betas=(0.5, 0.9))
    wanted = torch.full((len(pictures),), label, device=pictures.device)
    for step in range(steps + 1):
        mask, share = (torch.tanh(raw) + 1) / 2
        logits = network(pictures * (1 - mask) + mask * (low + (high - low) * share))
        if step == steps:
            break
        loss = nn.functional.cross_entropy(logits, wanted) + weight * mask.sum()
        adam.zero_grad()
        loss.backward(inputs=[raw])
        adam.step()
    return float(mask.sum().detach()), float((logits.argmax(1) == label).float().mean())


def anomalies(sizes: Float[np.ndarray, " classes"]) -> Float64[np.ndarray, " classes"]:
    """How far below the median each size is, in spreads: |x - median| / (1.4826 MAD), signed."""
    middle = np.median(sizes)
    spread = MAD * np.median(np.abs(sizes - middle))
    if spread == 0:
        return np.where(sizes < middle, np.inf, np.where(sizes > middle, -np.inf, 0.0))
    return (middle - sizes) / spread


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


def pruned(network: Network, pictures: Float[Tensor, "n d"], share: float) -> Network:
    """A copy without the neurons before the last layer that clean pictures excite least.

    Args:
        network: Not changed.
        pictures: Clean ones.
        share: Of the neurons that are cut off, in [0, 1).
    """
    cut = deepcopy(network)
    with torch.no_grad():
        activity = before_last(cut, pictures).abs().mean(0)
        idle = activity.argsort()[: int(share * len(activity))]
        cut.body[-1].weight[:, idle] = 0  # type: ignore[index]
    return cut


def has_known_features(network: Network) -> bool:
    """Whether what goes into the last layer can be asked for."""
    body = network.body
    return isinstance(body, nn.Sequential) and isinstance(body[-1], nn.Linear)
