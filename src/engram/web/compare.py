"""Two or more runs side by side: curves overlaid, usefulness against leakage, what defends."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from engram.core.errors import EngramError
from engram.core.finding import Finding
from engram.report import charts, page, wording
from engram.report.comparison import ComparisonDocument
from engram.report.document import AttackResult, AuditDocument
from engram.report.palette import styles
from engram.report.pareto import Plotted, pareto
from engram.store import questions
from engram.web.records import read
from engram.web.templates import plain

MOST = 7
"""Runs that are compared at once: as many as there are colours."""
USEFUL = (
    ("perplexity", "outsiders", "perplexity of records never seen: the lower, the more useful"),
    ("accuracy", "outsiders", "errors on records never seen: the lower, the more useful"),
)
"""Measures of usefulness, the first that all have: name, split, and what the axis says."""
WAYS = {"accuracy": "higher is more useful", "perplexity": "lower is more useful"}
"""Which way of a measure is better; of all others, lower gives less away."""
POINTS = 160


@dataclass(frozen=True)
class Side:
    """One audit that is compared, in its colour."""

    name: str
    folder: str
    series: int
    doc: AuditDocument

    @property
    def method(self) -> str:
        """The arrow that made its target."""
        return plain(self.doc.target.lineage.get("method", ""), 60)

    @property
    def guarantee(self) -> str:
        """What its training promises."""
        return plain(self.doc.target.facts.get("guarantee", "") or "none", 120)


def compare(root: Path, request: Any) -> tuple[str, dict[str, Any]]:
    """The comparison of the runs that are named; `attack` says which curves are drawn."""
    asked = list(dict.fromkeys(request.query_params.getlist("run")))[: 4 * MOST]
    sides, problems = _sides(root, asked)
    attacks, cautions = _shared(sides), _cautions(sides)
    wanted = request.query_params.get("attack", "")
    attack = wanted if wanted in attacks else _headline(sides, attacks)
    return "compare.html.j2", {
        "title": "Compare", "here": "/runs", "sides": sides, "problems": problems, "asked": asked,
        "cautions": cautions, "ways": WAYS,
        "attacks": attacks, "attack": attack, "roc": _roc(sides, attack),
        "areas": _areas(sides, attack), "prices": _prices(sides, attack),
        "table": _table(sides, attacks, not cautions), "shaded": _resolved(sides) < 1000,
    }  # fmt: skip


def _sides(root: Path, asked: Sequence[str]) -> tuple[list[Side], list[tuple[str, str]]]:
    """The audits that are meant: of a target its newest, of a story or a comparison all of them."""
    found: dict[str, tuple[str, AuditDocument]] = {}
    problems = []
    for folder in asked:
        try:
            found |= {key: (name, doc) for key, name, doc in _audits(root, folder)}
        except EngramError as problem:
            problems.append((folder, str(problem)))
    if len(found) > MOST:
        problems.append(("", f"{len(found)} audits were named; the first {MOST} are shown"))
    shown = list(found.items())[:MOST]
    names = _told_apart([name for _, (name, _) in shown], [doc for _, (_, doc) in shown])
    return [
        Side(name, key, series, doc)
        for (key, (_, doc)), name, series in zip(shown, names, styles(names), strict=True)
    ], problems


def _cautions(sides: Sequence[Side]) -> list[str]:
    """What makes a difference between these audits say less than it seems to."""
    found = []
    data = dict.fromkeys(plain(side.doc.setup.data.partition(": ")[0], 40) for side in sides)
    if len(data) > 1:
        found.append(
            f"They were asked about different records ({', '.join(data)}): a difference may come "
            "from the records, and not from the models."
        )
    words = [side.doc.target.facts.get("vocabulary") for side in sides]
    if len({repr(one) for one in words if one is not None}) > 1:
        found.append("Their vocabularies differ, so their perplexities count different tokens.")
    return found


def _told_apart(names: Sequence[str], docs: Sequence[AuditDocument]) -> list[str]:
    """The names; the run's id where two are the same, for in a figure both would be cut alike."""
    return [
        plain(name, 60) if names.count(name) == 1 else plain(doc.id, 60)
        for name, doc in zip(names, docs, strict=True)
    ]


def _audits(root: Path, folder: str) -> list[tuple[str, str, AuditDocument]]:
    """Folder, name and document of the audits that a run stands for."""
    item = questions.item(root, folder)
    if item is None:
        raise EngramError("the index knows no such run")
    if item.kind == "target":
        audits = [a for a in questions.about(root, item.fingerprint) if a.kind == "audit"]
        if not audits:
            raise EngramError(f"target {plain(item.target)} has no audit yet")
        return _audits(root, audits[0].folder)
    doc = read(root / folder)
    if isinstance(doc, AuditDocument):
        return [(folder, doc.target.name, doc)]
    if isinstance(doc, ComparisonDocument):
        runs = [questions.named(root, one.audit) for one in doc.targets[:MOST] if one.audit]
        found = [pair for run in runs if run for pair in _audits(root, run.folder)]
        named = {questions_id(run): one.name for run, one in zip(runs, doc.targets, strict=False)}
        return [(key, named.get(key, name), doc) for key, name, doc in found]
    return [(f"{folder}#{n}", one.title, one.document) for n, one in enumerate(doc.audits)]


