"""Which neurons stand for one class alone (ABS), and what is left without those that idle."""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from engram.methods.measures.backdoor_scan.masks import begun, worn
from engram.parts.distillation import before_last
from engram.parts.networks import Network

PENALTY = 1.0
"""For each pixel of a patch over its size, in spreads of the neuron."""


@dataclass(frozen=True)
class Raised:
    """A neuron, and the class that it brings about.

    Attributes:
        neuron: Its place in what goes into the last layer.
        label: The class.
        share: Of the pictures of other classes, how many become the class when it is stimulated.
    """

    neuron: int
    label: int
    share: float


def stimulated(
    network: Network, pictures: Float[Tensor, "n d"], top: float = 2.0
) -> Float64[np.ndarray, "classes k"]:
    """The share of pictures that become each class while one neuron is driven up.

        a_k := top * (its largest value on any picture),    share over x not seen as c before

    What goes into the last layer acts on the logits by a matrix, so that one neuron's new value
    moves them by a row of it.

    Args:
        network: Not changed.
        pictures: Clean ones.
        top: How far above its largest value a neuron is driven.
    """
    with torch.no_grad():
        active = before_last(network, pictures)
        logits = network(pictures)
        weight = network.body[-1].weight  # type: ignore[index]
        before = logits.argmax(1)
        goal = top * active.max(0).values
        shares = torch.zeros(weight.shape, dtype=torch.float64)
        for k in range(active.shape[1]):
            moved = logits + (goal[k] - active[:, k])[:, None] * weight[:, k][None]
            now = moved.argmax(1)
            for label in range(len(weight)):
                others = before != label
                if others.any():
                    shares[label, k] = (now[others] == label).double().mean()
    return shares.numpy()


def candidates(shares: Float64[np.ndarray, "classes k"], each: int) -> list[Raised]:
    """The neurons that bring about each class most often, so many a class."""
    return [
        Raised(int(k), label, float(row[k]))
        for label, row in enumerate(shares)
        for k in np.argsort(-row, kind="stable")[:each]
    ]


def reversed_trigger(
    network: Network,
    pictures: Float[Tensor, "n d"],
    raised: Raised,
    low: float | Float[Tensor, " d"],
    high: float | Float[Tensor, " d"],
    *,
    size: int,
    seed: int,
    steps: int = 200,
    rate: float = 0.1,
) -> float:
    """The share of pictures that a small patch turns into a class, if it drives up a neuron.

        max over m in [0, 1], p of  mean a_k(x (1 - m) + m p) / s - penalty * max(0, |m|_1 - size)

    with s the neuron's spread over clean pictures. Afterwards only the pixels with the largest m
    are kept, as many as `size`, so that what is tried is a patch and no faint veil.

    Args:
        network: Not changed.
        pictures: Clean ones that are not seen as the class.
        raised: The neuron and its class.
        low: Smallest value of a pixel, or of each.
        high: Largest value.
        size: How many pixels it may cover.
        seed: Of the first mask and pattern.
        steps: Of Adam, with betas 0.5 and 0.9.
        rate: Of Adam, on what tanh makes mask and pattern of.
    """
    raw, adam = begun(pictures, rate, seed, "reversed", raised.label, raised.neuron)
    with torch.no_grad():
        spread = before_last(network, pictures)[:, raised.neuron].std() + 1e-6
    for _ in range(steps):
        mask, values = worn(raw, low, high)
        shown = pictures * (1 - mask) + mask * values
        active = before_last(network, shown)[:, raised.neuron].mean() / spread
        loss = -active + (mask.sum() - size).clamp_min(0) * PENALTY
        adam.zero_grad()
        loss.backward(inputs=[raw])
        adam.step()
    with torch.no_grad():
        mask, values = worn(raw, low, high)
        patch = torch.zeros_like(mask)
        patch[mask.argsort(descending=True)[:size]] = 1
        shown = torch.where(patch > 0, values, pictures)
        return float((network(shown).argmax(1) == raised.label).float().mean())


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


def tuned(
    network: Network,
    pictures: Float[Tensor, "n d"],
    labels: Int[np.ndarray, " n"],
    *,
    steps: int,
    seed: int,
    rate: float = 1e-3,
    batch: int = 32,
) -> Network:
    """The network after some steps on clean pictures; what was cut off stays cut off.

    Args:
        network: Changed in place; its last layer's columns of zeros are those that were cut.
        pictures: Clean ones.
        labels: Of each.
        steps: Of Adam.
        seed: Of the batches.
        rate: Of Adam.
        batch: Pictures in a step.
    """
    weight = network.body[-1].weight  # type: ignore[index]
    left = (weight.detach() != 0).any(0)
    wanted = torch.from_numpy(labels).to(pictures.device)
    adam, rng = torch.optim.Adam(network.parameters(), lr=rate), np.random.default_rng(seed)
    for _ in range(steps):
        rows = torch.from_numpy(rng.integers(0, len(pictures), min(batch, len(pictures))))
        loss = nn.functional.cross_entropy(network(pictures[rows]), wanted[rows])
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            weight.mul_(left)
    return network


def has_known_features(network: Network) -> bool:
    """Whether what goes into the last layer can be asked for."""
    body = network.body
    return isinstance(body, nn.Sequential) and isinstance(body[-1], nn.Linear)
