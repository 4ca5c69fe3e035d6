"""Ridge regression on features, in closed form: what a last layer learns from a few records."""

import torch
from jaxtyping import Float
from torch import Tensor


def with_constant(features: Float[Tensor, "n k"]) -> Float[Tensor, "n k+1"]:
    """A feature that is 1 everywhere beside the others: the bias of the last layer."""
    return torch.cat([features, torch.ones_like(features[:, :1])], dim=1)


def ridge_predictions(
    asked: Float[Tensor, "t k"],
    known: Float[Tensor, "m k"],
    targets: Float[Tensor, "m outputs"],
    ridge: float,
) -> Float[Tensor, "t outputs"]:
    """What a ridge regression on the known records says of those asked about.

        f(x) = K_xs (K_ss + lambda I)^-1 Y_s,    K = Phi Phi^T,    lambda = ridge * trace(K_ss)

    Lambda follows the size of the features, and is a number, not something to differentiate. The
    system is solved in float64: with as small a lambda as is usual, float32 does not carry.
    """
    phi = known.double()
    kernel = phi @ phi.T
    strength = ridge * kernel.trace().detach()
    kernel = kernel + strength * torch.eye(len(phi), dtype=phi.dtype, device=phi.device)
    weights = torch.linalg.solve(kernel, targets.double())
    return (asked.double() @ phi.T @ weights).to(asked.dtype)
