"""Paraphrases that no text can show: a text's embeddings, moved a little to both sides."""

from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram.core import Run, Split, Target
from engram.parts.token_examples import encode
from engram.signals.reduce import reduce_logits

LOGITS = 2**25
"""Logits in one forward pass; 128 MiB as float32."""
NUMBERS = 2**24
"""Numbers in the embeddings that wait for one pass; 64 MiB as float32."""


def root_mean_square(weights: Float[Tensor, "vocabulary width"]) -> float:
    """The size of a number of the embedding matrix: what noise is measured by."""
    return float(weights.double().pow(2).mean().sqrt())


def mirrored(
    embedded: Float[Tensor, "tokens width"], noise: Float[Tensor, "pairs tokens width"]
) -> Float[Tensor, "texts tokens width"]:
    """A text as it is, then with each noise added, then with each taken away."""
    return torch.cat([embedded[None], embedded + noise, embedded - noise])


def noisy_logprobs(
    lm: Any,
    split: Split,
    scale: float,
    draw: Callable[[str, tuple[int, ...]], np.ndarray],
    run: Run,
) -> Float[np.ndarray, "n answers"]:
    """Mean log-probability of a token of each text: as it is, and under each noise.

    Of a text longer than the context only the beginning is read.

    Args:
        lm: A causal language model and its tokenizer.
        split: Records of two tokens or more.
        scale: Standard deviation of the noise, in the units of the embeddings.
        draw: Standard normal numbers for a record, of shape (pairs, tokens, width).
        run: Told of the progress.
    """
    table = lm.model.get_input_embeddings()
    lm.model.eval()
    cut = [ids[: lm.context] for ids in encode(lm.tokenizer, split.texts)]
    found: dict[int, np.ndarray] = {}
    # Texts of one length share a pass, so that nothing is padded.
    order = sorted(range(len(split)), key=lambda row: len(cut[row]))
    for _, same in groupby(order, key=lambda row: len(cut[row])):
        rows: list[int] = []
        waiting: list[Tensor] = []
        for row in same:
            tokens = torch.tensor(cut[row], device=lm.device)
            with torch.inference_mode():
                embedded = table(tokens)
                noise = scale * torch.from_numpy(draw(split.ids[row], tuple(embedded.shape)))
                waiting.append(mirrored(embedded, noise.to(embedded)))
            rows.append(row)
            if len(rows) * waiting[0].numel() >= NUMBERS:
                found |= _answered(lm, rows, waiting, cut)
                rows, waiting = [], []
        found |= _answered(lm, rows, waiting, cut)
        run.progress(len(found), len(split), "noisy texts")
    return np.array([found[row] for row in range(len(split))])


def _answered(
    lm: Any, rows: list[int], waiting: list[Tensor], cut: list[list[int]]
) -> dict[int, np.ndarray]:
    """The answers of some records of one length, by their rows."""
    if not rows:
        return {}
    texts = torch.cat(waiting)
    copies = len(waiting[0])
    tokens = torch.tensor([cut[row] for row in rows], device=lm.device)
    with torch.inference_mode():
        means = _means(lm.model, texts, tokens.repeat_interleave(copies, dim=0))
    return dict(zip(rows, means.reshape(len(rows), copies), strict=True))


def _means(
    model: Any, texts: Float[Tensor, "texts tokens width"], tokens: Int[Tensor, "texts tokens"]
) -> Float[np.ndarray, " texts"]:
    """The mean log-probability of a token of each text, of which the tokens are known."""
    vocabulary = model.config.get_text_config().vocab_size
    size = max(1, LOGITS // (tokens.shape[1] * vocabulary))
    means = []
    for part, own in zip(texts.split(size), tokens.split(size), strict=True):
        logits = model(inputs_embeds=part, use_cache=False).logits[:, :-1]
        answers = own[:, 1:].reshape(-1)
        found = reduce_logits(logits.reshape(-1, logits.shape[-1]), answers).logprob
        means.append(found.reshape(len(part), -1).astype(np.float64).mean(axis=1))
    return np.concatenate(means)


def stored_logprobs(
    of: Target, target: Target, split: Split, pairs: int, scale: float, run: Run
) -> Float[np.ndarray, "n answers"]:
    """`noisy_logprobs` of one model, with the noise that every model of this audit is given.

    Args:
        of: The model that is asked: the target, or its reference.
        target: The model by whose embeddings noise is measured.
        split: Records of two tokens or more.
        pairs: Noises of each record; each is added and taken away.
        scale: Size of the noise, as a share of the size of the target's embeddings.
        run: Randomness and the store.
    """
    unit = root_mean_square(target.model.model.get_input_embeddings().weight.detach())

    def draw(record: str, shape: tuple[int, ...]) -> np.ndarray:
        return run.stream("spv-mia noise", record).standard_normal((pairs, *shape), np.float32)

    def work() -> np.ndarray:
        return noisy_logprobs(of.model, split, scale * unit, draw, run)

    settings = {"pairs": pairs, "scale": scale * unit, "seed": run.seed}
    return run.computed("noisy-logprobs", of, split, settings, work)
