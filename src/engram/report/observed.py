"""Memorisation by epoch: what a monitor saw of a training, as charts, a table, and a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from engram.core.finding import Finding
from engram.report import wording
from engram.report.labels import Box, Point, place
from engram.report.svg import Linear, chart, element, line, path, text, ticks

GROUPS = (
    ("Memorisation", "share", ("verbatim", "ngram", "ngram_set", "auc")),
    ("Perplexity", "", ("train_perplexity", "validation_perplexity")),
    ("Exposure of canaries", "bits", ("exposure",)),
)
"""Title, unit and findings of each chart."""
NAMES = {
    "verbatim": "verbatim rate",
    "ngram": "n-grams in place",
    "ngram_set": "n-grams anywhere",
    "auc": "membership AUC",
    "exposure": "mean exposure",
    "train_perplexity": "trained records",
    "validation_perplexity": "validation records",
}
"""How findings of a monitor are called."""
UNITS = {"exposure": "bits", "verbatim": "share", "ngram": "share", "ngram_set": "share"}
STYLES = {
    "verbatim": 2, "ngram": 6, "ngram_set": 7, "auc": 5, "exposure": 4,
    "train_perplexity": 0, "validation_perplexity": 1,
}  # fmt: skip
"""How they are drawn: trained records are members, validation records outsiders."""
IN_TABLES = {
    "train_perplexity": "perplexity of trained records",
    "validation_perplexity": "perplexity of validation records",
}
"""Where no title above says what they are of."""
WIDTH, HEIGHT, LEFT = 640, 230, 64


@dataclass(frozen=True)
class Observation:
    """What a monitor saw at one moment of a training.

    Attributes:
        epoch: How often each record had been seen.
        kept: Whether these weights are the model.
        findings: By the names of `NAMES`.
    """

    epoch: float
    kept: bool
    findings: tuple[Finding, ...]

    def named(self, name: str) -> Finding | None:
        """The finding of this name, if it was measured."""
        found = (f for f in self.findings if f.name == name and f.value is not None)
        return next(found, None)


def charts(seen: Sequence[Observation]) -> tuple[Markup, ...]:
    """One chart a group of numbers that was observed at least twice."""
    drawn = []
    for title, unit, names in GROUPS:
        curves = {name: _points(seen, name) for name in names}
        curves = {name: points for name, points in curves.items() if len(points) > 1}
        if curves and seen[0].epoch < seen[-1].epoch:
            drawn.append(_chart(title, unit, curves, seen))
    return tuple(drawn)


def _points(seen: Sequence[Observation], name: str) -> list[tuple[float, Finding]]:
    pairs = [(each.epoch, each.named(name)) for each in seen]
    return [(epoch, found) for epoch, found in pairs if found is not None]


def _chart(
    title: str,
    unit: str,
    curves: Mapping[str, list[tuple[float, Finding]]],
    seen: Sequence[Observation],
) -> Markup:
    across = Linear(seen[0].epoch, seen[-1].epoch, LEFT, WIDTH - 16)
    up = Linear(*_ends(unit, curves), HEIGHT - 40, 26)
    lines: list[list[Point]] = [
        [(across(epoch), up(found.value or 0.0)) for epoch, found in points]
        for points in curves.values()
    ]
    styles = [STYLES[name] for name in curves]
    parts = [*_axes(across, up, unit), *_kept(across, up, seen)]
    if "auc" in curves:
        parts.append(line(across.start, up(0.5), across.end, up(0.5), "chance"))
        parts.append(text(across.end - 4, up(0.5) - 5, "AUC by chance", text_anchor="end",
                          class_="tick halo"))  # fmt: skip
    parts += [
        path(_band(points, across, up), f"band s{style}", close=True)
        for style, points in zip(styles, curves.values(), strict=True)
    ]
    for style, drawn in reversed(list(zip(styles, lines, strict=True))):
        parts.append(path(drawn, f"curve s{style}"))
    parts += _labels(list(curves), styles, lines)
    parts.append(text(LEFT, 14, f"{title}{f' ({unit})' if unit else ''}", class_="label"))
    said = "; ".join(f"{NAMES[name]}: {_said(points)}" for name, points in curves.items())
    return chart(WIDTH, HEIGHT, f"{title} by epoch", said, *parts)


def _ends(unit: str, curves: Mapping[str, list[tuple[float, Finding]]]) -> tuple[float, float]:
    """From the lowest to the highest end of any interval; shares from 0 to 1."""
    if unit == "share":
        return 0.0, 1.0
    found = [f for points in curves.values() for _, f in points]
    ends = [x for f in found for x in (f.low, f.value, f.high) if x is not None]
    margin = 0.06 * (max(ends) - min(ends)) or 0.1 * abs(max(ends)) or 1.0
    return min(ends) - margin, max(ends) + margin


def _band(points: list[tuple[float, Finding]], across: Linear, up: Linear) -> list[Point]:
    """The interval at every look: the upper ends there, the lower ends back."""
    upper = [(across(e), up(f.value or 0.0 if f.high is None else f.high)) for e, f in points]
    lower = [(across(e), up(f.value or 0.0 if f.low is None else f.low)) for e, f in points]
    return [*upper, *reversed(lower)]


def _axes(across: Linear, up: Linear, unit: str) -> list[Markup]:
    parts = []
    for mark in ticks(up.low, up.high, 4):
        shown = f"{100 * mark:g} %" if unit == "share" else wording.number(mark)
        parts.append(line(across.start, up(mark), across.end, up(mark), "grid"))
        parts.append(text(58, up(mark) + 4, shown, text_anchor="end", class_="tick"))
    for mark in ticks(across.low, across.high, 8):
        x, y = across(mark), HEIGHT - 22
        parts.append(text(x, y, f"{mark:g}", text_anchor="middle", class_="tick"))
    middle = (across.start + across.end) / 2
    parts.append(text(middle, HEIGHT - 4, "epoch", text_anchor="middle"))
    return parts


def _kept(across: Linear, up: Linear, seen: Sequence[Observation]) -> list[Markup]:
    """A line where the weights are from."""
    kept = next((each for each in seen if each.kept), None)
    if kept is None:
        return []
    x = across(kept.epoch)
    beside = max(x, LEFT + 270)  # above the figure, past its title
    anchor = "end" if beside > WIDTH - 80 else "middle"
    return [
        line(x, up.end - 4, x, up.start, "chance"),
        text(beside, up.end - 12, f"kept: epoch {kept.epoch:g}", text_anchor=anchor),
    ]


def _labels(names: list[str], styles: list[int], lines: list[list[Point]]) -> list[Markup]:
    shown = [NAMES[name] for name in names]
    spots = place(shown, lines, Box(LEFT + 2, 18, WIDTH - 6, HEIGHT - 42))
    dots = [element("circle", cx=x, cy=y, r=2.5, class_=f"dot s{s}")
            for s, drawn in zip(styles, lines, strict=True) for x, y in drawn]  # fmt: skip
    return dots + [
        text(spot[0], spot[1], name, class_=f"direct s{style}")
        for name, style, spot in zip(shown, styles, spots, strict=True)
        if spot is not None
    ]


def _said(points: list[tuple[float, Finding]]) -> str:
    first, last = points[0], points[-1]
    said = [
        f"{wording.number(found.value or 0.0)} at epoch {epoch:g}" for epoch, found in (first, last)
    ]
    return ", ".join(said)


def telling(seen: Sequence[Observation]) -> tuple[Finding, ...]:
    """The numbers of the weights that were kept, and of the last ones, for a table."""
    if not seen:
        return ()
    kept = next((each for each in seen if each.kept), seen[-1])
    moments = [kept] if kept is seen[-1] else [kept, seen[-1]]
    return tuple(
        found.tagged(
            name=IN_TABLES.get(found.name, NAMES.get(found.name, found.name)),
            split=f"epoch {each.epoch:g}, {'kept' if each.kept else 'let go'}",
            unit=found.unit or UNITS.get(found.name, ""),
        )
        for each in moments
        for found in each.findings
    )


def of_trace(
    trace: Sequence[Mapping[str, float | int]], kept: int | None
) -> tuple[Observation, ...]:
    """Observations from the entries of a trace; `kept` is the place of those kept, None: the last.

    Each number `x` of a trace has `x_low`, `x_high` and `x_n` beside it.
    """
    kept = len(trace) - 1 if kept is None else kept
    return tuple(
        Observation(entry["epoch"], place == kept, tuple(_findings(entry)))
        for place, entry in enumerate(trace)
    )


def _findings(entry: Mapping[str, float | int]) -> list[Finding]:
    return [
        Finding(
            name,
            entry[name],
            entry[f"{name}_low"],
            entry[f"{name}_high"],
            int(entry[f"{name}_n"]),
            UNITS.get(name, ""),
        )
        for name in NAMES
        if name in entry and f"{name}_n" in entry
    ]


def page(seen: Sequence[Observation], style: str) -> str:
    """A page of its own: the charts, and every number with its interval."""
    keys = [name for name in NAMES if any(each.named(name) for each in seen)]
    heads = ["epoch", *(IN_TABLES.get(name, NAMES[name]) for name in keys)]
    rows = "".join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                Markup("<td>{}</td>").format(cell)
                for cell in [
                    f"{o.epoch:g}{' (kept)' if o.kept else ''}",
                    *(_cell(o.named(name)) for name in keys),
                ]
            )
        )
        for o in seen
    )
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f'<div class="scroll wide">{drawn}</div>' for drawn in charts(seen))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Memorisation by epoch</title><style>{style}</style></head><body>"
        f'<div class="page"><main><h1>Memorisation by epoch</h1><section class="card">{body}'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        "<p>95 % intervals; n: records, or canaries. The same records were looked at each time, "
        "and training may have been stopped by them: report rates on others.</p>"
        "</section></main></div></body></html>\n"
    )


def _cell(found: Finding | None) -> str:
    if found is None:
        return wording.NOTHING
    return f"{wording.value_of(found)} {wording.interval_of(found)} (n={found.n:,})"
