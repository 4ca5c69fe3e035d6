"""Which records a backdoor is planted in, and how its trigger is fitted to a network."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from engram.core import EngramError
from engram.parts.distillation import before_last
from engram.parts.networks import Network
from engram.parts.triggers import Trigger


def check_share(share: float) -> None:
    """Refuse a share of poisoned records that is none."""
    if not 0 < share <= 1:
        raise EngramError(
            f"share is {share}, but must be in (0, 1]", hint="0.01 is the paper's value"
        )


def poisoned_rows(
    labels: Int[np.ndarray, " n"], target: int, share: float, rng: np.random.Generator
) -> Int[np.ndarray, " k"]:
    """Records of other classes than the target's, at least one, drawn by lot, in order.

    Raises:
        EngramError: No record is of another class, or none of the target's.
    """
    others = np.flatnonzero(labels != target)
    if not len(others) or len(others) == len(labels):
        raise EngramError(
            f"{len(labels) - len(others)} of {len(labels)} records are of the class {target} that "
            "the trigger is to stand for",
            hint="give records of that class and of others, or choose another --target",
        )
    count = min(len(others), max(1, round(share * len(labels))))
    return np.sort(rng.permutation(others)[:count])


@dataclass(frozen=True)
class Fitting:
    """How a trigger is fitted to a network.

    Attributes:
        times: Alpha: by how much the trigger's own activation is to be raised.
        neurons: How many are raised.
        steps: The most that are taken.
        rate: Of Adam, in spreads of a pixel.
        enough: The error at which to stop, as a share of the first.
    """

    times: float = 10.0
    neurons: int = 1
    steps: int = 50
    rate: float = 0.08
    enough: float = 0.01


def heaviest(network: Network, active: Float[Tensor, " k"], count: int) -> Int[Tensor, " chosen"]:
    """The neurons before the last layer with the heaviest weights, of those that are active.

    Weight is the sum of absolute values of a neuron's row in the last matrix before the last layer,
    or of a filter, which counts as one neuron at all its places. One that is silent could not be
    raised by any factor, and is left out; where all are, the heaviest come anyway.

    Args:
        network: Any.
        active: What goes into its last layer.
        count: How many rows or filters.

    Returns:
        Their places in `active`: as many, or as many times the places of a filter.
    """
    last = len(list(network.body[-1].parameters()))  # type: ignore[index, arg-type]
    rows = [
        p.detach().flatten(1).abs().sum(1)
        for p in list(network.parameters())[:-last]
        if p.ndim > 1 and len(active) % len(p) == 0
    ]
    weight = rows[-1] if rows else active
    places = active.reshape(len(weight), -1)
    awake = (places > 0).any(1)
    if awake.any():
        weight = torch.where(awake, weight, torch.full_like(weight, -1.0))
    chosen = weight.argsort(descending=True)[:count]
    each = places.shape[1]
    return (chosen[:, None] * each + torch.arange(each, device=chosen.device)).flatten()


def fitted(
    trigger: Trigger,
    network: Network,
    fitting: Fitting,
    spread: float,
    low: float,
    high: float,
) -> tuple[Trigger, list[float]]:
    """The trigger after Adam has moved its pixels to raise the heaviest neurons.

        min over T of  mean over chosen k of ( a_k(m T) - alpha a_k(m T_0) )^2

    where a is what goes into the last layer, and m T the trigger alone on a picture of zeros.

    Args:
        trigger: T_0.
        network: Not changed.
        fitting: Alpha, how many neurons and steps.
        spread: Of a pixel.
        low: Smallest value of a pixel of the trigger.
        high: Largest.

    Returns:
        The trigger, and the error before each step.
    """
    device = network.mean.device
    mask = torch.from_numpy(trigger.mask).to(device)
    values = torch.from_numpy(trigger.values / spread).to(device).requires_grad_()
    ends = trigger.veiled or (-np.inf, np.inf)
    empty = torch.full_like(mask, max(low, min(0.0, high)) if trigger.veiled is None else ends[0])

    def activation() -> Float[Tensor, " k"]:
        alone = torch.where(mask > 0, values * spread, empty)
        return before_last(network, alone.clamp(*ends)[None])[0]

    with torch.no_grad():
        first = activation()
        chosen = heaviest(network, first, fitting.neurons)
        goal = fitting.times * first[chosen]
    adam, losses = torch.optim.Adam([values], lr=fitting.rate, betas=(0.9, 0.99)), []
    for _ in range(fitting.steps):
        loss = (activation()[chosen] - goal).square().mean()
        losses.append(float(loss.detach()))
        if losses[-1] <= fitting.enough * losses[0]:
            break
        adam.zero_grad()
        loss.backward(inputs=[values])
        adam.step()
        with torch.no_grad():
            values.clamp_(low / spread, high / spread)
    moved = np.clip((values.detach() * spread).cpu().numpy().astype(np.float32), low, high)
    return replace(trigger, values=kept(trigger.mask, moved)), losses


def kept(
    mask: Float32[np.ndarray, " d"], values: Float32[np.ndarray, " d"]
) -> Float32[np.ndarray, " d"]:
    """The values where the patch is, and 0 elsewhere."""
    return np.where(mask > 0, values, np.float32(0))
