"""The blocks of a transformer, whatever its architecture calls them, and how to reach into them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from engram.core import EngramError


def blocks_of(model: Any) -> nn.ModuleList:
    """The blocks of a Hugging Face causal language model, first to last.

    Raises:
        EngramError: There is no list of as many modules as the configuration says.
    """
    count = int(model.config.get_text_config().num_hidden_layers)
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not lists:
        raise EngramError(
            f"no list of {count} blocks was found in a {type(model).__name__}",
            hint="choose an unlearner that changes all weights: npo, simnpo, undial, ...",
        )
    return lists[0]


def down_projection(block: nn.Module) -> Any:
    """The last linear map of a block's feed-forward part: from its inner width to the model's.

    Raises:
        EngramError: The block has none that is recognised (mixtures of experts, say).
    """
    inner = getattr(block, "mlp", block)
    found = [m for m in inner.modules() if isinstance(m, nn.Linear | Conv1D)]
    if not found:
        raise EngramError(
            f"no feed-forward map was found in a block of kind {type(block).__name__}",
            hint="choose an unlearner that changes all weights: npo, simnpo, undial, ...",
        )
    return found[-1]


def check_layer(name: str, layer: int | None, count: int) -> None:
    """Refuse a block that the model does not have."""
    if layer is not None and not 0 <= layer < count:
        raise EngramError(
            f"{name} is {layer}, but the model has {count} blocks",
            hint=f"0 is the first, {count - 1} the last; without it one is chosen",
        )


def first(output: Any) -> Float[Tensor, "batch time width"]:
    """The hidden states in what a module returned."""
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def listening(module: nn.Module, what: str = "output") -> Iterator[list[Tensor]]:
    """Collect the hidden states that go into a module ("input") or come out of it ("output")."""
    heard: list[Tensor] = []

    def note(_: nn.Module, given: Any, made: Any) -> None:
        heard.append(first(given) if what == "input" else first(made))

    handle = module.register_forward_hook(note)
    try:
        yield heard
    finally:
        handle.remove()


@contextmanager
def replacing(module: nn.Module, change: Any) -> Iterator[None]:
    """Let `change(hidden) -> hidden` alter what comes out of a module."""

    def alter(_: nn.Module, given: Any, made: Any) -> Any:
        changed = change(first(made))
        return (changed, *made[1:]) if isinstance(made, tuple) else changed

    handle = module.register_forward_hook(alter)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def add_outer(
    linear: Any, left: Float[Tensor, " outputs"], right: Float[Tensor, " inputs"]
) -> None:
    """Add `left right^T` to the weight of a linear map that takes inputs to outputs."""
    update = torch.outer(left, right).to(linear.weight)
    linear.weight += update.T if isinstance(linear, Conv1D) else update
