"""What a causal language model holds, layer by layer, when it has read a prompt.

A block reads what the one below it wrote and adds to it. The state at the last token of a prompt
is all that is left of the prompt when the answer begins; so what can be told from it, at some
layer, the model still knows there, whether it says so or not.

    h_0 = embeddings,  h_l = h_{l-1} + block_l(h_{l-1}),  l = 1 .. L      each at the last token
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from engram.core import EngramError
from engram.parts.language_model import LanguageModel
from engram.parts.token_examples import encode

PROMPTS = 64
"""The most prompts that are read together."""
TOKENS = 8192
"""The most tokens of a batch, padding included."""


def layer_states(
    model: LanguageModel, prompts: Sequence[str]
) -> Float[np.ndarray, "layers n width"]:
    """Hidden states of every layer at the last token of each prompt.

    Layer 0 is what comes out of the embeddings; the last one is what the output head reads, after
    the last norm where the model has one. Of a prompt that is longer than the context the end is
    read. The network is asked directly: a guard before it has no say.

    Args:
        model: A causal language model with its tokenizer.
        prompts: Texts; at least one.

    Returns:
        In float32, on the processor: (layers + 1) * n * width numbers.

    Raises:
        EngramError: No prompts, or one without a token.
    """
    return states_after(model, prompt_tokens(model, prompts))


def states_after(
    model: LanguageModel, tokens: Sequence[Sequence[int]]
) -> Float[np.ndarray, "layers n width"]:
    """The same at the last of some tokens each: what `layer_states` makes of its prompts'.

    Args:
        model: A causal language model.
        tokens: Token numbers, at least one each; no more than the context has room for.
    """
    network = model.model.eval()
    found: np.ndarray | None = None
    with torch.inference_mode():
        for rows in batches(tokens):
            states = _read(network, [tokens[row] for row in rows], model.device)
            if found is None:
                shape = (len(states), len(tokens), states.shape[-1])
                found = np.empty(shape, np.float32)
            found[:, rows] = states
    if found is None:
        raise EngramError("no prompts were given", hint="give at least one")
    return found


def prompt_tokens(model: LanguageModel, prompts: Sequence[str]) -> list[list[int]]:
    """The tokens of each prompt, without an end token: something is to come after them.

    Raises:
        EngramError: A prompt has no tokens.
    """
    end = model.tokenizer.eos_token_id
    found = []
    for row, ids in enumerate(encode(model.tokenizer, prompts)):
        own = ids[:-1] if len(ids) > 1 and ids[-1] == end else ids
        if not own:
            raise EngramError(
                f"prompt {row + 1} of {len(prompts)} has no tokens", hint="leave out empty prompts"
            )
        found.append(own[-model.context :])
    return found


def batches(tokens: Sequence[Sequence[int]]) -> Iterator[Int[np.ndarray, " _"]]:
    """Row numbers of texts of like length, together at most `PROMPTS` and `TOKENS`."""
    order = np.argsort([len(ids) for ids in tokens], kind="stable")
    first = 0
    for last in range(1, len(order) + 1):
        full = last == len(order) or last - first == PROMPTS
        if full or (last + 1 - first) * len(tokens[order[last]]) > TOKENS:
            yield order[first:last]
            first = last


def _read(
    network: Any, tokens: Sequence[Sequence[int]], device: torch.device
) -> Float[np.ndarray, "layers rows width"]:
    """The states of one batch at the last token of each text."""
    sizes = torch.tensor([len(ids) for ids in tokens], device=device)
    given = torch.zeros((len(tokens), int(sizes.max())), dtype=torch.long, device=device)
    for row, ids in enumerate(tokens):
        given[row, : len(ids)] = torch.tensor(ids)
    mask = (torch.arange(given.shape[1], device=device) < sizes[:, None]).long()
    answer = network.base_model(
        input_ids=given, attention_mask=mask, output_hidden_states=True, use_cache=False
    )
    every = torch.arange(len(tokens), device=device)
    return torch.stack([s[every, sizes - 1] for s in answer.hidden_states]).float().cpu().numpy()
