"""One self-contained HTML page from a checked document: no script, nothing loaded from anywhere."""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from engram.core.finding import Finding
from engram.report import charts, matching, observed, tokens, wording
from engram.report.comparison import ComparisonDocument
from engram.report.comparison_page import view_of_comparison
from engram.report.cost_chart import cost_chart
from engram.report.document import (
    AttackResult,
    AuditDocument,
    Document,
    ExposedRecord,
    Histogram,
    LeakOutput,
    StoryDocument,
)
from engram.report.limits import LARGEST, Limits, shrinking
from engram.report.measured import MeasurementDocument
from engram.report.measured_page import drawn as drawn_findings
from engram.report.palette import style, styles
from engram.report.pictures import drawn

TEMPLATES = Path(__file__).parent / "templates"
INK = 4
"""The style of a line that stands alone in its chart."""
OVERLAID = 6
"""Curves drawn in one ROC chart; more would hide one another."""
_RATE = re.compile(r"@\s*(\d+(?:\.\d+)?)\s*%")
_LINK = re.compile(r"https?://[^\s<>\"'`\\]+")


@dataclass(frozen=True)
class AttackView:
    """One attack, ready to be laid out."""

    attack: AttackResult
    headline: bool
    series: int
    """Its style in every chart."""
    auc: Finding | None
    plot: Markup
    cells: tuple[Finding | None, ...]
    link: str


@dataclass(frozen=True)
class AttackTable:
    """Attacks one under another, with an interval plot of each AUC on one scale."""

    rows: tuple[AttackView, ...]
    columns: tuple[str, ...]
    reasons: tuple[str, ...]
    """Why numbers are missing, each reason once."""
    axis: Markup


@dataclass(frozen=True)
class RecordView:
    """One exposed record with its shaded tokens, or drawn."""

    record: ExposedRecord
    shaded: tokens.ShadedRecord
    picture: Markup | None


@dataclass(frozen=True)
class AuditView:
    """An audit with everything computed, so that the template only lays out."""

    doc: AuditDocument
    key: str
    limits: Limits
    tiles: tuple[tuple[str, str, str], ...]
    attacks: AttackTable
    by_owner: AttackTable
    roc: Markup | None
    distributions: tuple[tuple[str, Markup], ...]
    """Attack and its histogram, the headline's first."""
    owner_charts: tuple[tuple[str, Markup], ...]
    records: tuple[RecordView, ...]
    told: bool
    """Whether any shown record says what it is."""
    shaded: bool
    """Whether the shown records have tokens."""
    compared: bool
    """Whether the shown records' tokens have a reference."""
    pictures: tuple[tuple[str, tuple[Markup, ...]], ...]
    """Of what it was trained on, by rows with their names."""
    traces: tuple[Markup, ...]
    observed: tuple[Markup, ...]
    """Memorisation by epoch."""
    seen: tuple[Finding, ...]
    """Its numbers: of the weights that were kept, and of the last."""


def render(document: Document) -> str:
    """The page, with less shown of each thing until it is small enough.

    The last resort shows two records and eight rows of each table, and every text is cut, so
    a page that is still too large cannot come from a document of any size.
    """
    page = ""
    for limits in shrinking():
        page = render_within(document, limits)
        if len(page.encode()) <= LARGEST:
            break
    return page


def render_within(document: Document, limits: Limits) -> str:
    """The page under these limits, however large it becomes."""
    style = (TEMPLATES / "style.css").read_text("utf-8")
    digest = base64.b64encode(sha256(style.encode()).digest()).decode()
    shared = {"style": Markup(style), "digest": digest, "limits": limits}
    if isinstance(document, AuditDocument):
        template, view = "audit.html.j2", view_of(document, "a", limits)
        return environment().get_template(template).render(view=view, doc=document, **shared)
    if isinstance(document, ComparisonDocument):
        compared = view_of_comparison(document, limits, roomy=True)
        template = environment().get_template("comparison.html.j2")
        return template.render(view=compared, doc=document, **shared)
    if isinstance(document, MeasurementDocument):
        return (
            environment()
            .get_template("measurement.html.j2")
            .render(
                doc=document,
                charts=drawn_findings(document, limits),
                names=len({(f.name, f.unit) for f in document.findings if f.value is not None}),
                **shared,
            )
        )
    audits = [
        (one.title, view_of(one.document, f"a{place}", limits))
        for place, one in enumerate(document.audits[: limits.audits])
    ]
    template = environment().get_template("story.html.j2")
    return template.render(
        doc=document,
        audits=audits,
        outputs=_outputs(document, limits),
        charts=comparison_charts(document, limits),
        costs=cost_chart(document.costs) if document.costs else None,
        **shared,
    )


