"""Prompts with their responses, made ready for training: only the response is learnt.

A record is one text. Where its response begins is known from the columns `prompt` and `response`,
or from a template that stands before it (`"Answer:"`). Tokens of the prompt are read and never
predicted, nor is a token that is part prompt and part response. White space between the two is
not learnt for itself, but may belong to the response's first token, as byte-level tokenizers
have it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import nn

from engram.core import EngramError, Split
from engram.parts.text_columns import strings_of
from engram.parts.token_examples import TokenExamples, cut

PROMPT, RESPONSE = "prompt", "response"
BLOCK = 1024
"""Records that are tokenised together."""
SHOWN = 60
"""Characters of a record that an error shows."""


@dataclass(frozen=True, eq=False)
class ResponseExamples(TokenExamples):
    """Tokenised prompts with responses, beside the model that is to learn the responses.

    Pieces in which nothing is asked (a prompt longer than the context) are left out.
    """

    ragged: ClassVar[tuple[str, ...]] = ("tokens", "asked")

    @classmethod
    def of(
        cls,
        model: nn.Module,
        tokenizer: Any,
        split: Split,
        context: int,
        *,
        end: bool = True,
        prompt: str = PROMPT,
        response: str = RESPONSE,
        template: str = "",
        blanks: bool = False,
    ) -> "ResponseExamples":
        """Tokenise every record, and find its response.

        Args:
            model: A Hugging Face causal language model.
            tokenizer: Its fast tokenizer.
            split: Records with a prompt and a response, or with a template in their text.
            context: The most tokens of a piece.
            end: Whether the end token closes each, and is asked for.
            prompt: The column of prompts.
            response: The column of responses.
            template: What stands in `text` before the response; "" reads the two columns.
            blanks: Whether white space at the response's beginning is asked for, too, where it is
                a token of its own.

        Raises:
            EngramError: Records without the template, or whose text is not their prompt followed
                by their response; how many, and the first.
        """
        texts, starts = responses(split, prompt, response, template)
        closing = [tokenizer.eos_token_id] if end and tokenizer.eos_token_id is not None else []
        pieces, flags, record = [], [], []
        for row, (ids, asked) in enumerate(_tokenised(tokenizer, texts, starts, blanks)):
            ends = closing if ids[-1:] != closing else []
            for part, wanted in zip(
                cut(ids + ends, context), cut(asked + [True] * len(ends), context), strict=True
            ):
                if any(wanted[1:]):
                    pieces.append(np.asarray(part, np.int32))
                    flags.append(np.asarray(wanted, bool))
                    record.append(row)
        tokens = np.concatenate(pieces) if pieces else np.empty(0, np.int32)
        return cls(
            model,
            tokens,
            np.cumsum([0, *map(len, pieces)]),
            np.array(record, np.int64),
            asked=np.concatenate(flags) if flags else np.empty(0, bool),
        )


def responses(
    split: Split, prompt: str = PROMPT, response: str = RESPONSE, template: str = ""
) -> tuple[list[str], list[int]]:
    """The text of each record, and the character at which its response begins.

    Raises:
        EngramError: As `ResponseExamples.of` says.
    """
    if template:
        texts = list(split.texts)
        starts = [_after(text, template) for text in texts]
        _check_found(
            split,
            texts,
            starts,
            f"have no {template!r} before their response",
            "give the words that stand before it in every record with --response-template, or "
            "take those records out",
        )
        return texts, starts
    _check_prompts(split, prompt)
    if response not in split.columns and "text" in split.columns:
        texts, prompts = list(split.texts), _strings(split, prompt)
        starts = [len(p) if t.startswith(p) else -1 for t, p in zip(texts, prompts, strict=True)]
        _check_found(
            split, texts, starts, f"do not begin with their {prompt!r}",
            "give a column response, or write the prompt as the text has it",
        )  # fmt: skip
        return texts, starts
    pairs = list(zip(_strings(split, prompt), _strings(split, response), strict=True))
    if "text" not in split.columns:
        texts = [joined(*pair) for pair in pairs]
        return texts, [len(text) - len(r) for text, (_, r) in zip(texts, pairs, strict=True)]
    texts = list(split.texts)
    starts = [_ending(text, *pair) for text, pair in zip(texts, pairs, strict=True)]
    _check_found(
        split,
        texts,
        starts,
        f"have a text that is not their {prompt!r} followed by their {response!r}",
        "leave out the column `text`, or name what stands before the response with "
        "--response-template",
    )
    return texts, starts


def has_prompts(split: Split) -> bool:
    """Whether the records say which part of them is the prompt."""
    return PROMPT in split.columns


def prompts_and_responses(split: Split) -> tuple[list[str], list[str]]:
    """The two parts of each record; one after the other they are the whole text.

    Raises:
        EngramError: There is no column `prompt` or neither `response` nor `text`, they are no
            strings, or the text does not hold them.
    """
    texts, starts = responses(split)
    pairs = list(zip(texts, starts, strict=True))
    return [text[:start] for text, start in pairs], [text[start:] for text, start in pairs]


def _check_prompts(split: Split, prompt: str) -> None:
    if prompt not in split.columns:
        raise EngramError(
            f"split {split.name!r} has no column {prompt!r}; it has {', '.join(split.columns)}",
            hint=f"give every record a column {prompt}, and a column response (or a text that "
            "begins with the prompt)",
        )


def joined(prompt: str, response: str) -> str:
    """Prompt and response as one text, on lines of their own unless white space parts them."""
    apart = prompt[-1:].isspace() or response[:1].isspace() or not prompt
    return f"{prompt}{'' if apart else chr(10)}{response}"


def asked_tokens(
    text: str, offsets: Sequence[Sequence[int]], start: int, blanks: bool = False
) -> list[bool]:
    """Which tokens are of the response: they reach into it, and hold no sign of the prompt.

    Args:
        text: The record.
        offsets: Where each token begins and ends in it; (n, 2).
        start: The character at which the response begins.
        blanks: Whether white space that it begins with is of it.
    """
    if not blanks:
        start += len(text[start:]) - len(text[start:].lstrip())
    return [last > max(start, first) and not text[first:start].strip() for first, last in offsets]


def _tokenised(
    tokenizer: Any, texts: list[str], starts: list[int], blanks: bool = False
) -> Iterator[tuple[list[int], list[bool]]]:
    for first in range(0, len(texts), BLOCK):
        block, where = texts[first : first + BLOCK], starts[first : first + BLOCK]
        found = tokenizer(
            block, return_offsets_mapping=True, return_attention_mask=False, verbose=False
        )
        rows = zip(block, where, found["input_ids"], found["offset_mapping"], strict=True)
        for text, start, ids, offsets in rows:
            yield list(ids), asked_tokens(text, offsets, start, blanks)


def _strings(split: Split, name: str) -> list[str]:
    return strings_of(split, name, "prompts and responses are texts")


def _after(text: str, template: str) -> int:
    place = text.find(template)
    return -1 if place < 0 else place + len(template)


def _ending(text: str, prompt: str, response: str) -> int:
    fits = text.startswith(prompt) and text.endswith(response)
    fits = fits and len(text) >= len(prompt) + len(response)
    return len(text) - len(response) if fits else -1


def _check_found(split: Split, texts: list[str], starts: list[int], what: str, remedy: str) -> None:
    lost = [row for row, start in enumerate(starts) if start < 0]
    if lost:
        first = lost[0]
        shown = texts[first][:SHOWN] + ("..." if len(texts[first]) > SHOWN else "")
        raise EngramError(
            f"{len(lost)} of {len(texts)} records {what} (the first: record "
            f"{split.ids[first]!r}, {shown!r})",
            hint=remedy,
        )


def response_lengths(tokenizer: Any, split: Split) -> list[int]:
    """How many of the tokens of each record's text are its response's, none of them the first."""
    return [sum(asked[1:]) for _, asked in _tokenised(tokenizer, *responses(split))]
