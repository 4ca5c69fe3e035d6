"""The evidence pages: every claim of every study, with its verdict, from the studies' results."""

import re
from functools import cache
from html import escape
from pathlib import Path

from method_pages import badge, inline

from engram.engine.study import Place, Study, evidence, load, ours, places, study_page
from engram.engine.study.figures import captions
from engram.engine.study.page import Evidence, counts
from engram.stats.claims import ALWAYS, RULES, VERDICTS

Known = tuple[tuple[Place, Study, Evidence], ...]


def nav(folder: Path) -> list[object]:
    """The page of all claims, then a page for each study."""
    return ["evidence/index.md", *({n: f"evidence/{n}.md"} for n in places(folder))]


def pages(folder: Path) -> dict[str, str | bytes]:
    """All pages by their paths, and the figures that they show."""
    known = _known(folder)
    made: dict[str, str | bytes] = {"evidence/index.md": overview(known)}
    for place, study, found in known:
        made[f"evidence/{study.name}.md"] = _page(place, study, found)
        for path in _figures(place, found):
            where = f"evidence/figures/{study.name}-{path.name}"
            made[where] = path.read_bytes()
    return made


@cache
def _known(folder: Path) -> Known:
    loaded = [(place, load(place)) for place in places(folder).values()]
    return tuple((place, study, evidence(place, study)) for place, study in loaded)


def _figures(place: Place, found: Evidence) -> dict[Path, str]:
    return {
        path: caption
        for budget, (results, _) in found.items()
        if results.seeds
        for path, caption in captions(place, budget).items()
    }


def _page(place: Place, study: Study, found: Evidence) -> str:
    """A study's own README, with its verdicts in colour."""
    text = study_page(place, study, found)
    text = re.sub(r"\]\(figures/", f"](figures/{study.name}-", text)
    return _coloured(text.partition("-->")[2].strip() + "\n")


def _coloured(text: str) -> str:
    for verdict in VERDICTS:
        text = text.replace(f"| **{verdict}** |", f"| {badge(verdict)} |")
    return text


def overview(known: Known) -> str:
    """Every claim of every study on one page."""
    parts = [
        "# Evidence",
        "Claims of papers, tested here over several seeds. A claim that fails at our scale is "
        "told like one that holds: that is a result too. Numbers are ours, measured by "
        "`engram study NAME`; nothing on this page was typed.",
        _summary(known),
        "\n\n".join(_study(place, study, found) for place, study, found in known),
        "## How verdicts are reached",
        "\n".join(f"- {rule}" for rule in RULES.values()) + f"\n\n{ALWAYS}",
    ]
    return "\n\n".join(parts) + "\n"


def _shown(found: Evidence) -> tuple[str, Evidence]:
    """The largest budget that was run; empty if none was."""
    budget = next((b for b, (results, _) in found.items() if results.seeds), "")
    return budget, found


def _judged(found: Evidence) -> tuple:
    budget, _ = _shown(found)
    return (found[budget] if budget else next(iter(found.values())))[1]


def _summary(known: Known) -> str:
    total = counts(j for _, _, found in known for j in _judged(found))
    claims = sum(total.values())
    boxes = "".join(
        f'<div class="count verdict-{v.replace(" ", "-")}"><b>{n}</b> {badge(v)}</div>'
        for v, n in total.items()
    )
    lines = [
        "| study | what it asks | evidence | " + " | ".join(VERDICTS) + " |",
        "| --- | --- | --- |" + " ---: |" * len(VERDICTS),
    ]
    for place, study, found in known:
        tally = " | ".join(str(n) for n in counts(_judged(found)).values())
        asks = inline(place.summary).replace("|", "&#124;")
        lines.append(f"| [{study.name}](#{study.name}) | {asks} | {_run(found)} | {tally} |")
    return (
        f'<p>{claims} claims in {len(known)} studies:</p>\n\n<div class="counts">{boxes}</div>\n\n'
        + "\n".join(lines)
    )


def _run(found: Evidence) -> str:
    budget, _ = _shown(found)
    if not budget:
        return "never run"
    seeds = len(found[budget][0].seeds)
    return f"{budget}, {seeds} seed{'' if seeds == 1 else 's'}"


def _study(place: Place, study: Study, found: Evidence) -> str:
    paper = study.paper
    parts = [
        f"## {study.name} {{ #{study.name} }}",
        f"{inline(place.summary)} [All measurements]({study.name}.md).",
        f"{paper.authors} ({paper.year}). [{inline(paper.title)}]({paper.url}). Evidence: "
        f"{_cost(study, found)}.",
        _claims(place, study, found),
    ]
    if study.tried.strip():
        tried = "\n".join(f"    {line}" for line in study.tried.strip().splitlines())
        parts.append(f'??? note "What was tried"\n\n{tried}')
    return "\n\n".join(part for part in parts if part)


def _cost(study: Study, found: Evidence) -> str:
    budget, _ = _shown(found)
    if not budget:
        return "never run"
    results = found[budget][0]
    seconds = sum(seed.seconds for seed in results.seeds)
    numbers = ", ".join(str(seed.seed) for seed in results.seeds)
    return f"budget {budget}, seeds {numbers}, {seconds:,.0f} seconds"


def _claims(place: Place, study: Study, found: Evidence) -> str:
    budget, _ = _shown(found)
    warning = ""
    if budget and (old := found[budget][0].stale(place, study.settings(budget))):
        warning = (
            f'!!! warning "Out of date"\n    The study has changed since seed '
            f"{', '.join(map(str, old))} was measured.\n\n"
        )
    rows = [
        "| claim | where in the paper | paper's number | ours | verdict |",
        "| --- | --- | --- | --- | --- |",
    ]
    for judged in _judged(found):
        claim = judged.claim
        cells = (claim.text, claim.where, claim.paper_value or "-", ours(judged))
        shown = " | ".join(_cell(text) for text in cells)
        rows.append(f"| {shown} | {badge(judged.ruling.verdict)} |")
    return warning + "\n".join(rows)


def _cell(text: str) -> str:
    return (
        escape(" ".join(text.split()), quote=False)
        .replace("|", "&#124;")
        .replace("*", "&#42;")
        .replace("_", "&#95;")
    )
