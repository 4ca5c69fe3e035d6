"""What a completions server answered, checked line by line: none of it is taken on trust."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram.core import EngramError

SLACK = 1e-3
"""Rounding may lift a log-probability this far above 0."""
UNKNOWN = "\ufffd"
"""Stands for part of a character that tokens share."""


@dataclass(frozen=True)
class Echo:
    """A text's own tokens, as the server cuts it.

    Attributes:
        tokens: The text of every token that is scored.
        logprobs: Natural log-probability of each, given all before it.
    """

    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]

    @classmethod
    def of(cls, answer: Mapping[str, Any], text: str, written: int, about: str) -> "Echo":
        """Read the echo of `text`, with at most `written` tokens after it.

        Raises:
            EngramError: Anything is not as it must be.
        """
        given = _logprobs(answer, about)
        tokens = _strings(given.get("tokens"), "tokens", about)
        numbers = given.get("token_logprobs")
        if not isinstance(numbers, list) or len(numbers) != len(tokens):
            found = len(numbers) if isinstance(numbers, list) else "no"
            raise _nonsense(about, f"{len(tokens)} tokens, but {found} log-probabilities")
        start, end = _span(tokens, numbers, text, written, about)
        _check_count(answer, end, about)
        # The first token of all has nothing before it, so that most servers say null there.
        first = max(start, 1) if numbers and numbers[0] is None else start
        counted = enumerate(numbers[first:end], 1 + first - start)
        values = [logprob(x, f"token {i}", about) for i, x in counted]
        return cls(tuple(tokens[first:end]), tuple(values))

    @classmethod
    def kept(cls, found: Any, about: str) -> "Echo":
        """Read it from the store."""
        tokens = _strings(_object(found, about).get("tokens"), "tokens", about)
        numbers = found.get("logprobs")
        if not isinstance(numbers, list) or len(numbers) != len(tokens):
            raise _nonsense(about, "no log-probability for each token")
        return cls(tuple(tokens), tuple(logprob(x, "a token", about) for x in numbers))


@dataclass(frozen=True)
class Next:
    """The likeliest next tokens after a text, with their log-probabilities."""

    tops: Mapping[str, float]

    @classmethod
    def of(cls, answer: Mapping[str, Any], about: str) -> "Next":
        """Read the first generated token's alternatives.

        Raises:
            EngramError: There are none, or one is no log-probability.
        """
        given = _logprobs(answer, about)
        tops = given.get("top_logprobs")
        if isinstance(given.get("content"), list):  # as chat servers write them
            tops = [_named(each, about) for each in given["content"]]
        if not isinstance(tops, list) or not tops or not isinstance(tops[0], dict) or not tops[0]:
            raise _nonsense(about, "no log-probabilities of the next token")
        found = {str(t): logprob(x, f"token {t!r}"[:60], about) for t, x in tops[0].items()}
        if (total := math.fsum(math.exp(x) for x in found.values())) > 1.01:
            raise _nonsense(about, f"next tokens whose probabilities add up to {total:.3g}")
        return cls(found)

    @classmethod
    def kept(cls, found: Any, about: str) -> "Next":
        """Read it from the store."""
        tops = _object(_object(found, about).get("tops"), about)
        if not tops:
            raise _nonsense(about, "no log-probabilities of the next token")
        return cls({t: logprob(x, "a token", about) for t, x in tops.items()})

    def bound(self, rest: str) -> tuple[float, bool]:
        """Log-probability of the token that `rest` begins with, and whether that is a bound.

        Of the tokens that `rest` begins with, the longest is taken for the true one. Where there
        is none among the likeliest, the true token is at most as likely as the last of them, nor
        likelier than what they all leave over.
        """
        fitting = [token for token in self.tops if token and rest.startswith(token)]
        if fitting:
            return self.tops[max(fitting, key=len)], False
        over = 1.0 - math.fsum(math.exp(x) for x in self.tops.values())
        return min(min(self.tops.values()), math.log(over) if over > 1e-9 else -20.0), True


@dataclass(frozen=True)
class Written:
    """A continuation."""

    text: str

    @classmethod
    def of(cls, answer: Mapping[str, Any], limit: int, about: str) -> "Written":
        """Read a continuation of at most `limit` tokens.

        Raises:
            EngramError: There is none, or it is much too long.
        """
        text = choice(answer, about).get("text")
        if not isinstance(text, str):
            raise _nonsense(about, "no text")
        if len(text) > 1000 + 200 * limit:
            raise _nonsense(about, f"{len(text):,} characters where {limit} tokens were asked for")
        return cls(text)

    @classmethod
    def kept(cls, found: Any, about: str) -> "Written":
        """Read it from the store."""
        text = _object(found, about).get("text")
        if not isinstance(text, str):
            raise _nonsense(about, "no text")
        return cls(text)


def choice(answer: Mapping[str, Any], about: str) -> Mapping[str, Any]:
    """The one choice of an answer."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _nonsense(about, "no `choices`")
    return choices[0]


