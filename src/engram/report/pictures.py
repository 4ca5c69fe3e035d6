"""Records that are pictures, drawn in the page itself: nothing is loaded, and no script runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from markupsafe import Markup

from engram.report.svg import element

if TYPE_CHECKING:
    from engram.report.document import Node

LARGEST = 128
"""Pixels along a side; larger pictures are not drawn."""
STEP = 17
"""Shades of a colour are this far apart: sixteen of them."""


@dataclass(frozen=True)
class Picture:
    """Pixels row by row, each `rrggbb` in hexadecimal digits."""

    height: int
    width: int
    pixels: str

    @classmethod
    def of(cls, node: "Node") -> "Picture":
        """Read one from a document.

        Raises:
            EngramError: It is too large, or has other pixels than its sides say.
        """
        height, width = node["height"].count(), node["width"].count()
        pixels = node["pixels"].text()
        if not (1 <= height <= LARGEST and 1 <= width <= LARGEST):
            raise node["height"].wrong(f"a side of 1 to {LARGEST} pixels")
        digits = set(pixels) <= set("0123456789abcdef")
        if not digits or len(pixels) != 6 * height * width:
            raise node["pixels"].wrong(f"six hexadecimal digits for each of {height} x {width}")
        return cls(height, width, pixels)


def drawn(picture: Picture, label: str, width: int = 112) -> Markup:
    """The picture as squares of sixteen shades a colour; neighbours of one shade are one piece."""
    pieces: dict[str, list[str]] = {}
    for colour, x, y, length in _runs(picture):
        pieces.setdefault(colour, []).append(f"M{x} {y}h{length}v1h-{length}z")
    height = round(width * picture.height / picture.width)
    return element(
        "svg",
        element("title", label),
        *(element("path", d="".join(d), fill=f"#{c}") for c, d in sorted(pieces.items())),
        class_="picture",
        viewBox=f"0 0 {picture.width} {picture.height}",
        shape_rendering="crispEdges",
        role="img",
        aria_label=label,
        width=width,
        height=height,
    )


def _runs(picture: Picture) -> Iterator[tuple[str, int, int, int]]:
    """Colour, place and length of each run of one shade along a row."""
    for y in range(picture.height):
        row = picture.pixels[6 * y * picture.width : 6 * (y + 1) * picture.width]
        x = 0
        for colour, run in groupby(_shade(row[i : i + 6]) for i in range(0, len(row), 6)):
            length = len(list(run))
            yield colour, x, y, length
            x += length


def _shade(pixel: str) -> str:
    values = (round(int(pixel[i : i + 2], 16) / STEP) * STEP for i in (0, 2, 4))
    return "".join(f"{value:02x}" for value in values)
