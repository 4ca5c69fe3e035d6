"""Every chart of the report: a pure function from numbers to inline SVG.

Colours are classes, so that the page's style decides them for light, dark and paper.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from engram.core.finding import Finding
from engram.report import wording
from engram.report.document import Histogram, Roc
from engram.report.labels import Box, Point, place
from engram.report.svg import (
    Linear,
    Logarithmic,
    Number,
    chart,
    element,
    line,
    path,
    text,
    ticks,
)

TICK = 6.5
"""Pixels that a character below a scale takes, at the most on the average."""
FLOOR = 1e-3
"""The lowest rate on either axis of an ROC chart."""
_DECADES = (0.001, 0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Curve:
    """An attack's ROC with the style it is drawn in, and rates whose intervals are shown."""

    name: str
    roc: Roc
    series: int
    rates: tuple[tuple[float, Finding], ...] = ()
    """False positive rate and the finding of the true positive rate there."""
    main: bool = False
    """Whether it is the one that the page is about: drawn thicker."""


def auc_domain(findings: Sequence[Finding]) -> tuple[float, float]:
    """A range that holds 0.5 and every interval, for the small charts of one table."""
    lows = [f.low for f in findings if f.low is not None]
    highs = [f.high for f in findings if f.high is not None]
    low, high = min([0.5, *lows]), max([0.5, *highs])
    margin = max(0.06 * (high - low), 0.02)
    return max(low - margin, 0.0), min(high + margin, 1.0)


def auc_axis(domain: tuple[float, float], width: int = 150) -> Markup:
    """The scale above a column of AUC intervals."""
    scale = Linear(*domain, 6, width - 6)
    # A label at an edge begins there, so it reaches further towards its neighbour.
    marks = [0.5, *[t for t in ticks(*domain, 4) if abs(scale(t) - scale(0.5)) > 44]]
    parts = [
        part
        for mark in marks
        for part in (
            line(scale(mark), 15, scale(mark), 20, "axis"),
            text(scale(mark), 11, f"{mark:g}", text_anchor=_anchor(scale(mark), width)),
        )
    ]
    return chart(width, 20, "Scale of the AUC column", f"{marks[0]:g} is chance", *parts)


def _anchor(x: Number, width: Number) -> str:
    return "start" if x < 14 else "end" if x > width - 14 else "middle"


def auc_interval(
    finding: Finding, domain: tuple[float, float], series: int, width: int = 150
) -> Markup:
    """One AUC with its interval, and a line at 0.5 where an attack knows nothing."""
    scale = Linear(*domain, 6, width - 6)
    chance = line(scale(0.5), 0, scale(0.5), 26, "chance")
    if finding.value is None:
        return chart(width, 26, "AUC", finding.note, chance)
    said = f"{wording.value_of(finding)} {wording.interval_of(finding)}"
    return chart(width, 26, "AUC", said, chance, *_interval(finding, scale, 13, f"s{series}"))


def _interval(finding: Finding, scale: Linear, y: Number, series: str) -> list[Markup]:
    if finding.value is None or finding.low is None or finding.high is None:
        return []
    low, high = scale(finding.low), scale(finding.high)
    return [
        line(low, y, high, y, f"bar {series}"),
        line(low, y - 4, low, y + 4, f"cap {series}"),
        line(high, y - 4, high, y + 4, f"cap {series}"),
        element("circle", cx=scale(finding.value), cy=y, r=4.5, class_=f"dot {series}"),
    ]


def interval_rows(
    title: str,
    rows: Sequence[tuple[str, Finding, int]],
    domain: tuple[float, float] | None = None,
    rule: float | None = None,
    width: int = 400,
    unit: str = "",
) -> Markup:
    """Labelled intervals one under another on one scale, each with its number in words.

    Narrow enough for a telephone: label and number stand above their line, not beside it.

    Args:
        title: what is measured, for the description.
        rows: label, finding and series of each line.
        domain: the ends of the scale; None: what the intervals need.
        rule: what chance comes to: a line is drawn there.
        width: in pixels.
        unit: written under the scale.
    """
    low, high = domain or _domain([finding for _, finding, _ in rows])
    scale, bottom = Linear(low, high, 16, width - 16), 40 * len(rows) + 2
    parts = _grid_below(scale, bottom, rows, rule)
    below = 30
    if rule is not None and low <= rule <= high:
        parts.append(line(scale(rule), 0, scale(rule), bottom, "chance"))
        parts.append(text(scale(rule), bottom + 29, "chance", text_anchor="middle", class_="tick"))
        if scale(rule) + 24 > width - TICK * len(unit):  # they would lie on one another
            below = 46
    for place_, (label, finding, series) in enumerate(rows):
        y = 40 * place_ + 28
        shown = f"{wording.value_of(finding)} {wording.interval_of(finding)}"
        shown = shown if finding.value is not None else "not measured"
        parts += [
            text(0, y - 12, wording.clip(label, 28), class_="label halo"),
            text(width, y - 12, shown, text_anchor="end", class_="halo"),
            *_interval(finding, scale, y, f"s{series}"),
        ]
    parts.append(text(width, bottom + below, unit, text_anchor="end", class_="tick"))
    desc = "; ".join(f"{label}: {finding}" for label, finding, _ in rows)
    height = bottom + (below + 6 if unit or rule is not None else 20)
    return chart(width, height, title, desc, *parts)


