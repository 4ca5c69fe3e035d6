"""Prompts and responses made ready for training: only the tokens of the response are predicted.

A record is its prompt and then its response. With a column `response` the two are put together as
they stand, so a space between them must be in one of the columns; without one, the column `text`
must begin with the prompt, and what follows is the response. Prompt and response are tokenised
together, as the model will read them; a token that holds a part of both counts as response.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from engram.core import EngramError, Split
from engram.parts.token_examples import IGNORED, TokenExamples

PROMPT, RESPONSE = "prompt", "response"


def has_prompts(split: Split) -> bool:
    """Whether the records say which part of them is the prompt."""
    return PROMPT in split.columns


def prompts_and_responses(split: Split) -> tuple[list[str], list[str]]:
    """The two parts of each record.

    Raises:
        EngramError: There is no column `prompt` or neither `response` nor `text`, they are no
            strings, or a text does not begin with its prompt.
    """
    if not has_prompts(split):
        raise EngramError(
            f"split {split.name!r} has no column 'prompt'; it has {', '.join(split.columns)}",
            hint="give every record a column prompt, and a column response (or a text that begins "
            "with the prompt)",
        )
    prompts = _strings(split, PROMPT)
    if RESPONSE in split.columns:
        return prompts, _strings(split, RESPONSE)
    responses = []
    for row, (prompt, text) in enumerate(zip(prompts, _strings(split, "text"), strict=True)):
        if not text.startswith(prompt):
            raise EngramError(
                f"the text of record {split.ids[row]!r} does not begin with its prompt "
                f"({prompt[:40]!r})",
                hint="give a column response, or write the prompt as the text has it",
            )
        responses.append(text[len(prompt) :])
    return prompts, responses


def _strings(split: Split, name: str) -> list[str]:
    column = split.column(name)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise EngramError(
            f"column {name!r} of split {split.name!r} holds {column.type}, not strings",
            hint="prompts and responses are texts",
        )
    return ["" if value is None else value for value in column.to_pylist()]


@dataclass(frozen=True, eq=False)
class ResponseExamples(TokenExamples):
    """Pieces of prompts and responses; see `TokenExamples`. Pieces without a response are left out.

    Attributes:
        response: Whether each token is one of a response; (total,).
    """

    ragged: ClassVar[tuple[str, ...]] = ("tokens", "response")

    response: Bool[np.ndarray, " total"]

    @classmethod
    def of(
        cls, model: nn.Module, tokenizer: Any, split: Split, context: int, *, end: bool
    ) -> "ResponseExamples":
        """Tokenise and cut every record; with `end`, the end token closes each response.

        Raises:
            EngramError: The records have no prompts, or no responses.
        """
        prompts, responses = prompts_and_responses(split)
        eos = tokenizer.eos_token_id
        closing = [eos] if end and eos is not None else []
        tokens, masks, record = [], [], []
        encoded = _encoded(tokenizer, prompts, responses)
        for row, (ids, asked) in enumerate(encoded):
            if ids[-1:] != closing:
                ids, asked = ids + closing, asked + [True] * len(closing)
            for first in range(0, max(len(ids) - 1, 0), context - 1):
                mask = asked[first : first + context]
                if any(mask[1:]):
                    tokens.append(np.asarray(ids[first : first + context], np.int32))
                    masks.append(np.asarray(mask, bool))
                    record.append(row)
        return cls(
            model,
            np.concatenate(tokens) if tokens else np.empty(0, np.int32),
            np.cumsum([0, *map(len, tokens)]),
            np.array(record, np.int64),
            np.concatenate(masks) if masks else np.empty(0, bool),
        )

    @cached_property
    def _counts(self) -> Int[np.ndarray, " pieces"]:
        asked = self.response.copy()
        asked[self.offsets[:-1]] = False  # nothing predicts the first token of a piece
        return (
            np.add.reduceat(asked, self.offsets[:-1], dtype=np.int64)
            if len(asked)
            else (np.empty(0, np.int64))
        )

    def padded(
        self, rows: Int[np.ndarray, " rows"]
    ) -> tuple[Int[Tensor, "rows time"], Int[Tensor, "rows time"]]:
        """As `TokenExamples.padded`; positions whose next token is the prompt's hold `IGNORED`."""
        tokens, labels = super().padded(rows)
        for place, row in enumerate(rows):
            asked = self.response[self.offsets[row] + 1 : self.offsets[row + 1]]
            labels[place, : len(asked)][torch.from_numpy(~asked)] = IGNORED
        return tokens, labels


def _encoded(
    tokenizer: Any, prompts: list[str], responses: list[str]
) -> list[tuple[list[int], list[bool]]]:
    """Tokens of prompt and response together, and which of them are the response's."""
    if not prompts:
        return []
    found = tokenizer(
        [prompt + response for prompt, response in zip(prompts, responses, strict=True)],
        truncation=False,
        padding=False,
        return_attention_mask=False,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,
    )
    answers = []
    for prompt, ids, spans, special in zip(
        prompts,
        found["input_ids"],
        found["offset_mapping"],
        found["special_tokens_mask"],
        strict=True,
    ):
        asked = [last > len(prompt) for _, last in spans]
        # A special token at the end closes the response; one at the beginning opens the prompt.
        opened = np.cumsum(asked) > 0
        answers.append(
            (ids, [bool(a or (s and o)) for a, s, o in zip(asked, special, opened, strict=True)])
        )
    return answers
