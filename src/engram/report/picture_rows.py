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

_XML = ' xmlns="http://www.w3.org/2000/svg"'


def picture_rows(title: str, rows: Sequence[tuple[str, Sequence[Picture]]]) -> Markup:
    """Pictures row by row, each row with its name.

    Args:
        title: What is shown.
        rows: A name, and pictures of numbers from 0 to 1 with 1 or 3 channels.
    """
    most = max((len(pictures) for _, pictures in rows), default=0)
    parts: list[Markup] = []
    for place, (name, pictures) in enumerate(rows):
        y = place * (SIDE + GAP)
        parts.append(text(0, y + SIDE / 2 + 4, name))
        parts += [
            element("image", href=png(picture), x=MARGIN + k * (SIDE + GAP), y=y, width=SIDE,
                    height=SIDE, style="image-rendering: pixelated")
            for k, picture in enumerate(pictures)
        ]  # fmt: skip
    desc = "; ".join(f"{name}: {len(pictures)} pictures" for name, pictures in rows)
    width, height = MARGIN + most * (SIDE + GAP), len(rows) * (SIDE + GAP)
    return chart(width, height, title, desc, *parts)


def standalone(drawing: str) -> str:
    """A drawing as a file of its own, which every browser shows."""
    plain = str.__str__(drawing)  # marked-up text would escape what is put in
    named = plain if "xmlns=" in plain else plain.replace("<svg", f"<svg{_XML}", 1)
    head, mark, rest = named.partition(">")
    return f"{head}{mark}<style>{figure_style()}</style>{rest}\n"


def amplified(before: Picture, after: Picture) -> Picture:
    """The change around a middle grey, so large that its largest number just fits."""
    change = after - before
    most = float(np.abs(change).max())
    return 0.5 + (change / (2 * most) if most else change)


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
