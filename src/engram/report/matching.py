"""Which parts of a generated text repeat the true one."""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher

from markupsafe import Markup, escape

_WORDS = re.compile(r"\w+|\s+|[^\w\s]+")
_BY_CHANCE = 4
"""Fewer letters and digits in a row than this are repeated by any fluent text."""


def marked(generated: str, truth: str) -> Markup:
    """`generated` with what it repeats of `truth`, word for word and in order, in <mark>."""
    if generated.strip() and generated.strip() == truth.strip():
        return Markup("<mark>{}</mark>").format(generated)
    pieces = []
    for piece, repeated in runs(generated, truth):
        pieces.append(Markup("<mark>{}</mark>").format(piece) if repeated else escape(piece))
    return Markup("").join(pieces)


def runs(generated: str, truth: str) -> Iterator[tuple[str, bool]]:
    """Pieces of `generated` in order, each with whether it repeats `truth`."""
    ours, theirs = _WORDS.findall(generated), _WORDS.findall(truth)
    done = 0
    for start, _, size in SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks():
        start, stop = _trimmed(ours, start, start + size)
        same = "".join(ours[start:stop])
        if sum(letter.isalnum() for letter in same) < _BY_CHANCE:
            continue
        if start > done:
            yield "".join(ours[done:start]), False
        yield same, True
        done = stop
    if done < len(ours):
        yield "".join(ours[done:]), False


def _trimmed(pieces: list[str], start: int, stop: int) -> tuple[int, int]:
    """The range without spaces and signs at its ends."""
    while start < stop and not pieces[start][0].isalnum():
        start += 1
    while stop > start and not pieces[stop - 1][0].isalnum():
        stop -= 1
    return start, stop