def _domain(findings: Sequence[Finding]) -> tuple[float, float]:
    ends = [x for f in findings for x in (f.low, f.high) if x is not None] or [0.0, 1.0]
    low, high = min(ends), max(ends)
    # Start at 0 unless that would squeeze all that differs into a corner.
    if low > 0 and high - low > 0.25 * high:
        low = 0.0
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return (low if low == 0.0 else low - margin), high + margin


def _grid_below(
    scale: Linear, bottom: Number, rows: Sequence[tuple[str, Finding, int]], rule: float | None
) -> list[Markup]:
    like = next((f for _, f, _ in rows if f.value is not None), None)
    parts = []
    marks = [] if rule is None else [rule]
    marks += [m for m in ticks(scale.low, scale.high, 5) if rule is None or _apart(scale, m, rule)]
    for mark in marks:
        x = scale(mark)
        shown = wording.percent(mark) if like and wording.is_percent(like) else _round(mark)
        parts.append(line(x, 6, x, bottom, "grid"))
        parts.append(text(x, bottom + 15, plain_tick(shown), text_anchor="middle", class_="tick"))
    return parts


def _apart(scale: Linear, mark: float, other: float) -> bool:
    """Whether the labels of two marks would not touch."""
    return abs(scale(mark) - scale(other)) > 30


def _round(mark: float) -> str:
    return f"{mark:g}".replace("-", wording.MINUS)


def plain_tick(shown: str) -> str:
    """`0.500` as `0.5` and `10.0 %` as `10 %`: a tick is exact, it needs no digits to say so."""
    body, space, unit = shown.partition(" ")
    if "." in body:
        body = body.rstrip("0").rstrip(".")
    return body + space + unit


def roc(curves: Sequence[Curve], outsiders: int, width: int = 560, height: int = 430) -> Markup:
    """ROC staircases on two logarithmic axes from 0.1 % to 100 %.

    What counts is the left edge: how many members are found while nearly no outsider is accused.
    Rates below one outsider in all cannot be told apart from 0, and are shaded.
    """
    across = Logarithmic(FLOOR, 1.0, 64, width - 14)
    up = Logarithmic(FLOOR, 1.0, height - 52, 12)
    parts = [*_unresolved(across, up, outsiders), *_decade_grid(across, up, width, height)]
    lines = [_staircase(curve.roc, across, up) for curve in curves]
    for curve, points in reversed(list(zip(curves, lines, strict=True))):
        if len(points) > 1:
            thick = " main" if curve.main else ""
            parts.append(path(points, f"curve s{curve.series}{thick}"))
        parts += _rate_bars(curve, across, up)
    parts += _curve_labels(curves, lines, Box(66, 14, width - 16, height - 54))
    desc = "; ".join(f"{c.name}: {_reading(c.roc)}" for c in curves)
    return chart(width, height, "ROC curves on logarithmic axes", desc, *parts)


def _reading(curve: Roc) -> str:
    shown = [
        f"{wording.percent(tpr_at(curve, rate))} of members at {wording.percent(rate)} of outsiders"
        for rate in (0.001, 0.01, 0.1)
    ]
    return ", ".join(shown)


def pixel_of(fpr: float, pixels: int) -> int:
    """Which of so many pixels on the logarithmic axis a false positive rate falls on."""
    return round(Logarithmic(FLOOR, 1.0, 0, pixels - 1)(fpr))


def tpr_at(curve: Roc, fpr: float) -> float:
    """Height of the staircase at a false positive rate: the last step that is not beyond it."""
    reached = [t for f, t in zip(curve.fpr, curve.tpr, strict=True) if f <= fpr]
    return max(reached, default=0.0)


