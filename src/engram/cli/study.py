"""`engram study`: a paper's claims, measured over seeds, with a verdict on each."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from engram.cli.output import make_run, tell
from engram.cli.parse import Common, Printed, parse
from engram.core import EngramError
from engram.engine.run import deaf
from engram.engine.study import Outcome, find, ours, places, run_study, write_index
from engram.engine.study.plan import Judged, check_budget


@dataclass(frozen=True)
class StudyOptions(Common):
    """Options of `engram study`. `--seed N` is the number of the first seed."""

    name: tyro.conf.Positional[str] = ""
    """The study to run; without it, the studies are listed. Running it runs its study.py."""
    budget: str = "small"
    """smoke (under 15 seconds, no verdicts), small (minutes) or full (the paper's size)."""
    seeds: int = 0
    """How many seeds to measure; 0: as many as the study says."""
    studies: Path = Path("studies")
    """The folder of the studies."""
    index: bool = False
    """Write the README of every study again, and the table of all of them."""


def study(args: list[str]) -> int:
    """`engram study [NAME] [--budget B] [--seeds N] [--studies DIR] [--index]`."""
    try:
        options = parse("engram study", args, StudyOptions).options
    except Printed:
        return 0
    if options.index:
        return _index(options)
    if not options.name:
        return _list(options)
    check_budget(options.budget)
    if options.seeds < 0:
        raise EngramError(f"--seeds is {options.seeds}", hint="3 are the fewest that decide")
    place = find(options.name, options.studies)
    run = replace(make_run(options), listen=deaf)  # many trainings: nobody follows each
    outcome = run_study(place, options.budget, run, options.seeds)
    close = getattr(run.watch, "close", None)
    if close is not None:
        close()
    tell(_document(outcome), _lines(outcome), options.json)
    return 0


def _index(options: StudyOptions) -> int:
    if options.name:
        raise EngramError(
            f"--index is about all studies, but {options.name!r} is named",
            hint="engram study --index",
        )
    path = write_index(options.studies)
    tell({"index": str(path)}, [f"index: {path}"], options.json)
    return 0


def _list(options: StudyOptions) -> int:
    known = places(options.studies).values()
    width = max((len(place.name) for place in known), default=0)
    tell(
        {"studies": [{"name": place.name, "summary": place.summary} for place in known]},
        [f"{p.name:<{width}}  {p.summary}" for p in known]
        or [f"{options.studies} holds no studies yet"],
        options.json,
    )
    return 0


def _document(outcome: Outcome) -> Mapping[str, Any]:
    results = outcome.results
    return {
        "study": outcome.study.name,
        "budget": results.budget,
        "settings": dict(results.settings),
        "claims": [_claim(judged) for judged in outcome.claims],
        "seeds": [asdict(seed) for seed in results.seeds],
        "results": str(outcome.file),
        "readme": str(outcome.page) if outcome.page else None,
    }


def _claim(judged: Judged) -> dict[str, Any]:
    claim, ruling = judged.claim, judged.ruling
    return {
        "claim": claim.text,
        "where": claim.where,
        "paper_value": claim.paper_value,
        "test": str(claim.test),
        "verdict": ruling.verdict,
        "findings": [found.to_json() for found in ruling.findings],
        "note": judged.note,
    }


def _lines(outcome: Outcome) -> list[str]:
    results = outcome.results
    count, seconds = len(results.seeds), sum(seed.seconds for seed in results.seeds)
    lines = [
        f"{outcome.study.name} at the {results.budget} budget: {count} "
        f"seed{'' if count == 1 else 's'}, {seconds:,.0f} seconds",
        "",
    ]
    if results.budget == "smoke":
        names = "; ".join(results.seeds[0].measurements)
        lines += [f"it gives {names}", "the smoke budget says nothing of the claims"]
        return lines
    for judged in outcome.claims:
        lines.append(f"{judged.ruling.verdict:<9}  {judged.claim.text}")
        lines.append(f"           {judged.claim.test}: {ours(judged)}")
    return [*lines, "", f"results: {outcome.file}", f"readme: {outcome.page}"]
