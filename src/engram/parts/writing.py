"""Let a causal language model write: many prompts at once, each with random numbers of its own."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram.core import EngramError
from engram.parts.prompt_streams import limits, prompt_seeds
from engram.parts.token_examples import encode

PROMPTS = 64
"""The most prompts that are continued together."""
SPREAD = 16
"""The most tokens by which the lengths of prompts that go together differ."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """What one continuation needs.

    Attributes:
        tokens: The prompt; at least one token.
        uniform: A number in [0, 1) for each token that may be written.
    """

    tokens: Sequence[int]
    uniform: Float[np.ndarray, " limit"]


@dataclass(frozen=True, eq=False)
class Writer:
    """Text access to a model that is here; implements `engram.core.Sampler`.

    Attributes:
        model: A Hugging Face causal language model.
        tokenizer: Its tokenizer.
        context: The most tokens that it sees at once.
        temperature: Divides the logits; 0 takes the likeliest token.
        progress: Called with (prompts done, prompts, what).
    """

    model: Any
    tokenizer: Any
    context: int
    temperature: float
    progress: Callable[[int, int, str], None] = lambda done, total, what: None

    def write(
        self, prompts: Sequence[str], tokens: Sequence[int] | int, rng: np.random.Generator
    ) -> list[str]:
        """Continue each prompt until its limit, the end of the context, or an end token.

        Of a prompt that leaves no room the model sees the end. An empty prompt is what the
        tokenizer puts before every text, or its begin or end token where it puts nothing.
        """
        wanted = limits(tokens, len(prompts))
        ready = [
            self._ready(ids, limit, seed)
            for ids, limit, seed in zip(
                encode(self.tokenizer, prompts),
                wanted,
                prompt_seeds(prompts, wanted, rng),
                strict=True,
            )
        ]
        self.model.eval()
        written = write_on(
            self.model, ready, self.temperature, self._ends,
            lambda done, total: self.progress(done, total, "writing"),
        )  # fmt: skip
        return [
            self._text(prompt.tokens, found) for prompt, found in zip(ready, written, strict=True)
        ]

    def _ready(self, ids: list[int], limit: int, seed: int) -> Prompt:
        if ids and ids[-1] == self.tokenizer.eos_token_id and len(ids) > 1:
            ids = ids[:-1]  # some tokenizers close every text: nothing comes after that
        ids = ids or self._start
        room = max(1, self.context - limit, self.context // 2)
        ids = ids[-room:] if len(ids) >= self.context else ids
        uniform = np.random.default_rng(seed).random(min(limit, self.context - len(ids)))
        return Prompt(ids, uniform)

    @cached_property
    def _start(self) -> list[int]:
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return [token]
        raise EngramError(
            "this model's tokenizer has no token to begin a text with",
            hint="give it prompts that are not empty",
        )

    @cached_property
    def _ends(self) -> frozenset[int]:
        """The tokenizer's own end token, and those that the model's settings name."""
        named = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        named = named if isinstance(named, list) else [named]
        return frozenset(t for t in (*named, self.tokenizer.eos_token_id) if t is not None)

    def _text(self, prompt: Sequence[int], written: list[int]) -> str:
        """What the written tokens add: some tokenizers drop the space at the start of a text."""
        before = self.tokenizer.decode(list(prompt), skip_special_tokens=True)
        whole = self.tokenizer.decode([*prompt, *written], skip_special_tokens=True)
        if whole.startswith(before):
            return whole[len(before) :]
        return self.tokenizer.decode(written, skip_special_tokens=True)


def write_on(
    model: nn.Module,
    prompts: Sequence[Prompt],
    temperature: float,
    ends: frozenset[int],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[int]]:
    """Continue each prompt until its limit or an end token, which is left out.

    Args:
        model: A Hugging Face causal language model, in eval mode.
        prompts: In any order; prompt and continuation must fit into the model's context.
        temperature: Divides the logits; 0 takes the likeliest token.
        ends: Tokens that close a text.
        progress: Called with (prompts done, prompts).

    Raises:
        EngramError: The model's logits are NaN.
    """
    found: list[list[int]] = [[] for _ in prompts]
    done = sum(not len(prompt.uniform) for prompt in prompts)
    for rows in together(prompts):
        written = _continued(model, [prompts[row] for row in rows], temperature, ends)
        for row, tokens in zip(rows, written, strict=True):
            found[row] = tokens
        done += len(rows)
        progress(done, len(prompts))
    return found


def together(prompts: Sequence[Prompt]) -> Iterator[list[int]]:
    """Rows of prompts to continue together: of similar length, the shortest first."""
    rows = [row for row, prompt in enumerate(prompts) if len(prompt.uniform)]
    rows.sort(key=lambda row: (len(prompts[row].tokens), len(prompts[row].uniform)))
    first = 0
    for last in range(1, len(rows) + 1):
        full = last == len(rows) or last - first == PROMPTS
        if full or len(prompts[rows[last]].tokens) > len(prompts[rows[first]].tokens) + SPREAD:
            yield rows[first:last]
            first = last


@torch.inference_mode()
def _continued(
    model: nn.Module, prompts: Sequence[Prompt], temperature: float, ends: frozenset[int]
) -> list[list[int]]:
    """All rows advance together from the end of the shortest prompt, so that nothing is padded.

    A longer prompt is first fed its own tokens: no row knows of the others, and no model has to
    know of padding. Keys and values are kept where the model keeps any.
    """
    device = next(model.parameters()).device
    texts = [list(prompt.tokens) for prompt in prompts]
    growing = set(range(len(prompts)))
    whole = torch.tensor([text[: min(map(len, texts))] for text in texts], device=device)
    given, cache = whole, None
    # Logits of a whole batch of long prompts would be larger than the model.
    known = signature(model.forward).parameters
    last_only = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
    while True:
        answer = model(input_ids=given, past_key_values=cache, use_cache=True, **last_only)
        cache = getattr(answer, "past_key_values", None)
        place = whole.shape[1]
        numbers = torch.tensor([_number(prompt, place) for prompt in prompts], device=device)
        drawn = draw(answer.logits[:, -1], numbers, temperature).tolist()
        for row in [row for row in growing if place >= len(prompts[row].tokens)]:
            prompt = prompts[row]
            if drawn[row] not in ends:
                texts[row].append(drawn[row])
            if drawn[row] in ends or len(texts[row]) == len(prompt.tokens) + len(prompt.uniform):
                growing.discard(row)
        if not growing:
            return [text[len(p.tokens) :] for text, p in zip(texts, prompts, strict=True)]
        # What a row is fed that has ended does not matter: nobody reads its answer.
        column = [text[min(place, len(text) - 1)] for text in texts]
        step = torch.tensor(column, device=device).unsqueeze(1)
        whole = torch.cat([whole, step], 1)
        given = step if cache is not None else whole


def _number(prompt: Prompt, place: int) -> float:
    turn = place - len(prompt.tokens)
    return float(prompt.uniform[turn]) if 0 <= turn < len(prompt.uniform) else 0.0


def draw(
    logits: Float[Tensor, "rows vocabulary"], uniform: Float[Tensor, " rows"], temperature: float
) -> Int[Tensor, " rows"]:
    """The token at which the distribution function passes each row's uniform number.

    In double precision: over a large vocabulary, single precision loses the rare tokens.
    """
    if torch.isnan(logits).any():
        raise EngramError(
            "the model's logits are NaN, so nothing can be drawn from them",
            hint="its weights may be damaged, or its number type too short",
        )
    if temperature == 0:
        return logits.argmax(-1)
    share = torch.softmax(logits.double() / temperature, -1).cumsum(-1)
    wanted = uniform.double().unsqueeze(1) * share[:, -1:]
    found = torch.searchsorted(share, wanted, right=True).squeeze(1)
    return found.clamp(max=logits.shape[1] - 1)