def questions_id(run: Any) -> str:
    """The folder of a run, "" where there is none."""
    return run.folder if run else ""


def _shared(sides: Sequence[Side]) -> list[str]:
    """Attacks that all sides have, in the order of the first."""
    if not sides:
        return []
    names = [{one.name for one in side.doc.attacks} for side in sides]
    return [a.name for a in sides[0].doc.attacks if all(a.name in known for known in names)]


def _headline(sides: Sequence[Side], attacks: Sequence[str]) -> str:
    meant = [side.doc.headline.attack for side in sides]
    return next((name for name in [*meant, *attacks] if name in attacks), "")


def _attack(side: Side, name: str) -> AttackResult | None:
    return next((one for one in side.doc.attacks if one.name == name), None)


def _resolved(sides: Sequence[Side]) -> int:
    """The fewest outsiders of any side: below one in so many, a rate cannot be told from 0."""
    return min((side.doc.setup.outsiders for side in sides), default=0)


def _roc(sides: Sequence[Side], name: str) -> Markup | None:
    curves = [
        charts.Curve(
            side.name, page.thin(found.roc, POINTS), side.series, page.rates(found.findings)
        )
        for side in sides
        if (found := _attack(side, name)) and found.roc
    ]
    return charts.roc(curves, _resolved(sides), 640, 470) if curves else None


def _areas(sides: Sequence[Side], name: str) -> Markup | None:
    rows = [
        (side.name, area, side.series)
        for side in sides
        if (found := _attack(side, name)) and (area := page.auc_of(found.findings))
    ]
    if not rows:
        return None
    domain = charts.auc_domain([finding for _, finding, _ in rows])
    return charts.interval_rows(f"AUC of {name}", rows, domain, 0.5, unit="AUC")


def _useful(side: Side, name: str, split: str) -> Finding | None:
    for finding in side.doc.measures:
        if finding.name == name and finding.split == split and finding.value is not None:
            return finding if name != "accuracy" else _turned(finding)
    return None


def _turned(finding: Finding) -> Finding:
    """Errors in the place of accuracy: so that lower is better in every figure."""
    low, value, high = finding.low or 0.0, finding.value or 0.0, finding.high or 0.0
    return replace(finding, name="error", value=1 - value, low=1 - high, high=1 - low)


def _prices(sides: Sequence[Side], attack: str) -> list[tuple[str, Markup]]:
    """Usefulness against each of what an attacker learns."""
    for name, split, label in USEFUL:
        across = [_useful(side, name, split) for side in sides]
        if sum(found is not None for found in across) > 1:
            return _drawn_prices(sides, attack, across, label)
    return []


def _drawn_prices(
    sides: Sequence[Side], attack: str, across: Sequence[Finding | None], label: str
) -> list[tuple[str, Markup]]:
    drawn = []
    for title, floor, chance in (
        ("AUC", 0.5, 0.5), ("TPR@1%FPR", 0.0, 0.01), ("TPR@5%FPR", 0.0, 0.05),
    ):  # fmt: skip
        plotted = [
            Plotted(
                plain(side.name, 24),
                x or _absent(),
                _leak(side, attack, title),
                series=side.series,
            )
            for side, x in zip(sides, across, strict=True)
        ]
        shown = f"{wording.name_of(title)}, {plain(attack, 30)}"
        figure = pareto(shown, plotted, floor, 460, 340, below=label, chance=chance)
        if figure:
            drawn.append((shown, figure))
    return drawn


def _absent() -> Finding:
    return Finding.missing("usefulness", "not measured")


def _leak(side: Side, attack: str, name: str) -> Finding:
    found = _attack(side, attack)
    known = {finding.name: finding for finding in found.findings} if found else {}
    return known.get(name) or Finding.missing(name, "not measured")


def _table(sides: Sequence[Side], attacks: Sequence[str], fair: bool) -> dict[str, Any]:
    """What is known of all sides: a row a question, a column a side; the best where it is fair."""
    rows: list[tuple[str, str, list[Finding | None]]] = []
    for name, split, _ in USEFUL:
        cells = [_measured(side, name, split) for side in sides]
        if any(cells):
            rows.append((name, f"on {split}", cells))
    for attack in attacks:
        for name in ("AUC", "TPR@1%FPR", "TPR@5%FPR"):
            cells = [_leak(side, attack, name) for side in sides]
            if any(cell.value is not None for cell in cells):
                rows.append((wording.name_of(name), attack, list(cells)))
    return {
        "rows": rows[:40],
        "best": [_best(cells) if fair else None for _, _, cells in rows[:40]],
    }


def _measured(side: Side, name: str, split: str) -> Finding | None:
    return next((f for f in side.doc.measures if f.name == name and f.split == split), None)


def _best(cells: Sequence[Finding | None]) -> int | None:
    """Which side is surely the best: its interval touches no other's; None where that is nobody."""
    known = [(n, c) for n, c in enumerate(cells) if c is not None and c.value is not None]
    if len(known) < 2:
        return None
    up = known[0][1].name == "accuracy"
    ends = [(n, -(c.high or 0.0), -(c.low or 0.0)) if up else (n, c.low or 0.0, c.high or 0.0)
            for n, c in known]  # fmt: skip
    first = min(ends, key=lambda end: end[2])
    return first[0] if all(first[2] < low for n, low, _ in ends if n != first[0]) else None
