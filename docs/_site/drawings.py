"""Figures of the explanations: drawn by the reports' code, from formulas or studies' results."""

from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np

from engram.core import Finding
from engram.engine.study import find, read_results, results_file
from engram.report.charts import Curve, interval_rows, roc
from engram.report.document import Roc
from engram.stats.claims import over_seeds

FOLDER = "explanations/figures"
SHIFT = 0.36
"""Standard deviations by which the first attack moves every member: an AUC of 0.60."""
NAMED = 0.2
"""Share of members that the second attack is sure of: an AUC of 0.60 too."""
STYLE = """<style>
svg { background: #ffffff }
text { font: 13px sans-serif; fill: #4a525c }
.label { fill: #1b2128; font-weight: 600 }
.halo, .direct { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round }
.direct { fill: var(--c); font-weight: 650 }
.grid { stroke: #e3e0da } .axis { stroke: #57606b }
.chance { stroke: #57606b; stroke-dasharray: 3 3; fill: none }
.bar { stroke: var(--c); stroke-width: 2.5 } .cap { stroke: var(--c); stroke-width: 1.5 }
.dot { fill: var(--c); stroke: #ffffff; stroke-width: 1.5 }
.curve { fill: none; stroke: var(--c); stroke-width: 2.5 } .curve.s1 { stroke-dasharray: 7 3 }
.s0 { --c: #b84e00 } .s1 { --c: #0072b2 }
</style>"""


def drawings(studies: Path) -> dict[str, str]:
    """SVG files by their paths in the site."""
    drawn = {
        "two-attacks": two_attacks(),
        "epochs": epochs(studies),
        "left-behind": left_behind(studies),
    }
    return {f"{FOLDER}/{name}.svg": _file(text) for name, text in drawn.items()}


def two_attacks() -> str:
    """Two attacks with an AUC of 0.60, of which one is dangerous."""
    normal, rates = NormalDist(), np.geomspace(1e-4, 1.0, 300).tolist()
    weak = [normal.cdf(SHIFT + normal.inv_cdf(min(r, 1 - 1e-9))) for r in rates]
    sure = [NAMED + (1 - NAMED) * r for r in rates]
    curves = [
        Curve("sure of one in five", Roc(tuple(rates), tuple(sure)), 0),
        Curve("a little on everybody", Roc(tuple(rates), tuple(weak)), 1),
    ]
    return str(roc(curves, outsiders=10_000))


def epochs(studies: Path) -> str:
    """The loss attack after more and more epochs, over the seeds of a study."""
    rows = {
        "never trained on them": "AUC of the base",
        "after 1 epoch": "AUC after 1 epochs",
        "after 4 epochs": "AUC after 4 epochs",
        "after 12 epochs": "AUC after 12 epochs",
    }
    title = "AUC of the loss attack, mean over seeds"
    found = _over_seeds(studies, "loss-by-epochs", list(rows.values()))
    lines = [(label, each, 0) for label, each in zip(rows, found, strict=True)]
    return str(interval_rows(title, lines, domain=(0.4, 1.0), rule=0.5, width=460))


def left_behind(studies: Path) -> str:
    """The suppression index of every unlearner of a study, the least first."""
    start = "suppression index of "
    results = _results(studies, "llm-unlearning")
    names = [name for name in results.seeds[0].measurements if name.startswith(start)]
    found = _over_seeds(studies, "llm-unlearning", names)
    known = [
        (n.removeprefix(start), f) for n, f in zip(names, found, strict=True) if f.value is not None
    ]
    lines = [(name, each, 0) for name, each in sorted(known, key=lambda pair: pair[1].value)]
    title = "Suppression index by unlearner, mean over seeds"
    return str(interval_rows(title, lines, domain=(0.0, 1.0), rule=0.2, width=460))


def _results(studies: Path, name: str):  # noqa: ANN202 - what the study keeps
    return read_results(results_file(find(name, studies), "small", Path()), name, "small")


def _over_seeds(studies: Path, study: str, names: Sequence[str]) -> list[Finding]:
    rows = [seed.values() for seed in _results(studies, study).seeds]
    values = [[row[name] for row in rows if row.get(name) is not None] for name in names]
    return [over_seeds(np.array(v, float), n) for v, n in zip(values, names, strict=True)]


def _file(drawn: str) -> str:
    named = drawn.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    head, mark, rest = named.partition(">")
    return f"{head}{mark}{STYLE}{rest}\n"
