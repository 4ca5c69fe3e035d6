"""The style of the pages: that of the reports, with a switch between light and dark."""

import re
from functools import cache
from pathlib import Path

from engram.report.page import TEMPLATES as REPORTS

STATIC = Path(__file__).parent / "static"
COOKIE = "engram_theme"
CHOICES = ("system", "light", "dark")
_DARK = re.compile(r"@media \(prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}\s*\}", re.DOTALL)


@cache
def style() -> str:
    """The whole style sheet: the reports' own, told when to be dark, and what pages add to it."""
    own = (STATIC / "view.css").read_text("utf-8")
    return switched((REPORTS / "style.css").read_text("utf-8")) + own


def switched(css: str) -> str:
    """A report's style whose dark colours follow the choice before they follow the system.

    >>> switched("@media (prefers-color-scheme: dark) { :root { --ink: #fff; } }").count("--ink")
    2
    """
    found = _DARK.search(css)
    if found is None:
        raise ValueError("the style of the reports has no dark colours")
    dark = found.group(1).strip()
    rules = (
        '@media screen and (prefers-color-scheme: dark) { :root:not([data-theme="light"]) '
        f"{{ {dark} }} }}\n"
        f'@media screen {{ :root[data-theme="dark"] {{ color-scheme: dark; {dark} }}\n'
        ':root[data-theme="light"] { color-scheme: light; } }'
    )
    return css[: found.start()] + rules + css[found.end() :]
