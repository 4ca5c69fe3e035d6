"""The figures of one measure, computed, so that the template only lays out."""

from markupsafe import Markup

from engram.core.finding import Finding
from engram.report import charts, wording
from engram.report.limits import Limits
from engram.report.measured import MeasurementDocument
from engram.report.palette import style

SIDES = {"members": 0, "outsiders": 1}
"""Sides with a colour of their own; other splits are things."""
CHANCE = 0.5
"""What an AUC comes to where nothing is known."""


def drawn(doc: MeasurementDocument, limits: Limits) -> tuple[tuple[str, str, Markup], ...]:
    """For each number that was found: its name, which way is better, and its intervals by side."""
    found: dict[tuple[str, str], list[Finding]] = {}
    for finding in doc.findings:
        if finding.value is not None:
            found.setdefault((finding.name, finding.unit), []).append(finding)
    return tuple(_figure(name, group) for (name, _), group in list(found.items())[: limits.charts])


def _figure(name: str, group: list[Finding]) -> tuple[str, str, Markup]:
    title = wording.clip(wording.name_of(name), 80)
    rows = [(one.split or "all", one, SIDES.get(one.split, style(one.split))) for one in group]
    rule = CHANCE if wording.is_auc(group[0]) else None
    domain = charts.auc_domain(group) if rule else None
    unit = wording.clip(wording.unit_of(group[0]), 40)
    return title, group[0].better, charts.interval_rows(title, rows[:40], domain, rule, unit=unit)
