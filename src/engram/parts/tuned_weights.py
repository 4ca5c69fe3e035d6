"""Which weights a fine-tuning changes: all, the head, one block, or an adapter that is put in."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from engram.core import EngramError, torch_seeded
from engram.parts.adapters import Adapter, attach
from engram.parts.adapters.attach import lora_settings
from engram.parts.adapters.layout import decoder_blocks

Method = Literal["full", "head", "block", "adapter", "lora", "prefix", "prompt"]
METHODS: tuple[Method, ...] = ("full", "head", "block", "adapter", "lora", "prefix", "prompt")


@dataclass(frozen=True)
class Part:
    """What is trained.

    Attributes:
        method: One of `METHODS`.
        block: Number of the block, from 0; negative ones count from the last.
        reduction: Width of the model over that of a bottleneck.
        rank: Of the changes that LoRA learns.
        alpha: Their scale, times the rank.
        targets: The maps that LoRA changes; (): those that peft knows for the architecture.
        virtual_tokens: Of prefix and prompt tuning.
    """

    method: Method = "full"
    block: int = -1
    reduction: int = 16
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ()
    virtual_tokens: int = 20

    def shape(self) -> dict[str, Any]:
        """What an adapter that is there already must have, to be trained further."""
        if self.method == "adapter":
            return {"reduction": self.reduction}
        if self.method == "lora":
            targets = {"target_modules": sorted(self.targets)} if self.targets else {}
            return {"r": self.rank, "lora_alpha": self.alpha, **targets}
        return {"virtual_tokens": self.virtual_tokens}

    def adapter(self, model: Any, base: str, fingerprint: str) -> Adapter | None:
        """What is to be put into a model; None where its own weights are trained."""
        if self.method in ("full", "head", "block"):
            return None
        settings = self.shape()
        if self.method == "lora":
            settings = lora_settings(model, self.rank, self.alpha, self.targets)
        return Adapter(self.method, settings, base, fingerprint)


def copied_for(part: Part, lm: Any, base: str, fingerprint: str, seed: int, device: str) -> Any:
    """A copy of a language model in float32 in which only `part` is trainable.

    Frozen weights that are float32 and on the device already are the base's own, not copies.

    Args:
        part: What is to be trained.
        lm: The base.
        base: Where it is.
        fingerprint: Of the base.
        seed: Of the stream that new weights are drawn from.
        device: Where to train.

    Raises:
        EngramError: The model has no such part, or an adapter of another kind.
    """
    known = lm.adapter
    if known is not None:
        return _going_on(part, lm, device)
    adapter = part.adapter(lm.model, base, fingerprint)
    shared = _kept(part, lm.model) if adapter is None else dict(lm.model.named_parameters())
    model = _copy(lm.model, shared, device)
    if adapter is not None:
        with torch_seeded(seed, "adapter"):
            attach(model, adapter)
    elif part.method != "full":
        _freeze_all_but(model, part)
    return replace(lm, model=model, adapter=adapter)


def in_place(lm: Any, device: str) -> Any:
    """The same language model in float32, all of it trainable; no copy."""
    if lm.adapter is not None:
        return _going_on(Part(), lm, device)
    lm.model.float().to(device).requires_grad_(True)
    return lm


def thawed(lm: Any) -> None:
    """Make trainable what was frozen for training, unless it is the base of an adapter."""
    if lm.adapter is None:
        lm.model.requires_grad_(True)


def _going_on(part: Part, lm: Any, device: str) -> Any:
    """An adapter is trained further, where the recipe has the same kind of it."""
    if part.method != lm.adapter.kind:
        raise EngramError(
            f"the base has an adapter of kind {lm.adapter.kind!r}, and method is {part.method!r}",
            hint=f"--method {lm.adapter.kind} trains it further; or merge it into its own base",
        )
    shared = {n: p for n, p in lm.model.named_parameters() if not p.requires_grad}
    wanted = part.shape()
    mine = {name: lm.adapter.settings.get(name) for name in wanted}
    if mine != wanted:
        raise EngramError(
            f"the base has an adapter with {_told(mine)}, but the recipe wants {_told(wanted)}",
            hint="give the settings that it was made with",
        )
    return replace(lm, model=_copy(lm.model, shared, device))


def _told(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in sorted(settings.items()))


def _copy(model: nn.Module, shared: Mapping[str, nn.Parameter], device: str) -> Any:
    """A copy in float32 on the device; of `shared`, only what must change is copied."""
    same = torch.device(device).type
    memo = {id(p): p for p in shared.values() if p.dtype == torch.float32 and p.device.type == same}
    before = {id(p): p.requires_grad for p in memo.values()}
    if memo:  # a shared weight's flag is the base's too: a new parameter on the same memory
        memo = {i: nn.Parameter(p.data, requires_grad=before[i]) for i, p in memo.items()}
    return deepcopy(model, dict(memo)).float().to(device)


def _kept(part: Part, model: Any) -> dict[str, nn.Parameter]:
    """The weights that stay as they are."""
    if part.method == "full":
        return {}
    parameters = dict(model.named_parameters())
    if part.method == "head":
        head = model.get_output_embeddings()
        own = set() if _is_tied(model) else {id(p) for p in head.parameters()}
    else:
        own = {id(p) for p in _block(part, model).parameters()}
    return {n: p for n, p in parameters.items() if id(p) not in own}


def _freeze_all_but(model: Any, part: Part) -> None:
    model.requires_grad_(False)
    trained = _untied_head(model) if part.method == "head" else _block(part, model)
    trained.requires_grad_(True)


def _block(part: Part, model: Any) -> nn.Module:
    blocks = decoder_blocks(model)
    if not -len(blocks) <= part.block < len(blocks):
        raise EngramError(
            f"block is {part.block}, but the model has {len(blocks)}",
            hint=f"0 is the first and {len(blocks) - 1} the last",
        )
    return blocks[part.block]


def _is_tied(model: Any) -> bool:
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


def _untied_head(model: Any) -> nn.Module:
    """The output head; one that shares its weights with the input is first copied away."""
    head = model.get_output_embeddings()
    if head is None:
        raise EngramError(
            f"{type(model).__name__} has no output head", hint="--method full trains all weights"
        )
    if _is_tied(model):
        head = deepcopy(head)
        model.set_output_embeddings(head)
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = False
        # transformers remembers what was tied when the model was made.
        model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)
    return head
