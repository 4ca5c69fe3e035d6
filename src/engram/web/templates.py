"""The templates of the pages, with those parts of the reports' that they share."""

from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from engram import __version__
from engram.core.characters import TURNING
from engram.report import charts
from engram.report import page as reports
from engram.report.document import clean
from engram.report.limits import Limits
from engram.report.wording import clip, moment
from engram.web.theme import CHOICES, COOKIE

HOME = Path(__file__).parent / "jinja"
NAME, SENTENCE = 80, 400
"""Characters of a name and of a sentence that are shown."""
TURNED = str.maketrans(dict.fromkeys(TURNING, "\ufffd"))
"""What is shown for characters that turn the text around them."""
NAVIGATION = (
    ("/", "Overview"), ("/runs", "Runs"), ("/targets", "Targets"), ("/lineage", "Lineage"),
    ("/record", "Records"), ("/deletions", "Deletions"), ("/running", "Running"),
)  # fmt: skip


def plain(text: object, limit: int = NAME) -> str:
    """A text from a store: short, on one line, and without characters that turn or hide others.

    >>> plain("a" + chr(0x202E) + "b" * 9, 6)
    'a�bbb…'
    """
    cut = clip(str(text), limit * 2)
    return clip(" ".join(clean(cut).translate(TURNED).split()), limit)


def isolated(text: object, limit: int = NAME) -> Markup:
    """The same for the page itself, where its direction is kept from what stands around it."""
    return Markup(f"<bdi>{escape(plain(text, limit))}</bdi>")


def when(time: object) -> str:
    """A moment of a record or of the deletion ledger, to the minute.

    >>> when("2026-11-30T03:53:40+00:00"), when("2026-01-31T12:00:00Z")
    ('2026-11-30 03:53 UTC', '2026-01-31 12:00 UTC')
    """
    return plain(moment(str(time).removesuffix("+00:00").removesuffix("Z")[:19] + "Z"), 24)


def path(folder: str) -> str:
    """A folder as part of an address."""
    return quote(folder, safe="/")


def query(base: str, **values: object) -> str:
    """An address with a query; what is empty is left out."""
    kept = {key: value for key, value in values.items() if value not in ("", None, False, ())}
    return f"{base}?{urlencode(kept, doseq=True)}" if kept else base


def whole(text: str, otherwise: int) -> int:
    """A number that an address gives, from 0 on.

    >>> whole("12", 1), whole("-3", 1), whole("1e9", 1)
    (12, 1, 1)
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else otherwise


@cache
def environment() -> Environment:
    """The reports' templates and filters, and the pages' own."""
    made = reports.environment().overlay(
        loader=FileSystemLoader([HOME, reports.TEMPLATES]),
    )
    made.filters = {**made.filters, "plain": plain, "bdi": isolated, "path": path, "when": when}
    made.globals = {
        **made.globals, "query": query, "navigation": NAVIGATION, "version": __version__,
        "limits": Limits(), "interval_chart": charts.auc_interval, "interval_axis": charts.auc_axis,
    }  # fmt: skip
    return made


def render(template: str, request: Any, **values: Any) -> str:
    """A page; `here` says which part of the navigation it belongs to."""
    chosen = request.cookies.get(COOKIE, "system")
    chosen = chosen if chosen in CHOICES else "system"
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return (
        environment()
        .get_template(template)
        .render(theme=chosen, themes=CHOICES, back=back, **values)
    )
