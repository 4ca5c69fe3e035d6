"""What the page of a comparison shows, computed, so that the template only lays out."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from engram.core.finding import Finding
from engram.report import wording
from engram.report.comparison import ComparedTarget, ComparisonDocument
from engram.report.limits import Limits
from engram.report.palette import styles
from engram.report.pareto import Plotted, course, pareto

FLOOR = {"AUC": 0.5, "exposure": 0.0, "verbatim rate": 0.0}
"""Down to where an axis reaches, so that small differences do not look large."""
FEW, SMALL, LARGE = 6, (400, 330), (760, 520)
"""Targets that a small figure has room for; sizes in pixels."""
CHANCE = {"AUC": 0.5, "exposure": 1.4427}
"""What is found where nothing was memorised: of exposure the mean, 1 / ln 2 bits."""


@dataclass(frozen=True)
class Row:
    """One target in a table."""

    target: ComparedTarget
    series: int
    cells: tuple[Finding, ...] = ()
    courses: tuple[Markup, ...] = ()


@dataclass(frozen=True)
class ComparisonView:
    """All that the template lays out."""

    as_trained: tuple[Row, ...]
    matched: tuple[Row, ...]
    courses: tuple[Row, ...]
    charts: tuple[tuple[str, Markup], ...]
    """What is given away, and its figure."""
    crowded: bool
    """Whether the figures are drawn large, one below another, for the many points in them."""


def view_of_comparison(
    doc: ComparisonDocument, limits: Limits, roomy: bool = False
) -> ComparisonView:
    """Compute all that the page of a comparison shows; `roomy`: a figure may take a whole line."""
    targets = doc.targets[: limits.attacks]
    shown = list(zip(styles([target.name for target in targets]), targets, strict=True))
    crowded = roomy and len(targets) > FEW
    return ComparisonView(
        crowded=crowded,
        as_trained=tuple(Row(t, n, cells=t.cells) for n, t in shown),
        matched=tuple(Row(t, n, cells=t.matched) for n, t in shown),
        courses=_courses(doc, shown, limits),
        charts=tuple(
            drawn
            for place in range(1, min(len(doc.questions), limits.charts))
            if (drawn := _price(doc, shown, place, limits, LARGE if crowded else SMALL))[1]
        ),
    )


def _price(
    doc: ComparisonDocument,
    shown: Sequence[tuple[int, ComparedTarget]],
    place: int,
    limits: Limits,
    size: tuple[int, int],
) -> tuple[str, Markup]:
    """Perplexity against one other question."""
    first, question = doc.questions[0], doc.questions[place]
    plotted = []
    for series, target in shown:
        passed = [e for e in target.trace if first.key in e and question.key in e]
        step = -(-len(passed) // limits.points) or 1
        points = tuple((e[first.key], e[question.key]) for e in passed[::step])
        plotted.append(Plotted(target.name, target.cells[0], target.cells[place], points, series))
    unit = f" ({question.unit})" if question.unit else ""
    title = wording.clip(wording.name_of(question.name), 40) + wording.clip(unit, 20)
    return title, pareto(
        title, plotted, FLOOR.get(question.name), *size, chance=CHANCE.get(question.name)
    )


def _courses(
    doc: ComparisonDocument, shown: Sequence[tuple[int, ComparedTarget]], limits: Limits
) -> tuple[Row, ...]:
    rows = []
    for series, target in shown:
        step = -(-len(target.trace) // limits.steps) or 1
        drawn = []
        for question in doc.observed:
            seen = [e for e in target.trace[::step] if question.key in e]
            title = f"{wording.clip(question.name, 40)} of {wording.clip(target.name, 40)}"
            values = [e[question.key] for e in seen]
            mark = _mark([e.get("epoch", 0.0) for e in seen], target.epoch)
            ends = _ends(question.key, [target for _, target in shown])
            line = course(title, values, series, mark, ends) if len(values) > 1 else Markup("")
            drawn.append(line)
        if any(drawn):
            rows.append(Row(target, series, courses=tuple(drawn)))
    return tuple(rows)


def _ends(key: str, targets: Sequence[ComparedTarget]) -> tuple[float, float] | None:
    """The least and the largest value that any target had: courses of one column are compared."""
    values = [entry[key] for target in targets for entry in target.trace if key in entry]
    return (min(values), max(values)) if values else None


def _mark(epochs: Sequence[float], at: float | None) -> float | None:
    """Where among observations an epoch lies, counted from 0; None where it lies in none."""
    if at is None:
        return None
    for place in range(1, len(epochs)):
        before, after = epochs[place - 1], epochs[place]
        if before <= at <= after:
            return place - 1 + (at - before) / ((after - before) or 1.0)
    return 0.0 if epochs and at <= epochs[0] else None
