"""Weights rounded to few bits: unlearning that only nudged them may be undone by that.

Each row of a matrix has a scale of its own, and values are rounded to the nearest of 2^b levels
that are symmetric around zero:

    s = max|w| / (2^(b-1) - 1),    w' = s round(w / s)
"""

from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


def to_nearest(weight: Float[Tensor, "rows columns"], bits: int) -> Float[Tensor, "rows columns"]:
    """Each row rounded to the nearest of `2^bits - 1` evenly spaced values."""
    levels = 2 ** (bits - 1) - 1
    scale = weight.abs().amax(1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny) / levels
    return (weight / scale).round().clamp(-levels, levels) * scale


@torch.no_grad()
def rounded(model: nn.Module, bits: int) -> Any:
    """A copy of the model, all its linear maps rounded; embeddings and norms are left.

    A map to the vocabulary that shares its weights with the embeddings is left too.
    """
    copy: Any = deepcopy(model).eval()
    tied = {id(m.weight) for m in copy.modules() if isinstance(m, nn.Embedding)}
    for module in copy.modules():
        if isinstance(module, nn.Linear | Conv1D) and id(module.weight) not in tied:
            flat = module.weight.T if isinstance(module, Conv1D) else module.weight
            made = to_nearest(flat.float(), bits).to(module.weight.dtype)
            module.weight.copy_(made.T if isinstance(module, Conv1D) else made)
    return copy
