"""Lines of an untrusted byte stream: bounded, counted, and certainly UTF-8."""

import codecs
from collections.abc import Iterator
from io import BufferedIOBase

from engram.core.errors import EngramError
from engram.data.sources import Limits, size

_LOOK_ALIKES = (
    (b"\x1f\x8b", "the file is gzip-compressed: end its name with .gz"),
    (b"PAR1", "the file is Parquet: end its name with .parquet"),
    (codecs.BOM_UTF16_LE, "the file is UTF-16: `iconv -f utf-16 -t utf-8` converts it"),
    (codecs.BOM_UTF16_BE, "the file is UTF-16: `iconv -f utf-16 -t utf-8` converts it"),
    (b"PK\x03\x04", "the file is a zip archive: unpack it first"),
)
_GIVE_UP = 16
"""A line this many times over the limit is not measured to its end."""


def lines(
    stream: BufferedIOBase, origin: str, limits: Limits, total: int | None = None
) -> Iterator[tuple[int, str]]:
    """Each line with its number from 1, its line end kept; a byte-order mark is dropped.

    At most `limits.record` bytes of a line are ever held, so a line of any length costs no memory.

    Args:
        stream: Where to read.
        origin: Its name in messages.
        limits: The longest line.
        total: The most bytes in all; None for no limit (a plain file is as long as it is).

    Raises:
        EngramError: A line is too long, is not UTF-8, or there is too much in all.
    """
    position = 0
    number = 0
    while raw := stream.readline(limits.record + 1):
        number += 1
        if len(raw) > limits.record:
            raise too_long(origin, f"line {number}", _length(stream, raw, limits), limits)
        text = _decoded(raw, position, number, origin)
        position += len(raw)
        if total is not None and position > total:
            raise EngramError(
                f"{origin} unfolds to more than {size(total)}",
                hint="split it, or unpack it yourself if you trust it",
            )
        yield number, text.removeprefix("\ufeff") if number == 1 else text


def too_long(origin: str, place: str, found: str, limits: Limits) -> EngramError:
    """The error for a record over the limit."""
    return EngramError(
        f"{origin}: {place} is {found}, more than the {size(limits.record)} that one record may be",
        hint="cut it into records (documents, letters, sentences), or raise max_record_bytes",
    )


def _length(stream: BufferedIOBase, raw: bytes, limits: Limits) -> str:
    """How long the line is, without keeping it."""
    seen = len(raw)
    ended = raw.endswith(b"\n")
    while not ended and seen < _GIVE_UP * limits.record:
        more = stream.readline(2**20)
        seen += len(more)
        ended = not more or more.endswith(b"\n")
    return f"{size(seen)} long" if ended else f"over {size(seen)} long"


def _decoded(raw: bytes, position: int, number: int, origin: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        start = problem.start
        hint = "save it as UTF-8; `iconv -f latin1 -t utf-8` converts most old files"
        if number == 1:
            hint = next((says for magic, says in _LOOK_ALIKES if raw.startswith(magic)), hint)
        raise EngramError(
            f"{origin} is not UTF-8: byte 0x{raw[start]:02x} at offset {position + start} "
            f"(line {number})",
            hint=hint,
        ) from None
