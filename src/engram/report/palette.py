"""The colours of every report, chart and figure: read from the style sheet, the one place for them.

Each has a role, not a hue: `s0` is whatever is drawn first and always the members, `s1` always the
outsiders; `leak`, `fine` and `doubt` are verdicts; `ink` and `soft` are text on `paper` or `card`.
A theme is light, dark or print.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

SHEET = Path(__file__).parent / "templates" / "style.css"
THEMES = ("light", "dark", "print")
MEMBERS, OUTSIDERS = "s0", "s1"
"""The roles of the two sides, in every chart."""

_ROOT = re.compile(r":root\s*\{([^}]*)\}")
_SET = re.compile(r"--([\w-]+):\s*(#[0-9a-fA-F]{3,8})\s*;")


@cache
def palette(theme: str) -> Mapping[str, str]:
    """Role -> colour, six hexadecimal digits after a `#` (eight where it is see-through).

    Raises:
        KeyError: There is no such theme.
    """
    blocks = _ROOT.findall(SHEET.read_text("utf-8"))
    own = [dict(_SET.findall(block)) for block in blocks]
    chosen = {"light": own[0], "dark": own[0] | own[1], "print": own[0] | own[2]}[theme]
    return {role: _long(colour) for role, colour in chosen.items()}


def figure_style() -> str:
    """The style of a figure that is a file of its own: readable on light and on dark."""
    light, dark = palette("light")["soft"], palette("dark")["soft"]
    return (
        f"text {{ font: 12px sans-serif; fill: {light} }} "
        f"@media (prefers-color-scheme: dark) {{ text {{ fill: {dark} }} }}"
    )


def luminance(colour: str) -> float:
    """Relative luminance in [0, 1], as WCAG 2 defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast of two colours, from 1 to 21.

    >>> contrast("#000000", "#ffffff")
    21.0
    """
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _long(colour: str) -> str:
    short = len(colour) == 4
    return "#" + "".join(2 * c for c in colour[1:]) if short else colour.lower()
