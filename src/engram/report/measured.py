"""One measure of one target: its record, read and checked, and what its page shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from engram.core.finding import Finding
from engram.report import charts, wording
from engram.report.limits import Limits
from engram.report.palette import style

if TYPE_CHECKING:
    from engram.report.document import Node, TargetFacts

SIDES = {"members": 0, "outsiders": 1}
"""Sides with a colour of their own; other splits are things."""
CHANCE = 0.5
"""What an AUC comes to where nothing is known."""


@dataclass(frozen=True)
class MeasurementDocument:
    """What a measure found, as `run.json` holds it."""

    engram: str
    id: str
    created: str
    seconds: float
    method: str
    summary: str
    paper: str
    target: "TargetFacts"
    records: Mapping[str, int]
    """How many records of each side it was asked about."""
    data: str
    seed: int
    device: str
    settings: Mapping[str, object]
    findings: tuple[Finding, ...]


def parse_measurement(node: "Node") -> MeasurementDocument:
    """The typed form of a measurement; an error says what is wrong, and where."""
    from engram.report.document import Node, findings_of, target_of

    setup = node["setup"]
    records = setup["records"]
    return MeasurementDocument(
        engram=node["engram"].text(),
        id=node["id"].text(),
        created=node["created"].text(),
        seconds=node.get("seconds", 0).number(),
        method=node["method"].text(),
        summary=node.get("summary", "").text(),
        paper=node.get("paper", "").text(),
        target=target_of(node["target"]),
        records={
            side: Node(count, f"{records.where}: {side}").count()
            for side, count in records.mapping().items()
        },
        data=setup.get("data", "").text(),
        seed=setup.get("seed", 0).count(),
        device=setup.get("device", "").text(),
        settings=setup.get("settings", {}).mapping(),
        findings=findings_of(node["measures"]),
    )


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
