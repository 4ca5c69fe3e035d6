"""The page of one run: its verdict, its findings and figures, and the way to its report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from engram.core.errors import EngramError
from engram.report import page as reports
from engram.report.comparison import ComparisonDocument
from engram.report.comparison_page import view_of_comparison
from engram.report.document import AuditDocument, Document
from engram.report.limits import Limits
from engram.report.measured import MeasurementDocument
from engram.store import questions
from engram.web.files import present
from engram.web.records import read
from engram.web.templates import plain

LIMITS = Limits(attacks=24, charts=8, records=10, rows=40)


def run(root: Path, request: Any) -> tuple[str, dict[str, Any]]:
    """One run."""
    folder = request.path_params["folder"]
    item = questions.item(root, folder)
    if item is None or item.kind == "target":
        raise HTTPException(404, "The index knows no such run.")
    values: dict[str, Any] = {
        "title": plain(item.target or item.id), "here": "/runs", "item": item,
        "files": present(root, folder), "problem": None, "doc": None, "view": None,
        "compared": None, "charts": (), "limits": LIMITS,
        "subjects": _subjects(root, folder), "findings": questions.findings(root, folder),
    }  # fmt: skip
    try:
        return "run.html.j2", values | _drawn(read(root / folder))
    except EngramError as problem:
        return "run.html.j2", {**values, "problem": problem}


def _subjects(root: Path, folder: str) -> list[Any]:
    prints = questions.subjects(root, folder)
    known = questions.targets_of(root, prints)
    return [(print_, known.get(print_)) for print_ in prints]


def _drawn(doc: Document) -> Mapping[str, Any]:
    if isinstance(doc, AuditDocument):
        return {"doc": doc, "view": reports.view_of(doc, "a", LIMITS)}
    if isinstance(doc, ComparisonDocument):
        return {"doc": doc, "compared": view_of_comparison(doc, LIMITS)}
    if isinstance(doc, MeasurementDocument):
        return {}  # the index knows its findings, and its report draws them
    return {"doc": doc, "charts": reports.comparison_charts(doc, LIMITS)}
