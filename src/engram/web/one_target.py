"""The page of one target: where it came from, what it promises, and what was found of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from starlette.exceptions import HTTPException

from engram.core.errors import EngramError
from engram.core.ledger import Ledger
from engram.report import charts
from engram.store import TARGET, questions, read_json
from engram.store.questions import Item
from engram.store.running import drawable
from engram.web.kinship import family
from engram.web.templates import plain, whole

TRACE = "trace.jsonl"
LARGEST = 32 * 2**20
"""Bytes of a trace that is drawn."""
POINTS = 300
DRAWN = (("loss", "Training loss"), ("lr", "Learning rate"), ("epsilon", "Epsilon"))
RECORDS = 50
"""Records of a ledger on one page."""
ROLES = ("trained", "held-out", "validation", "forgotten")


def target(root: Path, request: Any) -> tuple[str, dict[str, Any]]:
    """One target."""
    folder = request.path_params["folder"]
    item = questions.item(root, folder)
    facts = questions.facts(root, folder)
    if item is None or facts is None:
        raise HTTPException(404, "The index knows no such target.")
    record, problem = _record(root / folder)
    lineage = _mapping(record.get("lineage"))
    audits = questions.about(root, item.fingerprint)
    asked = questions.deletions_of(root, item.fingerprint)
    others = [fingerprint for one in asked for fingerprint in (one.before, one.after)]
    return "target.html.j2", {
        "title": plain(item.target), "here": "/targets", "item": item, "facts": facts,
        "problem": problem, "settings": _mapping(lineage.get("config")),
        "about": _mapping(record.get("facts")), "lineage": lineage,
        "seconds": record.get("seconds"),
        "guarantee": _mapping(lineage.get("guarantee")), "audits": audits,
        "figure": _figure(audits), "tree": family(root, item.fingerprint),
        "place": root / folder, "traces": _traces(root / folder / TRACE),
        "deletions": asked, "known": questions.targets_of(root, others),
        "records": _records(root / folder, request.query_params),
        "findings": questions.findings(root, audits[0].folder) if audits else (),
    }  # fmt: skip


def _record(folder: Path) -> tuple[Mapping[str, Any], EngramError | None]:
    try:
        return read_json(folder / TARGET), None
    except EngramError as problem:
        return {}, problem


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _figure(audits: Sequence[Item]) -> Markup:
    """The headline numbers of a target's audits under one another."""
    found = [(one, f) for one in audits if one.kind == "audit" and (f := one.finding)]
    found = [(one, f) for one, f in found if f.value is not None and "auc" in f.name.lower()][:12]
    if len(found) < 2:  # the table says as much
        return Markup("")
    rows = [(plain(one.id, 28), f, 0 if one.level == "leak" else 1) for one, f in found]
    domain = charts.auc_domain([finding for _, finding, _ in rows])
    return charts.interval_rows("AUC of the headline attack", rows, domain, 0.5, unit="AUC")


def _traces(file: Path) -> list[Markup]:
    """The courses of training that can be drawn; a damaged line is left out."""
    try:
        if file.stat().st_size > LARGEST:
            return []
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    entries = [entry for line in lines if isinstance(entry := _entry(line), dict)]
    drawn = []
    for series, (key, title) in enumerate(DRAWN):
        points = _points(entries, key)
        if len(points) > 1:
            drawn.append(charts.trace(title, points, series, ""))
    return drawn


def _entry(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _points(entries: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    found = {}
    for place, entry in enumerate(entries):
        step, value = drawable(entry.get("step", place)), drawable(entry.get(key))
        if step is not None and value is not None:
            found[step] = value
    points = sorted(found.items())
    every = -(-len(points) // POINTS) or 1
    return points[::every]


def _records(folder: Path, asked: Mapping[str, str]) -> dict[str, Any] | None:
    """A page of the target's own ledger; None where it is not asked for or cannot be read."""
    role = asked.get("role", "")
    if role not in (*ROLES, "all"):
        return None
    try:
        ledger = Ledger.load(folder)
    except EngramError as problem:
        return {"problem": problem, "role": role}
    owners = ledger.owners or ("",) * len(ledger)
    rows = list(zip(ledger.ids, ledger.roles, ledger.canaries, owners, strict=True))
    kept = [row for row in rows if role in ("all", row[1])]
    pages = max(1, -(-len(kept) // RECORDS))
    page = max(1, min(whole(asked.get("page", ""), 1), pages))
    shown = kept[RECORDS * (page - 1) : RECORDS * page]
    return {"problem": None, "role": role, "rows": shown, "total": len(kept), "page": page,
            "pages": pages}  # fmt: skip