def _staircase(curve: Roc, across: Logarithmic, up: Logarithmic) -> list[Point]:
    """Pixels of the steps from the left edge on; what lies under the lower edge is left out."""
    height = tpr_at(curve, FLOOR)
    points = [(across(FLOOR), up(height))] if height >= FLOOR else []
    for fpr, tpr in zip(curve.fpr, curve.tpr, strict=True):
        if fpr <= FLOOR or tpr < FLOOR:
            continue
        x, y = across(fpr), up(tpr)
        points.append((x, points[-1][1] if points else up(FLOOR)))
        points.append((x, y))
    return points


def _unresolved(across: Logarithmic, up: Logarithmic, outsiders: int) -> list[Markup]:
    if outsiders < 1 or 1 / outsiders <= FLOOR:
        return []
    left, right = across(FLOOR), across(1 / outsiders)
    top, bottom = up(1.0), up(FLOOR)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    shade = path(corners, "shade", close=True)
    told = f"FPR below 1 in {outsiders:,}: not told from 0"
    if right - left < 7 * len(told):
        return [shade]
    return [shade, text(right - 6, bottom - 8, told, text_anchor="end", class_="tick")]


def _decade_grid(across: Logarithmic, up: Logarithmic, width: int, height: int) -> list[Markup]:
    parts = [path([(across(r), up(r)) for r in (FLOOR, 1.0)], "chance"), _guessing(across, up)]
    for rate in _DECADES:
        shown = plain_tick(wording.percent(rate))
        parts += [
            line(across(rate), up(1.0), across(rate), up(FLOOR), "grid"),
            line(across(FLOOR), up(rate), across(1.0), up(rate), "grid"),
            text(across(rate), height - 34, shown, text_anchor=_anchor_end(rate), class_="tick"),
            text(58, up(rate) + 4, shown, text_anchor="end", class_="tick"),
        ]
    middle = (across(FLOOR) + across(1.0)) / 2
    parts.append(
        text(middle, height - 10, "outsiders wrongly called members (FPR)", text_anchor="middle")
    )
    centre = (up(FLOOR) + up(1.0)) / 2
    parts.append(
        text(
            14,
            centre,
            "members found (TPR)",
            text_anchor="middle",
            transform=f"rotate(-90 14 {centre:g})",
        )
    )
    return parts


def _guessing(across: Logarithmic, up: Logarithmic) -> Markup:
    """The diagonal's name, below it and along it."""
    x, y = across(0.03), up(0.03) + 15
    steep = (up(1.0) - up(FLOOR)) / (across(1.0) - across(FLOOR))
    turn = f"rotate({math.degrees(math.atan(steep)):.1f} {x:.1f} {y:.1f})"
    return text(x, y, "guessing", text_anchor="middle", class_="tick", transform=turn)


def _anchor_end(rate: float) -> str:
    return "end" if rate == 1.0 else "middle"


def _rate_bars(curve: Curve, across: Logarithmic, up: Logarithmic) -> list[Markup]:
    parts = []
    for rate, finding in curve.rates:
        if finding.value is None or finding.low is None or finding.high is None:
            continue
        x = across(rate)
        low, high, style = up(finding.low), up(finding.high), f"s{curve.series}"
        parts += [
            line(x, low, x, high, f"bar {style}"),
            line(x - 4, low, x + 4, low, f"cap {style}"),
            line(x - 4, high, x + 4, high, f"cap {style}"),
            element("circle", cx=x, cy=up(finding.value), r=4.0, class_=f"dot {style}"),
        ]
    return parts


def _curve_labels(curves: Sequence[Curve], lines: list[list[Point]], frame: Box) -> list[Markup]:
    names = [wording.clip(curve.name, 22) for curve in curves]
    spots = place(names, lines, frame)
    return [
        text(spot[0], spot[1], name, class_=f"direct s{curve.series}")
        for curve, name, spot in zip(curves, names, spots, strict=True)
        if spot is not None
    ]


def distributions(
    shown: Histogram, unit: str, name: str, counts: tuple[int, int], small: bool = False
) -> Markup:
    """Scores of members (a line) over those of outsiders (an area), each as shares of its side."""
    width, height = (290, 186) if small else (640, 280)
    top, bottom, left = 26, height - (38 if small else 44), 8 if small else 56
    sides = [_shares(side) for side in (shown.members, shown.outsiders)]
    highest = max(max(side) for side in sides) or 1.0
    across = Linear(shown.edges[0], shown.edges[-1], left, width - 10)
    up = Linear(0.0, highest * 1.06, bottom, top)
    parts = _axes(across, up, unit, small, height)
    outline = [_outline(side, shown.edges, across, up) for side in sides]
    parts += [path(outline[1], "area outsiders", close=True), path(outline[1], "edge outsiders")]
    parts += [path(outline[0], "area members", close=True), path(outline[0], "edge members")]
    parts += _side_labels(shown, sides, counts, width, left, small)
    means = [wording.number(_mean(shown.edges, side)) for side in sides]
    desc = f"members around {means[0]}, outsiders around {means[1]}, in {unit or 'the score'}"
    return chart(width, height, f"Scores of {name}", desc, *parts)


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts) or 1.0
    return [count / total for count in counts]


