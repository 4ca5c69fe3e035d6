"""Read and exchange the vectors between the blocks of a transformer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from engram.core import EngramError

BATCH = 16
"""Beginnings that are read together."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Beginnings beside each other, filled up on the right, where nothing before can see it.

    Attributes:
        tokens: One beginning a row.
        ends: The place of the last token of each.
    """

    tokens: Int[Tensor, "rows width"]
    ends: Int[Tensor, " rows"]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Batch":
        """From lists of tokens."""
        width = max(map(len, rows))
        tokens = torch.tensor([[*row, *[row[-1]] * (width - len(row))] for row in rows])
        return cls(tokens, torch.tensor([len(row) - 1 for row in rows]))


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """The blocks of a transformer, first to last."""
    count = model.config.get_text_config().num_hidden_layers  # type: ignore[union-attr,operator]
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not lists:
        raise EngramError(
            f"a {type(model).__name__} has no list of {count} blocks to exchange vectors of",
            hint="models of the GPT-2 and Llama layouts have one",
        )
    return lists[0]


@torch.inference_mode()
def preferred(model: nn.Module, batch: Batch, ids: Sequence[int]) -> Int[np.ndarray, " rows"]:
    """Which of the two markers is the likelier next token of each beginning: 0 or 1."""
    logits = model(input_ids=batch.tokens.to(device_of(model)), use_cache=False).logits
    last = logits[range(len(batch.ends)), batch.ends.to(logits.device)]
    return (last[:, ids[1]] > last[:, ids[0]]).long().cpu().numpy()


@torch.inference_mode()
def residual(model: nn.Module, batch: Batch, layer: int) -> Float[Tensor, "rows width vector"]:
    """What comes out of a block."""
    kept = []
    block = blocks_of(model)[layer]
    handle = block.register_forward_hook(lambda _, __, out: kept.append(_vectors(out).clone()))
    try:
        model(input_ids=batch.tokens.to(device_of(model)), use_cache=False)
    finally:
        handle.remove()
    return kept[0]


@contextmanager
def exchanged(
    block: nn.Module, places: Int[Tensor, " rows"], vectors: Float[Tensor, "rows vector"]
) -> Iterator[None]:
    """While this lasts, the block answers `vectors` at one place of each row."""

    def put(_: nn.Module, __: Any, out: Any) -> Any:
        changed = _vectors(out).clone()
        changed[range(len(changed)), places.to(changed.device)] = vectors
        return (changed, *out[1:]) if isinstance(out, tuple) else changed

    handle = block.register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()


def right(
    model: nn.Module, rows: Sequence[list[int]], ids: Sequence[int], wanted: int
) -> list[list[int]]:
    """The beginnings after which the model prefers the marker that does follow."""
    kept: list[list[int]] = []
    for first in range(0, len(rows), BATCH):
        some = rows[first : first + BATCH]
        found: Bool[np.ndarray, " rows"] = preferred(model, Batch.of(some), ids) == wanted
        kept += [row for row, good in zip(some, found, strict=True) if good]
    return kept


def device_of(model: nn.Module) -> torch.device:
    """Where the weights are."""
    return next(model.parameters()).device


def _vectors(out: Any) -> Tensor:
    return out[0] if isinstance(out, tuple) else out
