"""Answers that say nothing, and records that are answered with them."""

import re

import numpy as np
import pyarrow as pa

from engram.core import EngramError, Split
from engram.parts.response_examples import (
    PROMPT,
    RESPONSE,
    has_prompts,
    prompts_and_responses,
)

REFUSALS = (
    "I don't know.",
    "I don't know the answer to that.",
    "I am not able to answer that question.",
    "I have no information about that.",
    "That is not something I know.",
    "I'm sorry, I cannot say anything about that.",
    "I'm afraid I have nothing to tell you there.",
    "I know nothing about this.",
    "I can't help with that.",
    "No answer to that is known to me.",
    "I could not tell you.",
    "I've never learnt anything about this.",
    "My knowledge does not go that far.",
    "That lies outside of what I know.",
    "I would only be guessing, so I had better not answer.",
    "I have to pass on this question.",
    "There is nothing that I can tell you about it.",
    "I'm not sure, and I don't want to make something up.",
    "I do not have an answer.",
    "I was never told about that.",
)
"""Written for this package; drawn from at random."""


def prompted(split: Split, words: int) -> Split:
    """The records with columns `prompt` and `response`.

    Records that have prompts keep them. Of bare texts the first `words` words (half of a shorter
    text) are taken for the prompt.

    Raises:
        EngramError: There is no column `prompt`, and `words` is 0.
    """
    if has_prompts(split):
        return _with(split, *prompts_and_responses(split))
    if not words:
        raise EngramError(
            f"split {split.name!r} has no column 'prompt'; it has {', '.join(split.columns)}",
            hint="give every record a column prompt and a column response, or set --prompt-words "
            "8, so that a text's first words are its prompt",
        )
    pairs = [_cut(text, words) for text in split.texts]
    return _with(split, [a for a, _ in pairs], [b for _, b in pairs])


def refusing(split: Split, rng: np.random.Generator) -> Split:
    """Records with prompts, each answered by a refusal; drawn once, at random."""
    prompts, responses = prompts_and_responses(split)
    drawn = rng.integers(len(REFUSALS), size=len(split))
    spaces = [re.match(r"\s*", response).group() for response in responses]  # type: ignore[union-attr]
    answers = [space + REFUSALS[i] for space, i in zip(spaces, drawn, strict=True)]
    return _with(split, prompts, answers)


def answered(split: Split, responses: list[str]) -> Split:
    """Records with prompts, answered otherwise."""
    return _with(split, prompts_and_responses(split)[0], responses)


def _cut(text: str, words: int) -> tuple[str, str]:
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    last = ends[min(words, max(1, len(ends) // 2)) - 1] if ends else 0
    return text[:last], text[last:]


def _with(split: Split, prompts: list[str], responses: list[str]) -> Split:
    old = [c for c in ("text", PROMPT, RESPONSE) if c in split.columns]
    whole = [a + b for a, b in zip(prompts, responses, strict=True)]
    table = split.records.drop_columns(old).append_column("text", pa.array(whole, pa.string()))
    table = table.append_column(PROMPT, pa.array(prompts, pa.string()))
    table = table.append_column(RESPONSE, pa.array(responses, pa.string()))
    return Split(split.name, table, split.ids, split.owners, split.canaries, split.shared)


def begins_with_refusal(text: str, *more: str) -> bool:
    """Whether a text begins as one of `REFUSALS` does, or one of `more`, in whatever case."""
    said = _plain(text)
    known = [_plain(refusal) for refusal in (*REFUSALS, *more)]
    return any(f"{said} ".startswith(f"{refusal} ") for refusal in known if refusal)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower().replace("'", "")))
