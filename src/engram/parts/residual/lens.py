"""The logit lens: what each layer would say if it were the last.

z_l = U norm(h_l)     U: the map to the vocabulary, norm: the model's last normalisation
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def last_norm(model: Any) -> nn.Module | None:
    """The normalisation between the last block and the map to the vocabulary, if one is known."""
    base = model.base_model
    found = [m for m in base.children() if "norm" in type(m).__name__.lower()]
    if not found:  # a model inside a model, as adapters make them
        named = [m for m in base.modules() if "norm" in type(m).__name__.lower()]
        found = named[-1:]
    return found[-1] if found else None


@torch.no_grad()
def lens_ranks(
    model: Any, states: Float[np.ndarray, "layers n width"], tokens: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "layers n"]:
    """One over the rank that each layer gives to a token; 1 where it would say it.

    Args:
        model: A Hugging Face causal language model whose last normalisation is known.
        states: Hidden states of every layer at one place of each text; the last layer's are
            normalised already, as Hugging Face returns them.
        tokens: The token to look for.
    """
    head, norm = model.get_output_embeddings(), last_norm(model)
    weight = head.weight
    found = np.zeros(states.shape[:2])
    wanted = torch.from_numpy(np.asarray(tokens, np.int64)).to(weight.device)
    for layer, some in enumerate(states):
        hidden = torch.from_numpy(np.asarray(some)).to(weight)
        if norm is not None and layer < len(states) - 1:
            hidden = norm(hidden)
        found[layer] = _reciprocal_ranks(head(hidden).float(), wanted).cpu().numpy()
    return found


def _reciprocal_ranks(
    logits: Float[Tensor, "n vocabulary"], wanted: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Ties count half: a model that says nothing ranks everything in the middle."""
    own = logits.gather(1, wanted[:, None])
    above = (logits > own).sum(1) + ((logits == own).sum(1) - 1) / 2
    return 1 / (1 + above)
