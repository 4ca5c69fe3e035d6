"""Training data as others keep it: texts, prompts with completions, or conversations."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from engram.core import EngramError, Split
from engram.core.split import CANARY, OWNER
from engram.parts.passages import Passages
from engram.parts.token_examples import encode

TEXT, MESSAGES = "text", "messages"
PAIRS = (("prompt", "completion"), ("prompt", "response"), ("question", "answer"))
"""Columns that hold what is given and what is learnt, the first that are there."""


def rows_of(records: Any, what: str) -> list[dict[str, Any]]:
    """Plain rows of a list of texts, a list of mappings, a `Split` or a Hugging Face `Dataset`.

    Raises:
        EngramError: There are none, or they are something else.
    """
    if isinstance(records, Split):
        rows = records.records.to_pylist()
        for name, values in ((OWNER, records.owners), (CANARY, records.canaries)):
            for row, value in zip(rows, values or (), strict=bool(values)):
                row[name] = value
    elif isinstance(records, Iterable) and not isinstance(records, str | Mapping):
        rows = [{TEXT: each} if isinstance(each, str) else each for each in records]
    else:
        raise EngramError(
            f"{what} are a {type(records).__name__}, but must be a list of texts or mappings, a "
            "Split or a datasets.Dataset",
            hint="give what the trainer was given as train_dataset, before it was tokenised",
        )
    if not rows:
        raise EngramError(f"{what} are empty", hint="give at least one record")
    if strange := [each for each in rows if not isinstance(each, Mapping)]:
        raise EngramError(
            f"{what} hold a {type(strange[0]).__name__}, but must hold texts or mappings",
            hint="give the records before they were tokenised",
        )
    return [dict(row) for row in rows]


def passages_of(rows: Sequence[Mapping[str, Any]], tokenizer: Any, context: int) -> Passages:
    """Records as the model reads them, each cut where what is learnt begins.

    Raises:
        EngramError: The columns are none of those that are known, or messages have no answer.
    """
    found = set(rows[0])
    if TEXT in found:
        texts = encode(tokenizer, [_text(row, TEXT) for row in rows])
        return Passages.of_texts(texts, context, 1)
    pair = next((pair for pair in PAIRS if set(pair) <= found), None)
    if pair is None and MESSAGES not in found:
        raise EngramError(
            f"the records have the columns {', '.join(sorted(found)) or '(none)'}, but must have "
            f"{TEXT}, {MESSAGES} or prompt and completion",
            hint="rename the columns, or give a list of texts",
        )
    turns = [_turn(row, pair, tokenizer) for row in rows]
    given = encode(tokenizer, [prompt for prompt, _ in turns])
    whole = encode(tokenizer, [prompt + answer for prompt, answer in turns])
    starts = [_shared(some, every) for some, every in zip(given, whole, strict=True)]
    return Passages.of_answers(whole, starts, context)


def split_of(rows: Sequence[Mapping[str, Any]], name: str) -> Split:
    """The same records as a `Split`: whose they are, and which are canaries."""
    texts = [str(row.get(TEXT, "")) for row in rows]
    owners = [str(row[OWNER]) for row in rows] if OWNER in rows[0] else None
    split = Split.of(name, text=texts, owners=owners, canary=[bool(r.get(CANARY)) for r in rows])
    return split


def _turn(row: Mapping[str, Any], pair: tuple[str, str] | None, tokenizer: Any) -> tuple[str, str]:
    """What is given and what is learnt, as texts."""
    if pair is None:
        messages = row[MESSAGES]
        if not messages or messages[-1].get("role") != "assistant":
            raise EngramError(
                f"a conversation of {len(messages or ())} messages does not end with the "
                "assistant's",
                hint="take it out, or cut it after the assistant's last message",
            )
        return _templated(tokenizer, messages[:-1], messages[-1:])
    prompt, answer = (row[name] for name in pair)
    if isinstance(prompt, str) and isinstance(answer, str):
        return prompt, answer
    return _templated(tokenizer, prompt, answer)


def _templated(tokenizer: Any, given: list[Any], answer: list[Any]) -> tuple[str, str]:
    if not getattr(tokenizer, "chat_template", None):
        raise EngramError(
            "the records are conversations, but the tokenizer has no chat template",
            hint="set tokenizer.chat_template, as the trainer needs it too",
        )
    prompt = tokenizer.apply_chat_template(given, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*given, *answer], tokenize=False)
    shared = len(_common(prompt, whole))
    return whole[:shared], whole[shared:]


def _common(one: Sequence[Any], other: Sequence[Any]) -> list[Any]:
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return [first for first, _ in pairs]


def _shared(given: list[int], whole: list[int]) -> int:
    """Tokens of the prompt that stay what they are when the answer follows."""
    return len(_common(given, whole))


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value)
