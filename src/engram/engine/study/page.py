"""A study's README and the table of all studies: Markdown from results, the same every time."""

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from engram.core import Finding
from engram.engine.study.figures import captions
from engram.engine.study.files import Place
from engram.engine.study.plan import BUDGETS, Judged, Study
from engram.engine.study.results import Results, Seed
from engram.explained import ClaimRow, StudyRow
from engram.stats.claims import ALWAYS, RULES, VERDICTS, over_seeds

Evidence = Mapping[str, tuple[Results, tuple[Judged, ...]]]
"""Results and verdicts by budget, the largest budget first."""

MADE = "<!-- Written by `{command}` from study.py and results/. Do not edit. -->"
MEANING = {
    "smoke": "checks the path in under 15 seconds; says nothing of the claims",
    "small": "minutes on two cores",
    "full": "the paper's size, or as near to it as one GPU comes",
}


def study_page(place: Place, study: Study, evidence: Evidence) -> str:
    """The README of one study."""
    paper = study.paper
    measured = {b: e for b, e in evidence.items() if e[0].seeds}
    parts = [
        MADE.format(command=f"engram study {study.name}"),
        f"# {study.name}",
        place.text,
        f"Paper: {paper.authors} ({paper.year}). [{paper.title}]({paper.url}).",
        *(_claims(place, study, budget, *found) for budget, found in measured.items()),
        figures(place, measured),
    ]
    if not measured:
        parts.append(_claims(place, study, "", *next(iter(evidence.values()))))
    parts += [
        "## How verdicts are reached",
        _rules(study),
        "## How to run it",
        f"    engram study {study.name} --budget small",
        _budgets(study, evidence),
        "## What was tried",
        study.tried.strip() or "Nothing beside the plan.",
        *(_measurements(budget, results) for budget, (results, _) in measured.items()),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def index_page(rows: Sequence[tuple[Place, Study, Evidence]]) -> str:
    """All studies, and how many of their claims hold."""
    head = ("study", "what it asks", "paper", "evidence", *VERDICTS)
    lines = [_index_row(place, study, evidence) for place, study, evidence in rows]
    parts = [
        MADE.format(command="engram study --index"),
        "# Studies",
        "Claims of papers, tested here over several seeds. A claim that fails at our scale stays "
        "in its table: that is a result too. Verdicts are those of the largest budget that was "
        "run.",
        _table(head, lines) if lines else "There are none yet.",
        "## How verdicts are reached",
        "\n".join(f"- {rule}" for rule in RULES.values()) + f"\n\n{ALWAYS}",
    ]
    return "\n\n".join(parts) + "\n"


def verdict_row(place: Place, study: Study, evidence: Evidence) -> StudyRow:
    """A study's verdicts as the pages of methods show them."""
    budget, results, judged = shown(evidence)
    return StudyRow(
        study.name,
        place.summary,
        str(study.paper),
        tuple(study.methods),
        budget,
        len(results.seeds),
        tuple(
            ClaimRow(j.claim.text, j.claim.where, j.claim.paper_value, ours(j), j.ruling.verdict)
            for j in judged
        ),
    )


def shown(evidence: Evidence) -> tuple[str, Results, tuple[Judged, ...]]:
    """The largest budget that was run, its results and verdicts; "" where none was."""
    budget = next((b for b, (results, _) in evidence.items() if results.seeds), "")
    return (budget, *(evidence[budget] if budget else next(iter(evidence.values()))))


def counts(judged: Iterable[Judged]) -> dict[str, int]:
    """How many claims have each verdict."""
    found = [j.ruling.verdict for j in judged]
    return {verdict: found.count(verdict) for verdict in VERDICTS}


def ours(judged: Judged) -> str:
    """Our own numbers for a claim: mean over seeds with its interval, and how many seeds."""
    if judged.ruling.verdict == "not run" and judged.note:
        return judged.note
    found = judged.ruling.findings
    if len(found) == 1:
        return _finding(found[0])
    return "; ".join(f"{f.name}: {_finding(f)}" for f in found)


def _index_row(place: Place, study: Study, evidence: Evidence) -> tuple[str, ...]:
    budget, results, judged = shown(evidence)
    paper = f"[{study.paper.authors} ({study.paper.year})]({study.paper.url})"
    told = f"{budget}, {_seeds(len(results.seeds))}" if budget else "never run"
    link = f"[{study.name}]({place.folder.name}/README.md)"
    return (link, place.summary, paper, told, *(str(n) for n in counts(judged).values()))


def _claims(
    place: Place, study: Study, budget: str, results: Results, judged: tuple[Judged, ...]
) -> str:
    title = f"## Claims: budget {budget}, {_seeds(len(results.seeds))}" if budget else "## Claims"
    head = ("claim", "where in the paper", "paper's number", "tested as", "ours", "verdict")
    rows = [
        (
            j.claim.text,
            j.claim.where,
            j.claim.paper_value or "-",
            str(j.claim.test),
            ours(j),
            f"**{j.ruling.verdict}**",
        )
        for j in judged
    ]
    warning = out_of_date(place, study, budget, results)
    return "\n\n".join(part for part in (title, warning, _table(head, rows)) if part)


def out_of_date(place: Place, study: Study, budget: str, results: Results) -> str:
    """A warning where a study has changed since it was measured; else empty."""
    old = results.stale(place, study.settings(budget)) if budget else ()
    if not old:
        return ""
    return (
        f"**Out of date.** study.py or its settings have changed since seed "
        f"{', '.join(map(str, old))} was measured; `engram study {study.name} --budget "
        f"{budget}` measures again."
    )


def figures(place: Place, budgets: Iterable[str]) -> str:
    """The figures that lie beside a study's results, each under its caption."""
    shown = [
        f"![{caption}]({path.relative_to(place.folder).as_posix()})\n\n{caption}"
        for budget in budgets
        for path, caption in captions(place, budget).items()
    ]
    return "## Figures\n\n" + "\n\n".join(shown) if shown else ""


def _rules(study: Study) -> str:
    used = dict.fromkeys(kind for claim in study.claims for kind in claim.test.kinds)
    lines = [f"- {RULES[kind]}" for kind in RULES if kind in used]
    return (
        "Intervals are 95 % Student t intervals of a mean over seeds; differences are taken "
        "seed by seed.\n\n" + "\n".join(lines) + f"\n\n{ALWAYS}"
    )


def _budgets(study: Study, evidence: Evidence) -> str:
    rows = []
    for budget in BUDGETS:
        if budget == "smoke":
            state = "in every test run"
        elif evidence[budget][0].seeds:
            seconds = [seed.seconds for seed in evidence[budget][0].seeds]
            state = f"{_seeds(len(seconds))}, {sum(seconds):,.0f} seconds"
        else:
            state = "never run" if budget in study.budgets else "never run, and not planned"
        rows.append((budget, MEANING[budget], _settings(study, budget), state))
    return _table(("budget", "what it is", "settings", "run"), rows)


def _settings(study: Study, budget: str) -> str:
    if budget not in study.budgets:
        return "-"
    return _listed(study.settings(budget))


def _measurements(budget: str, results: Results) -> str:
    names = dict.fromkeys(name for seed in results.seeds for name in seed.measurements)
    head = ("measurement", *(f"seed {seed.seed}" for seed in results.seeds), "mean [95 %]")
    rows = [
        (name, *(_entry(seed, name) for seed in results.seeds), _mean(results, name))
        for name in names
    ]
    return (
        f"## Measurements: budget {budget}\n\nSettings: {_listed(results.settings)}\n\n"
        f"{_table(head, rows)}\n\n{_made_with(results.seeds)}"
    )


def _made_with(seeds: Sequence[Seed]) -> str:
    rows = [
        (
            str(seed.seed),
            f"{seed.seconds:,.0f}",
            f"{seed.engram} (sources {seed.source})",
            ", ".join(f"{name} {what}" for name, what in seed.environment.items()),
        )
        for seed in seeds
    ]
    return _table(("seed", "seconds", "Engram", "environment"), rows)


def _entry(seed: Seed, name: str) -> str:
    found = seed.measurements.get(name)
    if found is None:
        return "-"
    if found["value"] is None:
        return str(found["note"])
    unit = f" {found['unit']}" if found.get("unit") else ""
    if found.get("low") is None or found["low"] == found["high"]:
        return f"{_number(found['value'])}{unit}"
    low, high = _number(found["low"]), _number(found["high"])
    return f"{_number(found['value'])} [{low}, {high}]{unit}"


def _mean(results: Results, name: str) -> str:
    values = [seed.values().get(name) for seed in results.seeds]
    known = np.array([v for v in values if v is not None], dtype=np.float64)
    return _interval(over_seeds(known, name)) if len(known) > 1 else "-"


def _finding(found: Finding) -> str:
    return _interval(found) + (f", {_seeds(found.n)}" if found.value is not None else "")


def _interval(found: Finding) -> str:
    if found.value is None or found.low is None or found.high is None:
        return found.note
    if found.low == found.high:
        return f"{_number(found.value)} at every seed"
    return f"{_number(found.value)} [{_number(found.low)}, {_number(found.high)}]"


def _number(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3f}"
    return f"{value:.3g}"


def _seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"


def _listed(settings: Mapping[str, object]) -> str:
    shown = (f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in settings.items())
    return ", ".join(shown) or "none"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