def has_logprobs(answer: Mapping[str, Any], about: str) -> bool:
    """Whether the answer speaks of log-probabilities at all."""
    return bool(choice(answer, about).get("logprobs"))


def identity(answer: Mapping[str, Any]) -> dict[str, str]:
    """Which model says that it answered; fields that the server leaves out are missing here."""
    found = {name: answer.get(name) for name in ("model", "system_fingerprint")}
    return {k: v[:200] for k, v in found.items() if isinstance(v, str) and v}


def prompt_tokens(answer: Mapping[str, Any]) -> int | None:
    """How many tokens the server says that it read."""
    usage = answer.get("usage")
    found = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def logprob(value: Any, what: str, about: str) -> float:
    """A finite number of at most 0.

    Raises:
        EngramError: It is something else.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value > SLACK:
        shown = "null" if value is None else repr(value)[:40]
        raise _nonsense(about, f"a log-probability of {shown} for {what}")
    return min(float(value), 0.0)


def agree(tokens: Sequence[str], text: str) -> bool:
    r"""Whether tokens join to a text.

    A token that holds part of a character is written as `bytes:\xe2`, or with a replacement
    character; where those stand, only the plain characters around them can be compared.
    """
    joined = "".join(tokens)
    if joined == text:
        return True
    if any(token.startswith("bytes:") for token in tokens):
        joined = b"".join(map(_raw, tokens)).decode("utf-8", "replace")
    if joined == text or UNKNOWN not in joined:
        return joined == text
    return _plain(joined) == _plain(text)


def _plain(text: str) -> str:
    return re.sub(r"[^\x00-\x7f]+", UNKNOWN, text)


def _raw(token: str) -> bytes:
    if not re.fullmatch(r"bytes:(\\x[0-9a-fA-F]{2})+", token):
        return token.encode("utf-8", "surrogatepass")
    return bytes.fromhex(token.removeprefix("bytes:").replace("\\x", ""))


def _span(
    tokens: Sequence[str], numbers: Sequence[Any], text: str, written: int, about: str
) -> tuple[int, int]:
    """Which of the tokens are the text's own.

    Before them may stand one without a number, which opens every text; after them, what the
    server wrote although it was asked for less.
    """
    opening = 1 if numbers and numbers[0] is None else 0
    for after in range(min(written, len(tokens)) + 1):
        for start in range(opening + 1):
            if agree(tokens[start : len(tokens) - after], text):
                return start, len(tokens) - after
    joined = "".join(tokens)
    raise _nonsense(
        about, f"tokens that join to {_short(joined)}, while the text is {_short(text)}"
    )


def _check_count(answer: Mapping[str, Any], end: int, about: str) -> None:
    """The number of tokens that the server charges for; it may hide one that opens the text."""
    counted = prompt_tokens(answer)
    if counted is not None and counted not in (end, end + 1):
        raise _nonsense(about, f"{end} tokens, but says that the text has {counted}")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:40]} ... {text[-15:]}")


def _logprobs(answer: Mapping[str, Any], about: str) -> Mapping[str, Any]:
    found = choice(answer, about).get("logprobs")
    if not isinstance(found, dict):
        raise _nonsense(about, "no log-probabilities, though it gave some before")
    return found


def _object(found: Any, about: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise _nonsense(about, "no JSON object")
    return found


def _strings(values: Any, what: str, about: str) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise _nonsense(about, f"no list of {what}")
    return values


def _named(each: Any, about: str) -> dict[str, Any]:
    """A list of tokens with their numbers, as one mapping."""
    tops = each.get("top_logprobs") if isinstance(each, dict) else None
    if not isinstance(tops, list) or not all(isinstance(t, dict) for t in tops):
        raise _nonsense(about, "no log-probabilities of the next token")
    return {str(t.get("token")): t.get("logprob") for t in tops}


def _nonsense(about: str, what: str) -> EngramError:
    return EngramError(
        f"the server's answer about {about} cannot be used: it gives {what}",
        hint="is it an OpenAI-compatible completions server? Nothing of this answer is kept",
    )


def token_numbers(tokens: Sequence[str]) -> np.ndarray:
    """A number for each token, made from its text: the server tells no vocabulary."""
    from zlib import crc32

    return np.array([crc32(t.encode("utf-8", "surrogatepass")) for t in tokens], np.int64)
