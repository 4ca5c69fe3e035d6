"""Write on from many prompts, always the likeliest token, exactly as far as is asked.

The length is forced: an end token neither stops a continuation nor is it forbidden, because a
continuation that stops early could not be compared place by place. Prompts of different lengths
advance together from the end of the shortest, and a longer one is first fed its own tokens: so
nothing is padded, and no model has to know how to count positions beside padding.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import nn

ROWS = 128
"""The most prompts that advance together."""
SPREAD = 16
"""The most tokens by which the lengths of prompts that advance together differ."""


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, after which every module is in its own mode again.

    Nothing that trains notices: random numbers drawn inside are put back as well. Gradients are
    switched off by `no_grad`, since what a model keeps from inference mode could not be trained on.
    """
    modes = [(module, module.training) for module in model.modules()]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    model.eval()
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def groups(lengths: Sequence[int]) -> list[list[int]]:
    """Rows whose prompts advance together, the shortest first."""
    found: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        last = found[-1] if found else None
        if last and len(last) < ROWS and lengths[row] <= lengths[last[0]] + SPREAD:
            last.append(row)
        else:
            found.append([row])
    return found


def continuations(
    model: nn.Module, prompts: Sequence[Int[np.ndarray, " _"]], wanted: Sequence[int]
) -> list[Int[np.ndarray, " _"]]:
    """Continue each prompt by exactly so many tokens.

    Args:
        model: A Hugging Face causal language model, or one that adapters were put into.
        prompts: Token numbers, at least one each; with what is wanted they fit into the context.
        wanted: Tokens to write after each.
    """
    written: list[Any] = [None] * len(prompts)
    with at_rest(model):
        for rows in groups([len(prompt) for prompt in prompts]):
            some = _together(model, [prompts[row] for row in rows], [wanted[row] for row in rows])
            for row, tokens in zip(rows, some, strict=True):
                written[row] = tokens
    return written


def _together(
    model: nn.Module, prompts: list[Int[np.ndarray, " _"]], wanted: list[int]
) -> list[Int[np.ndarray, " _"]]:
    device = next(model.parameters()).device
    lengths = [len(prompt) for prompt in prompts]
    first, last = min(lengths), max(n + w for n, w in zip(lengths, wanted, strict=True))
    table = torch.zeros((len(prompts), last), dtype=torch.long)
    own = torch.zeros((len(prompts), last), dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        table[row, : len(prompt)] = torch.from_numpy(prompt.astype(np.int64))
        own[row, : len(prompt)] = True
    table, own = table.to(device), own.to(device)
    # Logits of a whole batch of prompts would be larger than the model.
    last_only = (
        {"logits_to_keep": 1} if "logits_to_keep" in signature(model.forward).parameters else {}
    )
    remembers, cache, start = _remembers(model), None, 0
    for place in range(first, last):
        # Without a mask, a filling token that the model itself wrote would be taken for filling.
        seen = torch.ones((len(prompts), place), dtype=torch.long, device=device)
        answer = model(
            input_ids=table[:, start:place], attention_mask=seen, past_key_values=cache,
            use_cache=remembers, **last_only,
        )  # fmt: skip
        likeliest = answer.logits[:, -1].argmax(-1)
        table[:, place] = torch.where(own[:, place], table[:, place], likeliest)
        cache = getattr(answer, "past_key_values", None) if remembers else None
        start = place if cache is not None else 0
    whole = table.cpu().numpy()
    pairs = enumerate(zip(lengths, wanted, strict=True))
    return [whole[row, length : length + count] for row, (length, count) in pairs]


def _remembers(model: nn.Module) -> bool:
    """Whether keys and values may be handed back to the model.

    Learnt prompts and prefixes are put in front of whatever is read, at each call anew.
    """
    learnt = getattr(model, "active_peft_config", None)
    return not getattr(learnt, "is_prompt_learning", False)
