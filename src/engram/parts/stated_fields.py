"""Where records state their fields, and what the model makes of the tokens there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from engram.core import EngramError, Run, Split, Target
from engram.stats.owners import owner_index

SHORTEST, LONGEST = 3, 100
"""Characters of a field: shorter values stand in texts by accident, longer ones are texts."""
MOST_PLACES = 1000
"""Where so many places in a text are parts of longer words, no more are looked at."""
BLOCK = 512
"""Records that are tokenised together."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What the model makes of one field, in the records of one split that state it."""

    probability: Float[np.ndarray, " n"]
    exact: Bool[np.ndarray, " n"]
    owner: Int[np.ndarray, " n"]


def strangers(members: Split, outsiders: Split) -> tuple[Bool[np.ndarray, " n"], str]:
    """Which outsiders' records are of people whom the model knows from no other record."""
    if members.owners is None or outsiders.owners is None:
        return np.ones(len(outsiders), bool), ""
    known = {owner for owner in members.owners if owner}
    strange = np.array([owner not in known for owner in outsiders.owners], bool)
    familiar = int((~strange).sum())
    return strange, f"{familiar} outsiders' records of members' owners left out" * (familiar > 0)


def field_columns(members: Split, outsiders: Split) -> tuple[str, ...]:
    """Columns of both sides, beside the text, of strings or whole numbers."""
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)
    return tuple(
        name
        for name in members.columns
        if name != "text"
        and name in outsiders.columns
        and any(kind(members.column(name).type) for kind in kinds)
    )


def answers_of(
    target: Target,
    split: Split,
    names: tuple[str, ...],
    run: Run,
    kept: Bool[np.ndarray, " n"] | None = None,
) -> dict[str, Answers]:
    """Probability and greedy hit of each field in each record (of those kept) that states it."""
    signals = run.tokens(target, split)
    owner = owner_index(split.owners, len(split))
    columns = {name: split.column(name).to_pylist() for name in names}
    found: dict[str, list[tuple[float, bool, int]]] = {name: [] for name in names}
    texts = split.texts
    for first in range(0, len(split), BLOCK):
        block = texts[first : first + BLOCK]
        for row, ends in enumerate(token_ends(target.model.tokenizer, block), first):
            if kept is not None and not kept[row]:
                continue
            start = int(signals.offsets[row])
            for name in names:
                begin, stop = token_span(texts[row], columns[name][row], ends)
                if 1 <= begin < stop:  # a record's first token is not scored
                    entries = slice(start + begin - 1, start + stop - 1)
                    logprob = np.asarray(signals.logprob[entries], np.float64).sum()
                    exact = bool(np.all(signals.greedy[entries]))
                    found[name].append((float(np.exp(logprob)), exact, int(owner[row])))
    return {name: _as_arrays(rows) for name, rows in found.items()}


def _as_arrays(rows: list[tuple[float, bool, int]]) -> Answers:
    probability, exact, owner = zip(*rows, strict=True) if rows else ((), (), ())
    return Answers(
        np.array(probability, np.float64), np.array(exact, bool), np.array(owner, np.int64)
    )


def token_ends(tokenizer: Any, texts: tuple[str, ...]) -> list[Int[np.ndarray, "tokens 2"]]:
    """Where the characters of each token begin and end."""
    given = tokenizer(list(texts), return_offsets_mapping=True, truncation=False, verbose=False)
    return [np.array(ends, np.int64).reshape(-1, 2) for ends in given["offset_mapping"]]


def token_span(text: str, value: object, ends: Int[np.ndarray, "tokens 2"]) -> tuple[int, int]:
    """The tokens that a field's characters lie in; (0, 0) where the text does not state it.

    The first of them may begin with the space before the field.
    """
    field = "" if value is None else str(value)
    at = stated_at(text, field) if SHORTEST <= len(field) <= LONGEST else -1
    inside = np.flatnonzero((ends[:, 0] < at + len(field)) & (ends[:, 1] > at))
    return (int(inside[0]), int(inside[-1]) + 1) if at >= 0 and len(inside) else (0, 0)


def stated_at(text: str, field: str) -> int:
    """Where the field first stands in the text, not as a part of longer words; -1: nowhere."""
    at = text.find(field)
    for _ in range(MOST_PLACES):
        if at < 0:
            break
        around = text[max(at - 1, 0) : at] + text[at + len(field) : at + len(field) + 1]
        if not any(letter.isalnum() for letter in around):
            return at
        at = text.find(field, at + 1)
    return -1


def fact_columns(split: Split, wanted: Sequence[str] = (), name: str = "name") -> tuple[str, ...]:
    """The columns named, or all of strings or whole numbers but the text and the person's name.

    Raises:
        EngramError: A named column is not there.
    """
    for column in wanted:
        split.column(column)
    columns = field_columns(split, split)
    return tuple(dict.fromkeys(wanted)) or tuple(c for c in columns if c != name)


def first_tokens_right(
    target: Target, split: Split, question: str, answer: str, run: Run
) -> Bool[np.ndarray, " n"]:
    """Whether the first token of each answer is the model's first choice after the question.

    The text of a record must be its question, a blank and its answer.

    Raises:
        EngramError: A text is not.
    """
    signals = run.tokens(target, split)
    asked, truth = (split.column(c).to_pylist() for c in (question, answer))
    hits = np.zeros(len(split), bool)
    texts = split.texts
    for first in range(0, len(split), BLOCK):
        block = texts[first : first + BLOCK]
        for row, ends in enumerate(token_ends(target.model.tokenizer, block), first):
            if texts[row] != f"{asked[row]} {truth[row]}":
                raise EngramError(
                    f"the text of record {split.ids[row]!r} is {texts[row]!r:.80}, not its "
                    "question, a blank and its answer",
                    hint="`engram transform biography-questions` makes such records",
                )
            inside = np.flatnonzero(ends[:, 1] > len(asked[row]) + 1)
            if len(inside) and inside[0] > 0:
                hits[row] = bool(signals.greedy[int(signals.offsets[row]) + int(inside[0]) - 1])
    return hits
