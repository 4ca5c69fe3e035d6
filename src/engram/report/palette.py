"""The colours of every report, chart and figure: read from the style sheet, the one place for them.

Each has a role, not a hue: `s0` is always the members and `s1` always the outsiders; `s2` to `s7`
are of things (attacks, models), each by its name, so that it looks alike in every figure of every
report; `leak`, `fine` and `doubt` are verdicts; `ink` and `soft` are text on `paper` or `card`.
A theme is light, dark or print.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from zlib import crc32

SHEET = Path(__file__).parent / "templates" / "style.css"
THEMES = ("light", "dark", "print")
MEMBERS, OUTSIDERS = "s0", "s1"
"""The roles of the two sides, in every chart."""
FIRST, HUES, DASHES = 2, 6, 4
"""Styles of things: `s2` to `s25`, six hues with four kinds of line each. Their names stand beside
them, so where there are more things than styles two may look alike, but are still told apart."""
KNOWN = (
    "loss", "zlib", "lowercase", "min-k", "min-k-plus-plus", "reference",
    "samia", "label-only", "lira", "rmia", "quantile-regression", "posterior-attack",
    "surprising-tokens", "neighbourhood", "recall", "gradient-norm", "dc-pdd", "spv-mia",
    "ensemble", "likelihood-ratio", "node-membership", "ratio",
)  # fmt: skip
"""Things that often stand side by side, a hue each, in lines of six; a name that is not here gets
its style by its checksum."""

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


def style(name: str) -> int:
    """Which `s...` a thing of this name is drawn in, always and everywhere.

    >>> style("loss"), style("zlib"), style("my-own-attack") == style("my-own-attack")
    (2, 3, True)
    """
    if name in KNOWN:
        return FIRST + KNOWN.index(name)
    return FIRST + crc32(name.encode("utf-8", "replace")) % (HUES * DASHES)


def styles(names: Sequence[str]) -> tuple[int, ...]:
    """The style of each of some things that must not look alike, such as compared models.

    Each has its own style unless another of them has that hue while a hue is free; which one
    moves depends on their names, not on their order.

    >>> styles(["b", "a"]) == styles(["a", "b"])[::-1]
    True
    """
    found: dict[str, int] = {}
    for name in sorted(set(names), key=lambda one: (one not in KNOWN, one)):
        own = style(name) - FIRST
        hues, used = Counter(n % HUES for n in found.values()), set(found.values())
        turned = [(own % HUES + k) % HUES for k in range(HUES)]
        hue = min(turned, key=lambda one: hues[one])
        lines = [hue + HUES * ((own // HUES + k) % DASHES) for k in range(DASHES)]
        found[name] = next((n for n in lines if n not in used), lines[0])
    return tuple(FIRST + found[name] for name in names)


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
