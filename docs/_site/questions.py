"""What people want to do, and by which methods: `questions.toml`, read for the pages of methods."""

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engram.explained import Explained

FILE = Path(__file__).with_name("questions.toml")
MOST = 8
"""Related methods that a page shows."""


@dataclass(frozen=True)
class Question:
    """One thing that somebody wants to do.

    Attributes:
        want: What follows "I want to".
        methods: Names, the first to try first.
        read: Titles and paths of pages about it.
    """

    want: str
    methods: tuple[str, ...]
    read: tuple[tuple[str, str], ...]


def questions() -> list[Question]:
    """All of them, in their order."""
    told = tomllib.loads(FILE.read_text(encoding="utf-8"))["question"]
    return [
        Question(each["want"], tuple(each["methods"]), tuple(each.get("read", {}).items()))
        for each in told
    ]


def related(
    method: Explained, everything: Sequence[Explained], asked: Sequence[Question]
) -> list[Explained]:
    """Methods to look at beside this one: named in its file, of its paper, for the same aim."""
    by_name = {other.name: other for other in everything}
    found = dict.fromkeys(_candidates(method, everything, asked))
    found.pop(method.name, None)
    return [by_name[name] for name in found if name in by_name][:MOST]


def _candidates(
    method: Explained, everything: Sequence[Explained], asked: Sequence[Question]
) -> Iterator[str]:
    told = f"{method.text} {' '.join(field.help for field in method.fields)}"
    yield from (other.name for other in everything if _names(told, other.name))
    yield from (other.name for other in everything if _names(other.text, method.name))
    if method.paper:
        same = (o for o in everything if o.paper and o.paper.url == method.paper.url)
        yield from (other.name for other in same)
    for question in asked:
        if method.name in question.methods:
            place = question.methods.index(method.name)  # the nearest in the list first
            yield from sorted(
                question.methods, key=lambda name: abs(question.methods.index(name) - place)
            )


def _names(text: str, name: str) -> bool:
    """Whether a text names a method; one whose name is a plain word only in backticks."""
    return f"`{name}`" in text or ("-" in name and bool(re.search(rf"\b{name}\b(?!-)", text)))
