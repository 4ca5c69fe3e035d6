"""Causal tracing: which block's feed-forward output brings a lost answer back."""

from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram.parts.blocks import blocks_of, down_projection, listening, replacing
from engram.parts.unlearning import Unlearning

TRACED = 8
"""The most records that are traced."""


def effects(
    work: Unlearning, noise: float, rng: np.random.Generator
) -> Float[np.ndarray, " blocks"]:
    """How much log-probability of an answer each block brings back, in nats per token.

    The prompt's embeddings are blurred by Gaussian noise of `noise` standard deviations, and one
    block's feed-forward output at the last token of the prompt is put back to what it was. The
    mean over the first `TRACED` records.
    """
    examples, module = work.forget, work.module
    blocks, embeddings = blocks_of(module), module.get_input_embeddings()
    spread = float(embeddings.weight.detach().std()) * noise
    found = np.zeros(len(blocks))
    rows = range(min(len(examples.counts), TRACED))
    for row in rows:
        one = np.array([row])
        clean, place = _clean(examples, one, blocks)
        shape = (place + 1, embeddings.weight.shape[1])
        blur = torch.from_numpy(spread * rng.standard_normal(shape)).to(embeddings.weight)
        with torch.no_grad(), replacing(embeddings, partial(_blurred, blur=blur)):
            lost = float(examples.predictions(one).nll[0])
            for number, state in enumerate(clean):
                put = partial(_put, clean=state, place=place)
                with replacing(down_projection(blocks[number]), put):
                    found[number] += lost - float(examples.predictions(one).nll[0])
    return found / len(rows)


def _clean(examples: Any, row: np.ndarray, blocks: Any) -> tuple[list[Tensor], int]:
    """Each block's output at the prompt's last token, and the place of that token."""
    states = []
    for block in blocks:
        with torch.no_grad(), listening(down_projection(block)) as heard:
            said = examples.predictions(row)
        states.append(heard[0][0, int(said.time[0])])
    return states, int(said.time[0])


def _blurred(hidden: Tensor, blur: Tensor) -> Tensor:
    return torch.cat([hidden[:, : len(blur)] + blur, hidden[:, len(blur) :]], 1)


def _put(hidden: Tensor, clean: Tensor, place: int) -> Tensor:
    changed = hidden.clone()
    changed[:, place] = clean
    return changed
