"""A record's tokens, shaded by how surprised the model is by each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from engram.report import wording
from engram.report.document import Token

STEPS = (0.5, 1.0, 2.0, 4.0)
"""Nats of difference at which a shade begins: 1.6, 2.7, 7.4 and 55 times likelier."""
SURE = (-2.0, -1.0, -0.3, -0.05)
"""Log-probabilities at which a shade begins where there is no reference."""


@dataclass(frozen=True)
class ShadedRecord:
    """What a page shows of one record's tokens."""

    markup: Markup
    before: int
    """Tokens left out ahead of those shown."""
    after: int
    told: tuple[tuple[str, str], ...]
    """The words that give most away, and by how much."""
    compared: bool


def shade(tokens: Sequence[Token], limit: int) -> ShadedRecord:
    """Shade at most `limit` tokens: the stretch that gives most away."""
    start = _stretch(tokens, limit)
    shown = tokens[start : start + limit]
    markup = Markup("").join(_span(token) for token in shown)
    compared = any(token.reference is not None for token in tokens)
    after = max(len(tokens) - start - len(shown), 0)
    return ShadedRecord(markup, start, after, _telling(shown), compared)


def given_away(token: Token) -> float:
    """Nats by which the model expects a token more than its reference does.

    Without a reference it is the log-probability; 0 for a token that was not scored.
    """
    if token.logprob is None:
        return 0.0
    return token.logprob - token.reference if token.reference is not None else token.logprob


def level(token: Token) -> int:
    """The shade: 1 to 4 for more expected than by the reference, -1 to -4 for less, 0 neither."""
    if token.logprob is None:
        return 0
    if token.reference is None:
        return sum(token.logprob >= step for step in SURE)
    difference = token.logprob - token.reference
    size = sum(abs(difference) >= step for step in STEPS)
    return size if difference >= 0 else -size


def _stretch(tokens: Sequence[Token], limit: int) -> int:
    """Where the `limit` neighbouring tokens with the largest sum start."""
    if len(tokens) <= limit:
        return 0
    total = np.concatenate([[0.0], np.cumsum([given_away(token) for token in tokens])])
    return int(np.argmax(total[limit:] - total[:-limit]))


def _span(token: Token) -> Markup:
    shown = escape(wording.clip(token.text, 60).replace("\n", "↵\n"))
    if token.logprob is None:
        return Markup("<span>{}</span>").format(shown)
    shade_ = level(token)
    style = f"k{shade_}" if shade_ > 0 else f"u{-shade_}" if shade_ < 0 else "k0"
    return Markup('<span class={} title="{}">{}</span>').format(style, _said(token), shown)


def _said(token: Token) -> str:
    if token.logprob is None:
        return "not scored"
    said = f"log p {token.logprob:.2f}"
    if token.reference is not None:
        said += f", reference {token.reference:.2f}: "
        said += wording.likelier(token.logprob - token.reference)
    return said.replace("-", wording.MINUS)


def _telling(tokens: Sequence[Token]) -> tuple[tuple[str, str], ...]:
    """The words that give most away. A word's tokens are added up: alone they mean little."""
    best: dict[str, float] = {}
    for word, difference in _words(tokens):
        best[word] = max(difference, best.get(word, 0.0))
    ranked = sorted(best.items(), key=lambda item: -item[1])[:6]
    return tuple(
        (wording.clip(word, 40), wording.likelier(difference))
        for word, difference in ranked
        if word and difference >= STEPS[0]
    )


def _words(tokens: Sequence[Token]) -> Iterator[tuple[str, float]]:
    """Words between spaces, each with its log-probability beside the reference's, in nats."""
    word, difference = "", 0.0
    for token in tokens:
        if word and (token.text[:1].isspace() or word[-1].isspace()):
            yield word.strip(), difference
            word, difference = "", 0.0
        word += token.text
        if token.logprob is not None and token.reference is not None:
            difference += token.logprob - token.reference
    yield word.strip(), difference
