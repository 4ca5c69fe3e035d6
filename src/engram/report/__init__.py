"""Stored results as one self-contained page, as numbers for programs, and as a model-card text.

The page loads nothing and runs no script. What it is drawn from is untrusted: every text is
escaped, every length is limited, and a document that is not what it must be is an error that
says where.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engram.store import disk_errors, load_record, write_json

__all__ = [
    "HTML", "JSON", "MARKDOWN", "memorisation_page", "render_html", "render_markdown",
    "report_json", "write",
]  # fmt: skip

HTML, JSON, MARKDOWN = "report.html", "report.json", "report.md"


def write(folder: Path, out: Path | None = None) -> Path:
    """Write `report.html`, `report.json` and `report.md` of a finished run; the page's path.

    Args:
        folder: a run folder; its `run.json` is an audit, a story, a comparison or a
            measurement.
        out: where to write; None: into the run folder.

    Raises:
        EngramError: the run is not finished, its record is damaged, or the disk is full. The
            three texts are made before the first is written, so nothing is half-written.
    """
    from engram.report import markdown, numbers, page
    from engram.report.document import parse

    document = parse(load_record(Path(folder)))
    html, text = page.render(document), markdown.render(document)
    data = numbers.of_document(document)
    place = Path(out or folder)
    with disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    write_json(place / JSON, data)
    _write_text(place / MARKDOWN, text)
    return _write_text(place / HTML, html)


def render_html(document: Mapping[str, Any]) -> str:
    """The page of a document; `document.py` says what it must hold.

    Raises:
        EngramError: a key is missing or holds something else; the message says where.
    """
    from engram.report import page
    from engram.report.document import parse

    return page.render(parse(document))


def render_markdown(document: Mapping[str, Any]) -> str:
    """The summary for a model card; it holds no record's text and no owner's name.

    Raises:
        EngramError: a key is missing or holds something else; the message says where.
    """
    from engram.report import markdown
    from engram.report.document import parse

    return markdown.render(parse(document))


def report_json(document: Mapping[str, Any]) -> dict[str, Any]:
    """What `report.json` holds: every number of the report, for programs.

    Raises:
        EngramError: a key is missing or holds something else; the message says where.
    """
    from engram.report import numbers
    from engram.report.document import parse

    return numbers.of_document(parse(document))


def memorisation_page(trace: Sequence[Mapping[str, float | int]], kept: int | None) -> str:
    """A page of what a monitor saw of a training; `kept`: the observation whose weights are kept.

    Args:
        trace: The observations, oldest first; each number with its ends and its n.
        kept: A place in the trace; None: the last.
    """
    from engram.report import observed
    from engram.report.page import TEMPLATES

    style = (TEMPLATES / "style.css").read_text("utf-8")
    return observed.page(observed.of_trace(trace, kept), style)


def _write_text(path: Path, text: str) -> Path:
    """Write a text in one step: it is there whole, or not at all."""
    part = path.with_name(path.name + ".part")
    with disk_errors(path.parent):
        try:
            part.write_text(text, encoding="utf-8", newline="\n")
            return part.replace(path)
        finally:
            part.unlink(missing_ok=True)
