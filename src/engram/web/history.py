"""A record's history: what each target did with it, and how exposed each audit found it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from engram.core.finding import Finding
from engram.core.pseudonyms import pseudonym
from engram.report import charts
from engram.store import questions
from engram.store.contents import is_pseudonym
from engram.store.questions import Exposed, History
from engram.web.templates import plain

LONGEST = 1000
"""Characters of an id that is looked for."""
DRAWN = 24
WORDS = {
    "trained": "trained on", "held-out": "held out", "validation": "looked at while it trained",
    "forgotten": "forgotten", "unknown": "in its ledger",
}  # fmt: skip
TONES = {"trained": "leak", "held-out": "fine", "validation": "doubt", "forgotten": "open"}
_Z = 1.959963984540054


def record(root: Path, request: Any) -> tuple[str, dict[str, Any]]:
    """Look for a record, and show what is known of it."""
    asked = request.query_params.get("id", "").strip()[:LONGEST]
    values: dict[str, Any] = {"title": "Records", "here": "/record", "asked": asked}
    if not asked:
        return "record.html.j2", {**values, "history": None}
    found = questions.history(root, asked)
    hidden = is_pseudonym(asked)
    return "record.html.j2", {
        **values, "title": f"Record {plain(asked, 60)}", "history": found, "hidden": hidden,
        "pseudonym": asked if hidden else pseudonym(asked, "id"), "words": WORDS, "tones": TONES,
        "figure": _figure(found.exposures), "known": _known(root, found), "at": finding_of,
    }  # fmt: skip


def _known(root: Path, found: History) -> dict[str, Any]:
    prints = [p for one in found.deletions for p in (one.before, one.after)]
    return dict(questions.targets_of(root, prints))


def _figure(exposures: Sequence[Exposed]) -> Markup:
    """Where the record stands among the outsiders, an audit a row."""
    shown = exposures[:DRAWN]
    if not shown:
        return Markup("")
    rows = [
        (plain(one.item.target or one.item.id, 40), finding_of(one), 0 if one.member else 1)
        for one in shown
    ]
    title = "Share of outsiders that the record stands above, by audit"
    unit = "of outsiders score lower or as high"
    return charts.interval_rows(title, rows, (0.0, 1.0), 0.5, unit=unit)


def finding_of(one: Exposed) -> Finding:
    """The share of outsiders that score no higher, with Wilson's 95 % interval."""
    share = min(max(1 - one.above, 0.0), 1.0)
    n = max(one.outsiders, 1)
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    name = "share of outsiders below"
    return Finding(name, share, min(low, share), max(high, share), one.outsiders)
