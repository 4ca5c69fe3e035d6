"""Bottleneck adapters (Pfeiffer et al., 2021): one after each block's feed-forward layer.

    h <- h + W_up relu(W_down h),    W_down: d -> d / reduction,    h = what the layer gives

before the block adds its residual. W_up begins as zeros, so that the model begins as its base.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram.core import EngramError
from engram.parts.adapters.layout import decoder_blocks, feed_forward, width_of

NAME = "bottleneck"
DEVIATION = 0.01
"""Of the weights of W_down at first."""


class Bottleneck(nn.Module):
    """A two-layer network of a few hidden numbers, and what it is given added to it."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, hidden), nn.Linear(hidden, width)
        nn.init.normal_(self.down.weight, std=DEVIATION)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, h: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Return the input, changed a little."""
        return h + self.up(torch.relu(self.down(h)))


def attach_bottlenecks(model: Any, reduction: int) -> None:
    """Put one into every block, of the layers' device and type; weights by torch's generator."""
    width = width_of(model)
    if not 1 <= reduction <= width:
        raise EngramError(
            f"reduction is {reduction}, but must be in [1, {width}], the width of the model",
            hint="16 makes small adapters, 2 large ones",
        )
    for block in decoder_blocks(model):
        layer = feed_forward(block)
        like = next(layer.parameters())
        made = Bottleneck(width, width // reduction).to(like.device, like.dtype)
        layer.add_module(NAME, made)
        layer.register_forward_hook(_after)


def _after(layer: nn.Module, given: Any, answer: Any) -> Any:
    """Called with what the feed-forward layer gives; some layers give more than one thing."""
    adapter = getattr(layer, NAME)
    if isinstance(answer, tuple):
        return adapter(answer[0]), *answer[1:]
    return adapter(answer)
