"""What deletions from a sharded model cost by number of requests, as a chart."""

from collections.abc import Sequence

from markupsafe import Markup

from engram.report import wording
from engram.report.charts import plain_tick
from engram.report.costs import Costs
from engram.report.palette import styles
from engram.report.svg import Linear, Logarithmic, chart, element, line, path, text

WIDTH, HEIGHT = 640, 300
MARKS = (1, 10, 100, 1000, 10_000, 100_000)


def cost_chart(costs: Costs) -> Markup:
    """Expected cost over the number of requests, with a dot for what was measured."""
    most = max(2, costs.requests[-1], costs.asked)
    across = Logarithmic(1, most, 64, WIDTH - 130)
    high = max([1.0, costs.measured or 0.0, *(s for c in costs.curves for s in c.shares)])
    up = Linear(0.0, high, HEIGHT - 44, 20)
    parts = [*_grid(across, up, most), line(across(1), up(1.0), across(most), up(1.0), "chance")]
    taken: list[float] = []
    drawn = zip(styles([curve.name for curve in costs.curves]), costs.curves, strict=True)
    for series, curve in drawn:
        pairs = zip(costs.requests, curve.shares, strict=True)
        points = [(across(max(1, k)), up(share)) for k, share in pairs]
        parts.append(path(points, f"curve s{series}"))
        y = _free(float(points[-1][1]) + 4, taken)
        name = wording.clip(curve.name, 18)
        parts.append(text(across(most) + 6, y, name, class_=f"direct s{series}"))
    if costs.measured is not None:
        x, y = across(max(1, costs.asked)), up(costs.measured)
        parts.append(element("circle", cx=x, cy=y, r=4.5, class_="dot s4"))
        shown = f"measured: {plain_tick(wording.percent(costs.measured))}"
        far = x > WIDTH / 2
        end = "end" if far else None
        parts.append(text(x + (-8 if far else 8), y - 8, shown, text_anchor=end, class_="halo"))
    return chart(WIDTH, HEIGHT, "Cost of deletions by number of requests", _said(costs), *parts)


def _grid(across: Logarithmic, up: Linear, most: int) -> list[Markup]:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        shown = plain_tick(wording.percent(share))
        parts.append(line(across.start, up(share), across.end, up(share), "grid"))
        parts.append(text(58, up(share) + 4, shown, text_anchor="end", class_="tick"))
    for mark in [m for m in MARKS if m <= most]:
        x = across(mark)
        parts.append(text(x, HEIGHT - 26, f"{mark:,}", text_anchor="middle", class_="tick"))
    middle = (across.start + across.end) / 2
    parts.append(text(middle, HEIGHT - 6, "records to delete", text_anchor="middle"))
    parts.append(text(64, 12, "share of training everything again", class_="label"))
    return parts


def _free(y: float, taken: list[float], apart: float = 16.0) -> float:
    """The nearest height above or at `y` where no other label stands."""
    while any(abs(y - other) < apart for other in taken):
        y -= apart
    taken.append(y)
    return y


def _said(costs: Costs) -> str:
    ends: Sequence[str] = [
        f"{c.name}: {wording.percent(c.shares[0])} for {costs.requests[0]:,}, "
        f"{wording.percent(c.shares[-1])} for {costs.requests[-1]:,}"
        for c in costs.curves
    ]
    measured = "" if costs.measured is None else f"; measured {wording.percent(costs.measured)}"
    return "; ".join(ends) + measured
