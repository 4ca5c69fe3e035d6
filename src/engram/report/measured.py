"""One measure of one target, as `run.json` holds it, read and checked as untrusted input."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engram.core.finding import Finding

if TYPE_CHECKING:
    from engram.report.document import Node, TargetFacts


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
