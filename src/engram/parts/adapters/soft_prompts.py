"""Virtual tokens that every text begins with: learnt vectors, or learnt keys and values.

Prompt tuning (Lester et al., 2021) puts `n` learnt vectors before the embedded text; prefix
tuning (Li and Liang, 2021) lets every layer attend to `n` learnt keys and values. Either is done
inside the model's body, by hooks: whoever calls the model, or its body, with or without remembered
keys and values, gets answers for the tokens of the text alone.

Shapes and names of what is learnt are peft's.
"""

from inspect import signature
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import DynamicCache

from engram.core import EngramError

NAME = "soft_prompt"
DEVIATION = 0.02
"""Of learnt keys and values at first."""


class SoftPrompt(nn.Module):
    """Learnt virtual tokens.

    Args:
        kind: "prompt" or "prefix".
        tokens: How many, n.
        layers: Of the model.
        heads: Whose keys and values are kept, in each layer.
        size: Numbers in a vector (prompt), or in a key (prefix).
    """

    def __init__(self, kind: str, tokens: int, layers: int, heads: int, size: int) -> None:
        super().__init__()
        self.kind, self.tokens = kind, tokens
        self.layers, self.heads, self.size = layers, heads, size
        width = size if kind == "prompt" else layers * 2 * heads * size
        self.embedding = nn.Embedding(tokens, width)
        self.added = 0
        """Virtual tokens in the answer of the call in progress."""

    def vectors(self, batch: int) -> Float[Tensor, "batch tokens size"]:
        """What stands before the embedded text (prompt)."""
        return self.embedding.weight.expand(batch, -1, -1)

    def fill(self, memory: DynamicCache, batch: int) -> None:
        """Put keys and values into an empty memory (prefix)."""
        shape = (batch, self.tokens, 2 * self.layers, self.heads, self.size)
        rows = self.embedding.weight.expand(batch, -1, -1).reshape(shape)
        pairs = rows.permute(2, 0, 3, 1, 4)  # keys and values of a layer stand side by side
        for layer in range(self.layers):
            memory.update(pairs[2 * layer], pairs[2 * layer + 1], layer)


def attach_soft_prompt(model: Any, kind: str, tokens: int) -> SoftPrompt:
    """Give the model's body virtual tokens; weights by torch's generator.

    Raises:
        EngramError: The body is not known, or the virtual tokens leave no room for a text.
    """
    body, config = model.base_model, model.config.get_text_config()
    if body is model:
        raise EngramError(
            f"{type(model).__name__} has no body apart from its head",
            hint="--method lora works on it",
        )
    room = int(getattr(config, "max_position_embeddings", 0) or 0)
    if tokens < 1 or (room and tokens > room // 2):
        raise EngramError(
            f"{tokens} virtual tokens were asked for, of a context of {room}",
            hint="between 1 and half of the context; 20 is usual",
        )
    heads = int(config.num_attention_heads)
    size = int(getattr(config, "head_dim", 0) or config.hidden_size // heads)
    kept = int(getattr(config, "num_key_value_heads", None) or heads)
    like = model.get_input_embeddings().weight
    size = like.shape[1] if kind == "prompt" else size
    made = SoftPrompt(kind, tokens, int(config.num_hidden_layers), kept, size)
    if kind == "prompt":  # as Lester et al. found best without words of the task: known tokens
        chosen = torch.randint(len(like), (tokens,))
        made.embedding.weight.data = like.detach()[chosen.to(like.device)].clone()
    else:
        nn.init.normal_(made.embedding.weight, std=DEVIATION)
    body.add_module(NAME, made.to(like.device, like.dtype))
    body.register_forward_pre_hook(_before, with_kwargs=True)
    body.register_forward_hook(_after)
    return made


def _before(body: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
    """Put the virtual tokens before the text, unless the memory holds them already."""
    names = list(signature(body.forward).parameters)
    given = {**dict(zip(names, args, strict=False)), **given}
    prompt, memory, mask = body.soft_prompt, given.get("past_key_values"), given.get(MASK)
    if mask is not None:
        seen = mask.new_ones((len(mask), prompt.tokens))
        given[MASK] = torch.cat([seen, mask], 1)
    prompt.added = 0
    if memory is not None and memory.get_seq_length():
        return (), given
    text = given.get("input_ids")
    batch = len(given["inputs_embeds"] if text is None else text)
    if prompt.kind == "prefix":
        given["past_key_values"] = DynamicCache(config=body.config) if memory is None else memory
        prompt.fill(given["past_key_values"], batch)
        return (), given
    read = given["inputs_embeds"] if text is None else body.get_input_embeddings()(text)
    vectors = prompt.vectors(batch).to(read.dtype)
    given |= {"input_ids": None, "inputs_embeds": torch.cat([vectors, read], 1)}
    prompt.added = prompt.tokens
    return (), given


MASK = "attention_mask"


def _after(body: Any, args: Any, answer: Any) -> Any:
    """Take the virtual tokens out of the answer."""
    if added := body.soft_prompt.added:
        answer.last_hidden_state = answer.last_hidden_state[:, added:]
        if answer.hidden_states is not None:
            answer.hidden_states = tuple(each[:, added:] for each in answer.hidden_states)
    return answer
