"""What a user may write where data is asked for: a base, and options after a question mark."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from engram.core.errors import EngramError, nearest


@dataclass(frozen=True)
class Limits:
    """How much of an untrusted file is read before it is refused.

    Attributes:
        record: Bytes of one record.
        total: Bytes that a compressed or columnar file may unfold to, and that a file which must
            be parsed in one piece may have.
    """

    record: int = 10 * 2**20
    total: int = 4 * 2**30


@dataclass(frozen=True)
class Source:
    """One thing that `read` understands, for listings.

    Attributes:
        name: What to write.
        summary: What it holds.
        kind: "demo", "sklearn", "set" (records) or "scores".
    """

    name: str
    summary: str
    kind: str


def parted(source: str) -> tuple[str, dict[str, str]]:
    """`penn-treebank?part=test&group=3` -> `("penn-treebank", {"part": "test", "group": "3"})`.

    Raises:
        EngramError: An option has no value, or stands twice.
    """
    base, _, query = source.partition("?")
    options: dict[str, str] = {}
    for piece in filter(None, query.split("&")):
        key, equals, value = piece.partition("=")
        if not equals or not key or not value or key in options:
            raise EngramError(
                f"{source!r}: the option {piece!r} is not one `name=value`, said once",
                hint="options look like NAME?n=400&seed=3",
            )
        options[key] = value
    return base, options


def check_options(base: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Raise where an option is not one of `known`."""
    known = list(known)
    for option in options:
        if option not in known:
            listed = f"its options are {', '.join(known)}" if known else "it has no options"
            raise EngramError(
                f"{base!r} has no option {option!r}", hint=nearest(option, known, listed)
            )


def whole(base: str, name: str, text: str, low: int, high: int) -> int:
    """An option's value as a whole number in [low, high]."""
    if not re.fullmatch(r"[0-9]{1,18}", text) or not low <= int(text) <= high:
        raise EngramError(
            f"{base!r}: the option {name} is {text!r}, but must be a whole number "
            f"from {low} to {high}",
            hint=f"{base}?{name}={low}",
        )
    return int(text)


def size(count: int) -> str:
    """A number of bytes for people: `50.0 MB`."""
    if count < 1000:
        return f"{count} bytes"
    if count < 10**6:
        return f"{count / 1000:.1f} kB"
    return f"{count / 10**6:.1f} MB" if count < 10**9 else f"{count / 10**9:.1f} GB"
