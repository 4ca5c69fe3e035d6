"""Where things are in a decoder, whatever its architecture: blocks, feed-forward layers, maps."""

from typing import Any

from torch import nn

from engram.core import EngramError

FEED_FORWARD = ("mlp", "feed_forward", "ffn")
"""What decoders call the feed-forward part of a block."""


def decoder_blocks(model: Any) -> nn.ModuleList:
    """The blocks of a decoder: the longest list of equal modules, each with a feed-forward part.

    Raises:
        EngramError: There is none, so the layout is not one that we know.
    """
    found = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList)
        and len({type(block) for block in module}) == 1
        and any(hasattr(module[0], name) for name in FEED_FORWARD)
    ]
    if not found:
        raise EngramError(
            f"{type(model).__name__} has no list of blocks that each hold a feed-forward layer "
            f"({', '.join(FEED_FORWARD)})",
            hint="--method lora needs no such layout: name its --target-modules",
        )
    return max(found, key=len)


def feed_forward(block: nn.Module) -> nn.Module:
    """The feed-forward part of a block."""
    return next(getattr(block, name) for name in FEED_FORWARD if hasattr(block, name))


def map_names(model: nn.Module) -> dict[str, nn.Module]:
    """The linear maps of a model, by their full names, without the output head."""
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()  # type: ignore[operator]
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head
    }


def width_of(model: Any) -> int:
    """Numbers in a token's vector inside the blocks."""
    return int(model.config.get_text_config().hidden_size)
