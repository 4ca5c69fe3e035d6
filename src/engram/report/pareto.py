"""What usefulness costs: points and their front, and the small courses beside a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from engram.core.finding import Finding
from engram.report import wording
from engram.report.charts import plain_tick
from engram.report.comparison import front
from engram.report.labels import Box, Point, place
from engram.report.svg import Linear, Logarithmic, Number, chart, element, line, path, text, ticks

WIDE = 3.0
"""Perplexities that differ by more than this factor are drawn on a logarithmic axis."""
BELOW = "validation perplexity: the lower, the more useful"
Scale = Linear | Logarithmic


@dataclass(frozen=True)
class Plotted:
    """One target: its perplexity, what it gives away, and where its training passed."""

    name: str
    across: Finding
    up: Finding
    course: tuple[tuple[float, float], ...] = ()
    series: int | None = None
    """Its style; None: by its place."""


def pareto(
    title: str,
    targets: Sequence[Plotted],
    floor: float | None,
    width: int = 400,
    height: int = 330,
    below: str = BELOW,
    chance: float | None = None,
) -> Markup:
    """Points with both intervals, their names beside them, and the front: nobody is better twice.

    Points on the front are filled, the others hollow; thin lines are the course of training.

    Args:
        title: What the vertical axis is; it stands above the figure, not in it.
        targets: In the order of their colours.
        floor: A value that the axis reaches down to.
        width: In pixels.
        height: In pixels.
        below: What the horizontal axis is; its first words, up to a colon, name it.
        chance: What an attacker gets who knows nothing; a line is drawn there.
    """
    shown = [
        (n if t.series is None else t.series, t)
        for n, t in enumerate(targets)
        if t.across.value is not None and t.up.value is not None
    ]
    if len(shown) < 2:
        return Markup("")
    across, up = _scales([target for _, target in shown], floor, width, height)
    percent = any(wording.is_percent(target.up) for _, target in shown)
    parts = _axes(across, up, width, height, percent, below)
    if chance is not None and up.low <= chance <= up.high:
        parts.append(line(across.start, up(chance), across.end, up(chance), "chance"))
        parts.append(text(across.start + 4, up(chance) - 5, "chance", class_="tick halo"))
    points = [(t.across.value or 0.0, t.up.value or 0.0) for _, t in shown]
    best = front(points)
    parts.append(_front([p for p, on in zip(points, best, strict=True) if on], across, up))
    obstacles: list[list[Point]] = []
    for number, target in shown:
        style = f"s{number}"
        inside = [(across(x), up(y)) for x, y in target.course if _within(across, up, x, y)]
        if len(inside) > 1:
            parts.append(path(inside, f"course {style}"))
    for (number, target), on in zip(shown, best, strict=True):
        parts += _point(target, across, up, f"s{number}", on)
        obstacles.append(_around(target, across, up))
    names = [wording.clip(target.name, 30) for _, target in shown]
    frame = Box(across.start + 2, 14, width - 6, height - 52)
    for (number, _), name, spot in zip(shown, names, place(names, obstacles, frame), strict=True):
        if spot is not None:
            parts.append(text(spot[0], spot[1], name, class_=f"direct s{number}"))
    useful = below.partition(":")[0]
    desc = "; ".join(
        f"{t.name}: {useful} {wording.value_of(t.across)}, {title} {wording.value_of(t.up)}"
        + (", on the front" if on else "")
        for (_, t), on in zip(shown, best, strict=True)
    )
    return chart(width, height, f"{title} against {useful}", desc, *parts)


def _scales(
    targets: Sequence[Plotted], floor: float | None, width: int, height: int
) -> tuple[Scale, Linear]:
    xs = [x for t in targets for x in (t.across.low, t.across.high) if x is not None and x > 0]
    ys = [y for t in targets for y in (t.up.low, t.up.high) if y is not None]
    ys += [] if floor is None else [floor]
    low, high = min(xs, default=1.0), max(xs, default=2.0)
    if high > WIDE * low:
        across: Scale = Logarithmic(low / 1.15, high * 1.15, 50, width - 12)
    else:
        margin = 0.08 * (high - low) or 0.1 * high
        across = Linear(low - margin, high + margin, 50, width - 12)
    bottom, top = min(ys, default=0.0), max(ys, default=1.0)
    margin = 0.08 * (top - bottom) or 0.05 * max(abs(top), 1.0)
    bottom = max(bottom - margin, 0.0) if bottom >= 0 else bottom - margin
    return across, Linear(bottom, top + margin, height - 54, 14)


def _axes(
    across: Scale, up: Linear, width: int, height: int, percent: bool, below: str
) -> list[Markup]:
    parts: list[Markup] = []
    for mark in _marks(across):
        x, anchor = across(mark), "end" if across(mark) > width - 40 else "middle"
        parts.append(line(x, up.end, x, up.start, "grid"))
        shown = plain_tick(wording.number(mark))
        parts.append(text(x, height - 36, shown, text_anchor=anchor, class_="tick"))
    for mark in ticks(up.low, up.high, 5):
        parts.append(line(across.start, up(mark), across.end, up(mark), "grid"))
        shown = plain_tick(wording.percent(mark) if percent else wording.number(mark))
        parts.append(text(44, up(mark) + 4, shown, text_anchor="end", class_="tick"))
    parts.append(text((across.start + across.end) / 2, height - 10, below, text_anchor="middle"))
    return parts


def _marks(across: Scale) -> Sequence[Number]:
    if isinstance(across, Linear):
        return ticks(across.low, across.high, 5)
    found = [m * 10.0**p for p in range(-2, 8) for m in (1, 2, 5)]
    return [mark for mark in found if across.low <= mark <= across.high]


def _front(points: Sequence[tuple[float, float]], across: Scale, up: Linear) -> Markup:
    """A staircase: what lies above and to the right of it is worse twice."""
    steps: list[Point] = []
    for x, y in sorted(points):
        steps.append((across(x), steps[-1][1] if steps else up.end))
        steps.append((across(x), up(y)))
    steps.append((across.end, steps[-1][1]))
    return path(steps, "front")


def _within(across: Scale, up: Linear, x: float, y: float) -> bool:
    return across.low <= x <= across.high and up.low <= y <= up.high


def _point(target: Plotted, across: Scale, up: Linear, style: str, on: bool) -> list[Markup]:
    x, y = across(target.across.value or 0.0), up(target.up.value or 0.0)
    parts = []
    if target.across.low is not None and target.across.high is not None:
        parts.append(line(across(target.across.low), y, across(target.across.high), y,
                          f"whisker {style}"))  # fmt: skip
    if target.up.low is not None and target.up.high is not None:
        parts.append(line(x, up(target.up.low), x, up(target.up.high), f"whisker {style}"))
    kind = "dot" if on else "dot hollow"
    return [*parts, element("circle", cx=x, cy=y, r=6.0, class_=f"{kind} {style}")]


def _around(target: Plotted, across: Scale, up: Linear) -> list[Point]:
    """Where a name may stand: around the point and along its vertical interval."""
    x, y = across(target.across.value or 0.0), up(target.up.value or 0.0)
    low, high = (up(e) for e in (target.up.low or 0.0, target.up.high or 0.0))
    return [(x, low), (x, y), (x, high), (x + 5, y), (x - 5, y)]


def course(
    title: str,
    values: Sequence[float],
    series: int,
    mark: float | None = None,
    ends: tuple[float, float] | None = None,
) -> Markup:
    """A small line without axes: how a number went from the first observation to the last.

    Args:
        title: What it is.
        values: One an observation, at least two.
        series: Its colour.
        mark: Where on it to put a dot, in observations from 0.
        ends: The values of the lower and the upper edge; None: its own least and largest.
    """
    width, height = 96, 26
    across = Linear(0, len(values) - 1, 4, width - 4)
    up = Linear(*(ends or (min(values), max(values))), height - 5, 5)
    points = [(across(n), up(value)) for n, value in enumerate(values)]
    style = f"s{series}"
    parts = [path(points, f"course {style}")]
    if mark is not None and 0 <= mark <= len(values) - 1:
        before = int(mark)
        after = min(before + 1, len(values) - 1)
        value = values[before] + (mark - before) * (values[after] - values[before])
        parts.append(element("circle", cx=across(mark), cy=up(value), r=3.5, class_=f"dot {style}"))
    said = f"from {wording.number(values[0])} to {wording.number(values[-1])}"
    return chart(width, height, title, said, *parts)
