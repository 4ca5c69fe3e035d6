"""How differently two sets of records would push the weights of one network."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

TINY = 1e-6
"""Keeps the cosine of a gradient of nothing but zeros finite."""


def gradients(
    network: nn.Module, loss: Float[Tensor, ""], *, differentiable: bool = False
) -> list[Float[Tensor, "..."]]:
    """The gradient of each parameter; with `differentiable`, one that can be differentiated."""
    found = torch.autograd.grad(loss, list(network.parameters()), create_graph=differentiable)
    return list(found) if differentiable else [each.detach() for each in found]


def gradient_distance(
    one: Sequence[Float[Tensor, "..."]], other: Sequence[Float[Tensor, "..."]]
) -> Float[Tensor, ""]:
    """Sum over layers and output units of 1 minus the cosine of their two gradients.

        d(A, B) = sum over outputs i of (1 - <A_i, B_i> / (|A_i| |B_i|)),    D = sum over layers d

    A_i holds all weights that lead to output i: a row of a matrix, or all of a filter. Biases and
    norms, which have one dimension, do not count.
    """
    total = one[0].new_zeros(())
    for a, b in zip(one, other, strict=True):
        if a.ndim > 1:
            a, b = a.flatten(1), b.flatten(1)
            lengths = a.norm(dim=1) * b.norm(dim=1) + TINY
            total = total + (1 - (a * b).sum(1) / lengths).sum()
    return total