def _mean(edges: Sequence[float], shares: Sequence[float]) -> float:
    centres = [(a + b) / 2 for a, b in pairwise(edges)]
    return sum(c * s for c, s in zip(centres, shares, strict=True))


def _outline(
    shares: Sequence[float], edges: Sequence[float], across: Linear, up: Linear
) -> list[Point]:
    points = [(across(edges[0]), up(0.0))]
    for left, right, share in zip(edges[:-1], edges[1:], shares, strict=True):
        points += [(across(left), up(share)), (across(right), up(share))]
    return [*points, (across(edges[-1]), up(0.0))]


def _axes(across: Linear, up: Linear, unit: str, small: bool, height: int) -> list[Markup]:
    base = up(0.0)
    parts = [line(across.start, base, across.end, base, "axis")]
    for mark in ticks(across.low, across.high, 5 if small else 6):
        shown = plain_tick(wording.number(mark))
        anchor = "end" if across(mark) > across.end - 12 else "middle"
        anchor = "start" if across(mark) < across.start + 12 else anchor
        parts.append(line(across(mark), base, across(mark), base + 4, "axis"))
        parts.append(text(across(mark), base + 17, shown, text_anchor=anchor, class_="tick"))
    middle = (across.start + across.end) / 2
    scored = "score" + (f" ({unit})" if unit else "")
    if small:
        return [*parts, text(middle, height - 4, scored, text_anchor="middle", class_="tick")]
    for mark in ticks(up.low, up.high, 4):
        shown = plain_tick(wording.percent(mark))
        parts.append(line(across.start, up(mark), across.end, up(mark), "grid"))
        parts.append(text(50, up(mark) + 4, shown, text_anchor="end", class_="tick"))
    below = f"{scored}: the higher, the more likely a member"
    centre = (up.start + up.end) / 2
    turn = f"rotate(-90 12 {centre:g})"
    parts.append(text(middle, height - 8, below, text_anchor="middle"))
    parts.append(text(12, centre, "share of side", text_anchor="middle", transform=turn))
    return parts


def _side_labels(
    shown: Histogram,
    sides: list[list[float]],
    counts: tuple[int, int],
    width: int,
    left: int,
    small: bool,
) -> list[Markup]:
    """Each side is named on the side of the chart where it lies."""
    names = ["members", "outsiders"]
    labels = names if small else [wording.counted(c, n) for c, n in zip(counts, names, strict=True)]
    ahead = 0 if _mean(shown.edges, sides[0]) >= _mean(shown.edges, sides[1]) else 1
    behind = 1 - ahead
    return [
        text(left + 2, 14, f"← {labels[behind]}", class_=f"direct {names[behind]}"),
        text(
            width - 10, 14, f"{labels[ahead]} →", class_=f"direct {names[ahead]}", text_anchor="end"
        ),
    ]


def trace(title: str, points: Sequence[tuple[float, float]], series: int, unit: str) -> Markup:
    """A quantity over training steps, with its first and last value in words."""
    width, height = 640, 190
    across = Linear(points[0][0], points[-1][0], 64, width - 100)
    values = [value for _, value in points]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    up = Linear(low - margin, high + margin, height - 40, 24)
    parts = []
    for mark in ticks(up.low, up.high, 5):
        parts.append(line(across.start, up(mark), across.end, up(mark), "grid"))
        shown = plain_tick(wording.number(mark))
        parts.append(text(58, up(mark) + 4, shown, text_anchor="end", class_="tick"))
    for mark in ticks(across.low, across.high, 6):
        shown = plain_tick(wording.number(mark))
        y = height - 22
        parts.append(text(across(mark), y, shown, text_anchor="middle", class_="tick"))
    parts.append(path([(across(x), up(y)) for x, y in points], f"curve s{series}"))
    last = wording.number(values[-1])
    parts.append(text(across.end + 6, up(values[-1]) + 4, last, class_=f"direct s{series}"))
    axis = f"{title}{f' ({unit})' if unit else ''}"
    parts.append(text(64, 14, axis, class_="label"))
    parts.append(text((across.start + across.end) / 2, height - 4, "step", text_anchor="middle"))
    said = f"from {wording.number(values[0])} to {last} over {len(points)} logged steps"
    return chart(width, height, f"{title} over training steps", said, *parts)