@cache
def environment() -> Environment:
    """The templates with their filters."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    environment.filters |= {
        "value": wording.value_of,
        "interval": wording.interval_of,
        "unit": wording.unit_of,
        "num": wording.number,
        "counted": wording.counted,
        "percent": wording.percent,
        "clip": wording.clip,
        "middle": wording.middle,
        "duration": wording.duration,
        "moment": wording.moment,
        "compact": compact,
        "above": above,
        "differ_in": lambda findings, field: len({getattr(one, field) for one in findings}) > 1,
        "any_have": lambda findings, field: any(getattr(one, field) for one in findings),
        "name": wording.name_of,
        "marked": matching.marked,
    }
    return environment


def _picture(record: ExposedRecord) -> Markup | None:
    return drawn(record.picture, f"record {record.id}") if record.picture else None


def _trained(doc: AuditDocument, limits: Limits) -> tuple[tuple[str, tuple[Markup, ...]], ...]:
    return tuple(
        (name, tuple(drawn(picture, name, width=64) for picture in pictures[: limits.records]))
        for name, pictures in doc.pictures[: limits.charts]
    )


def compact(value: object, limit: int = 160) -> str:
    """A configuration value in one line."""
    if isinstance(value, str):
        return wording.clip(value, limit) or "(empty)"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) < 10**15 else f"{value}"[:limit]
    return wording.clip(json.dumps(value, ensure_ascii=False), limit)


def above(percentile: float, outsiders: int) -> str:
    """Where a score stands among the outsiders, in words.

    >>> above(0.0, 300)
    'above all 300 outsiders'
    """
    if percentile == 0:
        if outsiders == 1:
            return "above the only outsider"
        return f"above all {outsiders:,} outsiders" if outsiders else "above all outsiders"
    return f"above {wording.percent(1 - percentile)} of outsiders"


def view_of(doc: AuditDocument, key: str, limits: Limits) -> AuditView:
    """Compute all that the page of one audit shows."""
    shown = ordered(doc)[: limits.attacks]
    owned = [replace(one, findings=one.owner_findings) for one in shown if one.owner_findings]
    records = tuple(
        RecordView(record, tokens.shade(record.tokens, limits.tokens), _picture(record))
        for record in doc.exposed[: limits.records]
    )
    return AuditView(
        doc=doc,
        key=key,
        limits=limits,
        tiles=tiles(doc),
        attacks=_table(shown, doc),
        by_owner=_table(owned, doc),
        roc=_roc(doc, _drawn(shown), limits),
        distributions=_distributions(doc, shown, limits),
        owner_charts=_owner_charts(shown[:8]),
        records=records,
        told=any(one.shaded.markup or one.record.says or one.picture for one in records),
        shaded=any(one.shaded.markup for one in records),
        compared=any(one.shaded.compared for one in records),
        pictures=_trained(doc, limits),
        traces=_traces(doc, limits),
        observed=observed.charts(doc.observed[-limits.steps :]),
        seen=observed.telling(doc.observed),
    )


def _drawn(shown: Sequence[AttackResult]) -> list[AttackResult]:
    return [attack for attack in shown if attack.roc is not None][:OVERLAID]


def auc_of(findings: Sequence[Finding]) -> Finding | None:
    """The AUC among these findings, if there is one."""
    return next((finding for finding in findings if wording.is_auc(finding)), None)


def ordered(doc: AuditDocument) -> list[AttackResult]:
    """The headline attack, then the others by how far their AUC is from chance."""

    def rank(attack: AttackResult) -> tuple[bool, float]:
        found = auc_of(attack.findings)
        apart = abs(found.value - 0.5) if found and found.value is not None else -1.0
        return attack.name != doc.headline.attack, -apart

    return sorted(doc.attacks, key=rank)


def _table(attacks: Sequence[AttackResult], doc: AuditDocument) -> AttackTable:
    aucs = [found for attack in attacks if (found := auc_of(attack.findings))]
    domain = charts.auc_domain(aucs)
    columns = _columns(attacks)
    missing = [
        f"{wording.name_of(finding.name)}: {finding.note}"
        for attack in attacks
        for finding in attack.findings
        if finding.value is None
    ]
    return AttackTable(
        rows=tuple(_attack_view(one, doc, columns, domain) for one in attacks),
        columns=columns,
        reasons=tuple(dict.fromkeys(missing))[:8],
        axis=charts.auc_axis(domain),
    )


def _columns(attacks: Sequence[AttackResult]) -> tuple[str, ...]:
    """Names of the findings but the AUC that any attack has, as they first appear; at most 8."""
    names: dict[str, None] = {}
    for attack in attacks:
        area = auc_of(attack.findings)
        names |= {f.name: None for f in attack.findings if f is not area and f.value is not None}
    return tuple(names)[:8]


def _attack_view(
    attack: AttackResult,
    doc: AuditDocument,
    columns: Sequence[str],
    domain: tuple[float, float],
) -> AttackView:
    area = auc_of(attack.findings)
    by_name = {finding.name: finding for finding in attack.findings}
    link = _LINK.search(attack.paper)
    series = style(attack.name)
    return AttackView(
        attack=attack,
        headline=attack.name == doc.headline.attack,
        series=series,
        auc=area,
        plot=charts.auc_interval(area, domain, series) if area else Markup(""),
        cells=tuple(by_name.get(name) for name in columns),
        link=link.group().rstrip(".,;)") if link else "",
    )


def tiles(doc: AuditDocument) -> tuple[tuple[str, str, str], ...]:
    """The numbers to see first: label, number, and what it rests on."""
    found = []
    area = auc_of(doc.headline.findings)
    attack = wording.clip(doc.headline.attack, 40)
    if area:
        note = f"{wording.interval_of(area)}; n = {area.n:,}; 0.5 is chance"
        found.append((f"{area.name}, {attack}", wording.value_of(area), note))
    for finding in doc.headline.findings:
        if finding is not area and finding.value is not None and len(found) < 3:
            label = f"{wording.name_of(finding.name)}, {attack}"
            note = f"{wording.interval_of(finding)}; n = {finding.n:,}"
            found.append((label, wording.value_of(finding), note))
    setup = doc.setup
    of = wording.counted
    sides = f"{of(setup.members, 'members')}, {of(setup.outsiders, 'outsiders')}"
    found.append(("records", f"{setup.members + setup.outsiders:,}", sides))
    if setup.owners is not None:
        found.append(("owners", f"{setup.owners:,}", "people whom the records are about"))
    return tuple(found)


def _roc(doc: AuditDocument, drawn: Sequence[AttackResult], limits: Limits) -> Markup | None:
    if not drawn:
        return None
    curves = []
    for attack in drawn:
        main = attack.name == doc.headline.attack
        barred = rates(attack.findings) if main else ()
        thinned = thin(attack.roc, limits.points) if attack.roc else None
        if thinned:
            curves.append(charts.Curve(attack.name, thinned, style(attack.name), barred, main))
    return charts.roc(curves, doc.setup.outsiders)


def rates(findings: Sequence[Finding]) -> tuple[tuple[float, Finding], ...]:
    """True positive rates with the false positive rate that their names give."""
    shown = []
    for finding in findings:
        found = _RATE.search(finding.name)
        if found and finding.name.lower().startswith("tpr"):
            rate = float(found.group(1)) / 100
            if charts.FLOOR <= rate < 1 and finding.value is not None:
                shown.append((rate, finding))
    return tuple(shown)


def thin(curve: charts.Roc, points: int) -> charts.Roc:
    """At most about `points` points of a staircase: the last of each step of a logarithmic grid."""
    if len(curve.fpr) <= points:
        return curve
    kept: dict[int, tuple[float, float]] = {}
    for fpr, tpr in zip(curve.fpr, curve.tpr, strict=True):
        kept[charts.pixel_of(fpr, points)] = (fpr, tpr)
    return charts.Roc(tuple(f for f, _ in kept.values()), tuple(t for _, t in kept.values()))


def _distributions(
    doc: AuditDocument, shown: Sequence[AttackResult], limits: Limits
) -> tuple[tuple[str, Markup], ...]:
    counts = (doc.setup.members, doc.setup.outsiders)
    bins = min(limits.bins, max(8, round(1.5 * sum(counts) ** 0.5)))
    found = [(attack, rebin(attack.histogram, bins)) for attack in shown if attack.histogram]
    drawn = []
    for place, (attack, histogram) in enumerate(found[: limits.charts]):
        name, unit = wording.clip(attack.name, 40), wording.clip(attack.unit, 40)
        small = place > 0
        drawn.append((name, charts.distributions(histogram, unit, name, counts, small=small)))
    return tuple(drawn)


def rebin(shown: Histogram, bins: int) -> Histogram:
    """The same counts in at most `bins` bins: neighbours are added up."""
    together = -(-len(shown.members) // bins)
    if together == 1:
        return shown
    starts = range(0, len(shown.members), together)
    edges = [shown.edges[start] for start in starts] + [shown.edges[-1]]
    sides = [
        tuple(sum(side[start : start + together]) for start in starts)
        for side in (shown.members, shown.outsiders)
    ]
    return Histogram(tuple(edges), sides[0], sides[1])


def _owner_charts(attacks: Sequence[AttackResult]) -> tuple[tuple[str, Markup], ...]:
    """For each attack, its AUC by record over its AUC by owner; one scale for all."""
    pairs = [
        (wording.clip(attack.name, 40), style(attack.name), by_record, by_owner)
        for attack in attacks
        if (by_record := auc_of(attack.findings)) and (by_owner := auc_of(attack.owner_findings))
    ]
    domain = charts.auc_domain([finding for pair in pairs for finding in pair[2:]])
    drawn = []
    for name, series, by_record, by_owner in pairs:
        rows = [("by record", by_record, series), ("by owner", by_owner, series)]
        title = f"AUC of {name} by record and by owner"
        plot = charts.interval_rows(title, rows, domain, 0.5, width=360, unit="AUC")
        drawn.append((name, plot))
    return tuple(drawn)


def _traces(doc: AuditDocument, limits: Limits) -> tuple[Markup, ...]:
    drawn = []
    for name, title, unit in (
        ("loss", "Training loss", "nats per token"),
        ("lr", "Learning rate", ""),
    ):
        points = sorted(
            (entry.get("step", float(place)), entry[name])
            for place, entry in enumerate(doc.trace)
            if name in entry
        )
        every = -(-len(points) // limits.steps) or 1
        kept = points[::every] + (points[-1:] if (len(points) - 1) % every else [])
        if len(kept) > 1 and kept[0][0] < kept[-1][0]:
            unit = unit if doc.target.family.endswith("lm") else ""
            drawn.append(charts.trace(title, kept, INK, unit))
    return tuple(drawn)


def _of_models(doc: StoryDocument) -> dict[str, int]:
    """The style of each model of a story, by its name."""
    said = doc.leak.outputs if doc.leak else ()
    names = tuple(dict.fromkeys([*doc.columns, *(output.model for output in said)]))
    return dict(zip(names, styles(names), strict=True))


def _outputs(doc: StoryDocument, limits: Limits) -> list[tuple[LeakOutput, Markup, int]]:
    if doc.leak is None:
        return []
    truth, series = wording.clip(doc.leak.truth.strip(), limits.text), _of_models(doc)
    return [
        (
            output,
            matching.marked(wording.clip(output.text.strip(), limits.text), truth),
            series[output.model],
        )
        for output in doc.leak.outputs[:6]
    ]


def comparison_charts(doc: StoryDocument, limits: Limits) -> list[tuple[str, str, Markup]]:
    """For each compared number: its name, its better direction, and intervals of every model."""
    drawn, series = [], _of_models(doc)
    for row in doc.rows[: limits.charts]:
        pairs = list(zip(doc.columns, row.cells, strict=True))[: limits.attacks]
        lines = [(column, cell, series[column]) for column, cell in pairs]
        rule = 0.5 if any(wording.is_auc(cell) for cell in row.cells) else None
        domain = charts.auc_domain(row.cells) if rule else None
        name, unit = wording.clip(row.name, 80), wording.clip(row.unit, 40)
        drawn.append((name, row.better, charts.interval_rows(name, lines, domain, rule, unit=unit)))
    return drawn
