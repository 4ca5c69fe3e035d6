"""Rows of pictures as one drawing: originals, what was changed, and what came of it."""

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from markupsafe import Markup

from engram.report.palette import figure_style
from engram.report.svg import chart, element, text

Picture = Float[np.ndarray, "h w c"]
SIDE, GAP, MARGIN = 64, 6, 104
"""Of a picture on the page, between two, and left of a row for its name; in pixels."""
HEAD = 20
"""Above the first row, where columns have names."""

_XML = ' xmlns="http://www.w3.org/2000/svg"'


def picture_rows(
    title: str, rows: Sequence[tuple[str, Sequence[Picture]]], heads: Sequence[str] = ()
) -> Markup:
    """Pictures row by row, each row with its name.

    Args:
        title: What is shown.
        rows: A name, and pictures of numbers from 0 to 1 with 1 or 3 channels.
        heads: What stands above each column, if anything.
    """
    most = max((len(pictures) for _, pictures in rows), default=0)
    top = HEAD if heads else 0
    parts = [
        text(MARGIN + k * (SIDE + GAP) + SIDE / 2, HEAD - 6, head, text_anchor="middle")
        for k, head in enumerate(heads)
    ]
    for place, (name, pictures) in enumerate(rows):
        y = top + place * (SIDE + GAP)
        parts.append(text(0, y + SIDE / 2 + 4, name))
        parts += [
            element("image", href=png(picture), x=MARGIN + k * (SIDE + GAP), y=y, width=SIDE,
                    height=SIDE, style="image-rendering: pixelated")
            for k, picture in enumerate(pictures)
        ]  # fmt: skip
    desc = "; ".join(f"{name}: {len(pictures)} pictures" for name, pictures in rows)
    width, height = MARGIN + most * (SIDE + GAP), top + len(rows) * (SIDE + GAP)
    return chart(width, height, title, desc, *parts)


def standalone(drawing: str) -> str:
    """A drawing as a file of its own, which every browser shows."""
    plain = str.__str__(drawing)  # marked-up text would escape what is put in
    named = plain if "xmlns=" in plain else plain.replace("<svg", f"<svg{_XML}", 1)
    head, mark, rest = named.partition(">")
    return f"{head}{mark}<style>{figure_style()}</style>{rest}\n"


def amplified(before: Picture, after: Picture, factor: float | None = None) -> Picture:
    """The change around a middle grey, so large that its largest number just fits.

    Args:
        before: A picture.
        after: What became of it.
        factor: How much larger the change is drawn; None: as large as fits this picture.
    """
    return 0.5 + (after - before) * (factor or largest_factor([(before, after)]))


def largest_factor(pairs: Sequence[tuple[Picture, Picture]]) -> float:
    """The largest factor at which every change still fits; 1 where there is none."""
    most = max((float(np.abs(after - before).max()) for before, after in pairs), default=0.0)
    return 0.5 / most if most else 1.0


def png(picture: Picture) -> str:
    """The picture as an address that holds its data (PNG)."""
    pixels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return "data:image/png;base64," + base64.b64encode(_encoded(pixels)).decode()


def _encoded(pixels: UInt8[np.ndarray, "h w c"]) -> bytes:
    height, width, channels = pixels.shape
    kind = {1: 0, 3: 2}[channels]  # grey values, or red, green and blue
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
