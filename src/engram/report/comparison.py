"""A comparison of targets, as `run.json` holds it, read and checked as untrusted input."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engram.core.finding import Finding

if TYPE_CHECKING:
    from engram.report.document import Node, Verdict


@dataclass(frozen=True)
class Question:
    """What every target was asked; `key` names it in the observations of a training."""

    name: str
    key: str
    unit: str


@dataclass(frozen=True)
class ComparedTarget:
    """One target's answers: as it was trained, and at the perplexity that all reached."""

    name: str
    method: str
    guarantee: str
    cells: tuple[Finding, ...]
    matched: tuple[Finding, ...]
    epoch: float | None
    trace: tuple[Mapping[str, float], ...]
    audit: str
    raw: Mapping[str, object]


@dataclass(frozen=True)
class ComparisonDocument:
    """Targets side by side."""

    engram: str
    id: str
    created: str
    seconds: float
    title: str
    lead: str
    verdict: "Verdict"
    questions: tuple[Question, ...]
    targets: tuple[ComparedTarget, ...]
    at: float | None
    reason: str
    warnings: tuple[str, ...]

    @property
    def observed(self) -> tuple[Question, ...]:
        """The questions that are asked while training too."""
        return tuple(question for question in self.questions if question.key)


def parse_comparison(node: "Node") -> ComparisonDocument:
    """The typed form of a comparison; an error says what is wrong, and where."""
    from engram.report.document import verdict_of

    questions = tuple(
        Question(q["name"].text(), q.get("key", "").text(), q.get("unit", "").text())
        for q in node["questions"].items()
    )
    if not questions:
        raise node["questions"].wrong("a list of at least one question")
    matched = node["matched"]
    at = matched.get("at", None).maybe()
    return ComparisonDocument(
        engram=node["engram"].text(),
        id=node["id"].text(),
        created=node["created"].text(),
        seconds=node.get("seconds", 0).number(),
        title=node["title"].text(),
        lead=node["lead"].text(),
        verdict=verdict_of(node["verdict"]),
        questions=questions,
        targets=tuple(_target(item, questions, at) for item in node["targets"].items()),
        at=at,
        reason=matched.get("reason", "").text(),
        warnings=node.get("warnings", []).texts(),
    )


def _target(node: "Node", questions: Sequence[Question], at: float | None) -> ComparedTarget:
    from engram.report.document import findings_of

    cells, matched = findings_of(node["cells"]), findings_of(node.get("matched", []))
    observed = [question for question in questions if question.key] if at is not None else []
    for name, found, wanted in (("cells", cells, questions), ("matched", matched, observed)):
        if len(found) != len(wanted):
            raise node[name].wrong(f"{len(wanted)} findings, one for each question")
    target = node["target"]
    return ComparedTarget(
        name=node["name"].text(),
        method=target.get("lineage", {}).get("method", "").text(),
        guarantee=node.get("guarantee", "").text(),
        cells=cells,
        matched=matched,
        epoch=node.get("epoch", None).maybe(),
        trace=tuple(_entry(item, questions) for item in node.get("trace", []).items()),
        audit=node.get("audit", "").text(),
        raw=target.mapping(),
    )


def _entry(node: "Node", questions: Sequence[Question]) -> dict[str, float]:
    """The finite numbers of one observation."""
    entry = {}
    for key in ("step", "epoch", *(question.key for question in questions if question.key)):
        value = node.get(key, None).value
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            entry[key] = float(value)
    return entry


def front(points: Sequence[tuple[float, float] | None]) -> tuple[bool, ...]:
    """Which points no other is at least as low as in both numbers, and lower in one.

    >>> front([(1.0, 3.0), (2.0, 1.0), (2.0, 2.0), None])
    (True, True, False, False)
    """
    known = [point for point in points if point is not None]
    return tuple(
        point is not None
        and not any(
            other[0] <= point[0] and other[1] <= point[1] and other != point for other in known
        )
        for point in points
    )
