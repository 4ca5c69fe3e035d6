"""The evidence pages: every claim of every study, with its verdict, from the studies' results."""

import re
from functools import cache
from pathlib import Path

from method_pages import badge, claims, front, html_table, inline

from engram.engine.study import Place, Study, evidence, load, places, study_page
from engram.engine.study.figures import captions
from engram.engine.study.page import Evidence, counts, out_of_date, shown, verdict_row
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
    told = _coloured(text.partition("-->")[2].strip())
    return f"{front(place.summary)}\n\n{told}\n"


def _coloured(text: str) -> str:
    for verdict in VERDICTS:
        text = text.replace(f"| **{verdict}** |", f"| {badge(verdict)} |")
    return text


def overview(known: Known) -> str:
    """Every claim of every study on one page."""
    parts = [
        "---\nhide: [toc]\ndescription: Every claim that was tested, with its verdict\n---",
        "# Evidence",
        "Claims of papers, tested here over several seeds. A claim that fails at our scale is "
        "told like one that holds: that is a result too. Numbers are ours, measured by "
        "`engram study NAME`; nothing on this page was typed. What the intervals are, and when a "
        "claim holds: [intervals and verdicts](../explanations/intervals-and-verdicts.md).",
        _summary(known),
        '<div class="filter" data-filter="claims"></div>',
        "\n\n".join(_study(place, study, found) for place, study, found in known),
        "## How verdicts are reached",
        "\n".join(f"- {rule}" for rule in RULES.values()) + f"\n\n{ALWAYS}",
    ]
    return "\n\n".join(parts) + "\n"


def _summary(known: Known) -> str:
    total = counts(j for _, _, found in known for j in shown(found)[2])
    number = sum(total.values())
    boxes = "\n".join(f'<div class="count"><b>{n}</b> {badge(v)}</div>' for v, n in total.items())
    head = "".join(f"<th>{label}</th>" for label in ("study", "evidence", *VERDICTS))
    lines = []
    for place, study, found in known:
        tally = "\n".join(
            f'<td data-label="{v}">{_tally(n)}</td>' for v, n in counts(shown(found)[2]).items()
        )
        lines.append(
            f'<tr>\n<td><a href="#{study.name}">{study.name}</a><br>{inline(place.summary)}</td>\n'
            f"<td>{_run(found)}</td>\n{tally}\n</tr>"
        )
    return (
        f'<p>{number} claims in {len(known)} studies:</p>\n\n<div class="counts">{boxes}</div>\n\n'
        + html_table("studies", head, lines)
    )


def _tally(count: int) -> str:
    return f"<b>{count}</b>" if count else '<span class="none">0</span>'


def _run(found: Evidence) -> str:
    budget, results, _ = shown(found)
    if not budget:
        return "never run"
    seeds = len(results.seeds)
    return f"{budget}, {seeds} seed{'' if seeds == 1 else 's'}"


def _study(place: Place, study: Study, found: Evidence) -> str:
    paper = study.paper
    parts = [
        f"## {study.name} {{ #{study.name} }}",
        _counted(found),
        f"{inline(place.summary)} [All measurements]({study.name}.md).",
        f"{paper.authors} ({paper.year}). [{inline(paper.title)}]({paper.url}). Evidence: "
        f"{_cost(found)}.",
        out_of_date(place, study, *shown(found)[:2]),
        claims(verdict_row(place, study, found).claims),
    ]
    if study.tried.strip():
        tried = "\n".join(f"    {line}" for line in study.tried.strip().splitlines())
        parts.append(f'??? note "What was tried"\n\n{tried}')
    return "\n\n".join(part for part in parts if part)


def _counted(found: Evidence) -> str:
    """How many claims have which verdict."""
    told = counts(judged for judged in shown(found)[2]).items()
    return " ".join(f"{number} {badge(verdict)}" for verdict, number in told if number)


def _cost(found: Evidence) -> str:
    budget, results, _ = shown(found)
    if not budget:
        return "never run"
    seconds = sum(seed.seconds for seed in results.seeds)
    numbers = ", ".join(str(seed.seed) for seed in results.seeds)
    return f"budget {budget}, seeds {numbers}, {seconds:,.0f} seconds"
