"""The little of SVG that charts need: escaped elements, scales and round ticks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Number = float | int


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """One element. Plain text among the children is escaped, as attributes are.

    `class_` is written as `class`, `text_anchor` as `text-anchor`; None leaves an attribute out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(escape(child) for child in children)
    return Markup(f"<{tag}{written}>{inner}</{tag}>" if inner else f"<{tag}{written}/>")


def _short(value: object) -> str:
    """Coordinates to a tenth: a page with thousands of them stays small."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def chart(width: Number, height: Number, title: str, desc: str, *children: str) -> Markup:
    """An image with a name and a description for screen readers."""
    return element(
        "svg",
        element("title", title),
        element("desc", desc),
        *children,
        class_="chart",
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=f"{title}. {desc}",
        # As wide as it is drawn, no wider: letters keep their size.
        width=width,
        height=height,
    )


def text(x: Number, y: Number, content: str, **attributes: object) -> Markup:
    """A label with its baseline at (x, y)."""
    return element("text", content, x=x, y=y, **attributes)


def line(x1: Number, y1: Number, x2: Number, y2: Number, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[Number, Number]], class_: str, close: bool = False) -> Markup:
    """A line through points; closed, it is an area."""
    steps = " ".join(f"{_short(float(x))} {_short(float(y))}" for x, y in points)
    return element("path", d=f"M{steps}{'Z' if close else ''}", class_=class_)


@dataclass(frozen=True)
class Linear:
    """Maps [low, high] to [start, end]; values outside go to the nearer end."""

    low: Number
    high: Number
    start: Number
    end: Number

    def __call__(self, value: Number) -> Number:
        """Pixels of a value."""
        span = (self.high - self.low) or 1.0
        share = min(max((value - self.low) / span, 0.0), 1.0)
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True)
class Logarithmic:
    """Maps [low, high], both above 0, to [start, end] by their logarithms."""

    low: Number
    high: Number
    start: Number
    end: Number

    def __call__(self, value: Number) -> Number:
        """Pixels of a value."""
        inside = min(max(value, self.low), self.high)
        share = math.log(inside / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)


def ticks(low: Number, high: Number, about: int = 5) -> tuple[Number, ...]:
    """Round numbers within [low, high]: multiples of 1, 2 or 5 times a power of ten.

    >>> ticks(0.43, 1.0, 4)
    (0.6, 0.8, 1.0)
    """
    span = high - low
    if not (math.isfinite(span) and span > 0) or span < 1e-9 * max(abs(low), abs(high)):
        return (low,)
    rough = span / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(float(f"{k * step:.12g}") for k in range(first, last + 1))
