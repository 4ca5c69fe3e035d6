"""What each page shows: a function from a store and a request to a template and its values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engram.report import charts
from engram.store import deletions as ledger
from engram.store import questions, running
from engram.store.questions import Item, Listed, Wanted
from engram.web.compare import compare
from engram.web.history import record
from engram.web.jobs import jobs
from engram.web.kinship import lineage
from engram.web.one_run import run
from engram.web.one_target import target
from engram.web.templates import plain, query, whole

__all__ = [
    "Shown", "compare", "deletions", "home", "lineage", "record", "run", "running_now", "runs",
    "target", "targets",
]  # fmt: skip

Shown = tuple[str, dict[str, Any]]
RUN_COLUMNS = (
    ("target", "What", False), ("kind", "Kind", False), ("level", "Verdict", False),
    ("value", "Number it rests on", True), ("created", "Made", True),
)  # fmt: skip
TARGET_COLUMNS = (
    ("target", "Target", False), ("method", "Made by", False), ("family", "Family", False),
    ("trained", "Trained on", True), ("", "Newest audit", False), ("created", "Made", True),
)  # fmt: skip
SIZES = (25, 50, 100)
ENTRIES = 50
"""Entries of the deletion ledger on one page."""


def home(root: Path, request: Any) -> Shown:
    """How much there is, what is new, and whether the ledger holds."""
    entries, problem = ledger.whole(root)
    newest = questions.listed(root, Wanted(size=8))
    made = questions.listed(root, Wanted(targets=True, size=8))
    audits = _audits(root, made)
    jobs_alive = [job for job in running.running(root) if job.alive]
    return "home.html.j2", {
        "title": "Overview", "here": "/", "counts": questions.counts(root), "root": str(root),
        "newest": newest.items, "made": made.items, "jobs": jobs_alive,
        "entries": len(entries), "problem": problem, "domain": _domain(newest.items),
        "audits": audits, "audit_domain": _domain(list(audits.values())),
    }  # fmt: skip


def runs(root: Path, request: Any) -> Shown:
    """Audits, stories and comparisons, filtered, sorted, a page of them."""
    return _list(root, request.query_params, False)


def targets(root: Path, request: Any) -> Shown:
    """Targets, in the same way."""
    return _list(root, request.query_params, True)


def _list(root: Path, asked: Mapping[str, str], of_targets: bool) -> Shown:
    wanted = wanted_of(asked, of_targets)
    found = questions.listed(root, wanted)
    base = "/targets" if of_targets else "/runs"
    audits = _audits(root, found) if of_targets else {}
    kept = {
        "q": wanted.text, "kind": wanted.kind, "method": wanted.method, "level": wanted.level,
        "size": "" if wanted.size == SIZES[1] else wanted.size,
        "shadows": "1" if wanted.shadows else "",
    }  # fmt: skip
    return "list.html.j2", {
        "title": "Targets" if of_targets else "Runs",
        "here": base, "base": base, "wanted": wanted, "found": found, "kept": kept,
        "columns": [
            _column(base, kept, wanted, *column)
            for column in (TARGET_COLUMNS if of_targets else RUN_COLUMNS)
        ],
        "choices": _choices(root, of_targets), "audits": audits,
        "shadows": questions.shadows(root) if of_targets else 0,
        "domain": _domain(list(audits.values()) if of_targets else found.items),
        "sizes": SIZES, "pages": _pages(base, kept, wanted, found),
    }  # fmt: skip


def wanted_of(asked: Mapping[str, str], of_targets: bool) -> Wanted:
    """What a query asks for; what it says wrongly is left at its default."""
    sort = asked.get("sort", "")
    size = whole(asked.get("size", ""), SIZES[1])
    return Wanted(
        targets=of_targets,
        kind=asked.get("kind", "")[:100],
        method=asked.get("method", "")[:100],
        level="" if of_targets else asked.get("level", "")[:100],
        text=asked.get("q", "").strip()[:200],
        sort=sort if sort in questions.SORTS else "created",
        down=asked.get("way", "down") != "up",
        page=whole(asked.get("page", ""), 1),
        size=size if size in SIZES else SIZES[1],
        shadows=of_targets and asked.get("shadows", "") == "1",
    )


def _audits(root: Path, found: Listed) -> dict[str, Item]:
    """The newest audit of each target of a list, by its fingerprint."""
    return questions.audited(root, [one.fingerprint for one in found.items])


def _column(
    base: str, kept: Mapping[str, Any], wanted: Wanted, name: str, label: str, down_first: bool
) -> dict[str, str]:
    """A column's head: where it leads, and how the list is sorted by it now; "" cannot be."""
    if not name:
        return {"label": label, "state": "", "name": "", "href": ""}
    now = wanted.sort == name
    down = not wanted.down if now else down_first
    state = ("descending" if wanted.down else "ascending") if now else "none"
    return {"label": label, "state": state, "name": name,
            "href": query(base, **kept, sort=name, way="" if down else "up")}  # fmt: skip


def _choices(root: Path, of_targets: bool) -> dict[str, list[tuple[str, int]]]:
    """What can be chosen; a name that a browser would not send back as it is, cannot."""
    found = questions.choices(root, of_targets)
    return {
        name: [(value, count) for value, count in values if plain(value, 100) == value]
        for name, values in found.items()
    }


def _pages(
    base: str, kept: Mapping[str, Any], wanted: Wanted, found: Listed
) -> list[dict[str, Any]]:
    """Links to the first, the last, and the pages around this one."""
    near = range(found.page - 2, found.page + 3)
    shown = sorted({1, found.pages, *(n for n in near if 1 <= n <= found.pages)})
    order = {"sort": wanted.sort, "way": "" if wanted.down else "up"}
    return [
        {"number": n, "href": query(base, **kept, **order, page=n), "here": n == found.page,
         "gap": place > 0 and n - shown[place - 1] > 1}
        for place, n in enumerate(shown)
    ]  # fmt: skip


def _domain(items: Sequence[Item]) -> tuple[float, float] | None:
    """One scale for the small charts of a list; None where there are none."""
    shown = [f for one in items if (f := one.finding) and "auc" in f.name.lower()]
    return charts.auc_domain(shown) if shown else None


def deletions(root: Path, request: Any) -> Shown:
    """The deletion ledger, read from its file and checked, newest first."""
    entries, problem = ledger.whole(root)
    pages = max(1, -(-len(entries) // ENTRIES))
    page = max(1, min(whole(request.query_params.get("page", ""), 1), pages))
    shown = entries[::-1][ENTRIES * (page - 1) : ENTRIES * page]
    prints = [str(e.facts.get(key, "")) for e in shown for key in ("before", "after")]
    return "deletions.html.j2", {
        "title": "Deletions", "here": "/deletions", "problem": problem, "entries": shown,
        "total": len(entries), "last": entries[-1].hash if entries else "", "page": page,
        "pages": pages, "known": questions.targets_of(root, prints),
        "evidence": {e.number: _evidence(root, e) for e in shown},
    }  # fmt: skip


def _evidence(root: Path, entry: ledger.Entry) -> dict[str, Any]:
    told = entry.facts.get("evidence")
    told = told if isinstance(told, Mapping) else {}
    number = str(told.get("id", ""))
    return {"level": plain(told.get("verdict", "")), "run": questions.named(root, number)}


def running_now(root: Path, request: Any) -> Shown:
    """Jobs that have no record yet; asked for again every few seconds."""
    paused = request.query_params.get("live") == "0"
    return "running.html.j2", {
        "title": "Running", "here": "/running", "jobs": jobs(root), "paused": paused,
    }  # fmt: skip
