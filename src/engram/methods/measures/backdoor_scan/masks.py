"""Neural Cleanse (Wang et al., 2019): how small a patch makes a network see one class anywhere."""

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from engram.core import torch_seeded
from engram.parts.networks import Network

MAD = 1.4826
"""The spread of a normal distribution, by its median absolute deviation."""
FAINT = -1.0
"""What tanh makes a mask's first values of, about 0.1: a mask that starts whole may stay so."""


def smallest_mask(
    network: Network,
    pictures: Float[Tensor, "n d"],
    label: int,
    low: float | Float[Tensor, " d"],
    high: float | Float[Tensor, " d"],
    *,
    seed: int,
    steps: int = 200,
    rate: float = 0.1,
    weight: float = 0.02,
) -> tuple[float, float]:
    """The size of the smallest patch that makes a network see one class everywhere.

        min over m in [0, 1], p of  mean cross-entropy of f(x (1 - m) + m p) to the class
                                    + weight * sum of m

    Args:
        network: Not changed.
        pictures: Clean ones, of any class.
        label: The class.
        low: Smallest value of a pixel, or of each.
        high: Largest value.
        seed: Of the first mask and pattern.
        steps: Of Adam, with betas 0.5 and 0.9.
        rate: Of Adam, on what tanh makes mask and pattern of.
        weight: Of the mask's size. The published code raises it step by step.

    Returns:
        The sum of the mask, and the share of the pictures that it turns into the class.
    """
    raw, adam = begun(pictures, rate, seed, "mask", label, faint=FAINT)
    wanted = torch.full((len(pictures),), label, device=pictures.device)
    for step in range(steps + 1):
        mask, values = worn(raw, low, high)
        logits = network(pictures * (1 - mask) + mask * values)
        if step == steps:
            break
        loss = nn.functional.cross_entropy(logits, wanted) + weight * mask.sum()
        adam.zero_grad()
        loss.backward(inputs=[raw])
        adam.step()
    return float(mask.sum().detach()), float((logits.argmax(1) == label).float().mean())


def begun(
    pictures: Float[Tensor, "n d"], rate: float, seed: int, *path: str | int, faint: float = 0.0
) -> tuple[Float[Tensor, "2 d"], torch.optim.Optimizer]:
    """What tanh makes a first mask and pattern of, nearly even, and what moves them."""
    with torch_seeded(seed, *path):
        raw = torch.randn(2, pictures.shape[1])
    start = torch.tensor([[faint], [0.0]])
    raw = (0.1 * raw + start).to(pictures.device).requires_grad_()
    return raw, torch.optim.Adam([raw], lr=rate, betas=(0.5, 0.9))


def worn(
    raw: Float[Tensor, "2 d"], low: float | Float[Tensor, " d"], high: float | Float[Tensor, " d"]
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """The mask, from 0 to 1, and the pattern's pixels, from `low` to `high`."""
    mask, share = (torch.tanh(raw) + 1) / 2
    return mask, low + (high - low) * share


def anomalies(sizes: Float[np.ndarray, " classes"]) -> Float64[np.ndarray, " classes"]:
    """How far below the median each size is, in spreads: |x - median| / (1.4826 MAD), signed."""
    middle = np.median(sizes)
    spread = MAD * np.median(np.abs(sizes - middle))
    if spread == 0:
        return np.where(sizes < middle, np.inf, np.where(sizes > middle, -np.inf, 0.0))
    return (middle - sizes) / spread
