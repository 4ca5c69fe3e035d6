"""Run a study seed by seed, keep what each seed gave at once, and judge its claims."""

import shutil
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engram import __version__, catalog
from engram.core import EngramError, Finding, nearest
from engram.engine.run import EngineRun
from engram.engine.study.figures import captions, write_figures
from engram.engine.study.files import FILE, Place, load, places, where_in
from engram.engine.study.page import index_page, study_page, verdict_row
from engram.engine.study.plan import BUDGETS, Judged, Study
from engram.engine.study.results import (
    Measurements,
    Results,
    Seed,
    environment,
    key_of,
    measured,
    read_results,
    results_file,
    source_hash,
)
from engram.explained import write_verdicts
from engram.stats.claims import Ruling
from engram.store import disk_errors

PAGE = "README.md"
OWN = Path(__file__).resolve().parents[4] / "studies"
"""The studies beside Engram's own sources."""
EVIDENCE = tuple(budget for budget in BUDGETS if budget != "smoke")


@dataclass(frozen=True)
class Outcome:
    """What running a study gave."""

    study: Study
    results: Results
    claims: tuple[Judged, ...]
    file: Path
    page: Path | None
    """The study's README; None at the smoke budget, which writes none."""


def run_study(place: Place, budget: str, run: EngineRun, seeds: int = 0) -> Outcome:
    """Measure the seeds that are not there yet, from the run's own seed upwards, and judge.

    Args:
        place: Which study.
        budget: "smoke", "small" or "full".
        run: Device, store, and the number of the first seed.
        seeds: How many seeds; 0: as many as the study says.

    Returns:
        All seeds that there are now, of this call and of earlier ones with the same inputs.
    """
    study = load(place)
    settings, wanted = study.settings(budget), seeds or study.wanted(budget)
    if wanted < 0:
        raise EngramError(f"seeds is {wanted}", hint="3 seeds are the fewest that decide a claim")
    file = results_file(place, budget, run.root)
    results = read_results(file, study.name, budget).fresh(place, settings)
    known = len(results.seeds)
    for done, number in enumerate(range(run.seed, run.seed + wanted)):
        run.progress(done, wanted, f"seeds of {study.name}")
        if number not in {seed.seed for seed in results.seeds}:
            found = _measure(place, study, budget, replace(run, seed=number))
            # Another process may have written other seeds in the meantime.
            now = read_results(file, study.name, budget).fresh(place, settings)
            results = now.having(found)
            with disk_errors(file.parent):
                results.save(file)
        check_names(study, results, number)
    run.progress(wanted, wanted, f"seeds of {study.name}")
    if study.draw is not None and (len(results.seeds) > known or not captions(place, budget)):
        drawn = study.draw(run, settings)
        if budget != "smoke":  # which says nothing, and leaves nothing in the study
            write_figures(place, budget, drawn)
    page = None if budget == "smoke" else write_page(place, study)
    return Outcome(study, results, rule(study, results), file, page)


def _measure(place: Place, study: Study, budget: str, run: EngineRun) -> Seed:
    scratch = run.root / "studies" / study.name / f"{budget}-{run.seed}"
    started, settings = time.monotonic(), study.settings(budget)
    key = key_of(place, settings, run.seed)
    found = _called(place, study, settings, replace(run, scratch=scratch))
    shutil.rmtree(scratch, ignore_errors=True)
    seconds = round(time.monotonic() - started, 1)
    facts = environment(run.device)
    return Seed(run.seed, key, __version__, source_hash(), seconds, facts, found)


def _called(
    place: Place, study: Study, settings: Mapping[str, Any], run: EngineRun
) -> Measurements:
    """What the study's own `run` gives; its mistakes become errors that say where they are."""
    try:
        found = study.run(run, settings, run.seed)
    except (EngramError, MemoryError):
        raise
    except (Exception, SystemExit) as problem:
        where = where_in(place.folder / FILE, problem)
        log = run.scratch / "error.txt"
        with disk_errors(run.scratch):
            run.scratch.mkdir(parents=True, exist_ok=True)
            log.write_text("".join(traceback.format_exception(problem)), encoding="utf-8")
        raise EngramError(
            f"study {study.name!r}, seed {run.seed}: {where} raised "
            f"{type(problem).__name__}: {problem}",
            hint=f"the whole traceback is in {log}; seeds that were finished are kept",
        ) from problem
    return measured(found, study.name, run.seed)


def check_names(study: Study, results: Results, number: int) -> None:
    """Refuse claims about a measurement that this seed was not asked for.

    Raises:
        EngramError: The first such name, and what it may have been meant to be.
    """
    seed = next(seed for seed in results.seeds if seed.seed == number)
    known = list(seed.measurements)
    for name in study.names:
        if name not in known:
            raise EngramError(
                f"a claim of study {study.name!r} looks at {name!r}, which its run did not give",
                hint=nearest(name, known, f"it gave {', '.join(known)}"),
            )


def rule(study: Study, results: Results) -> tuple[Judged, ...]:
    """The verdict on each claim; the smoke budget says nothing of the science."""
    if results.budget == "smoke":
        note = "the smoke budget checks the path, not the claim"
        nothing = Ruling("not run", (Finding.missing("", note),))
        return tuple(Judged(claim, nothing) for claim in study.claims)
    rows = [seed.values() for seed in results.seeds]
    judged = [Judged(claim, claim.test.judge(rows)) for claim in study.claims]
    return tuple(replace(j, note=_why_not(j, results)) for j in judged)


def _why_not(judged: Judged, results: Results) -> str:
    """Why a claim's measurements are missing, in the words of the study."""
    if judged.ruling.verdict != "not run":
        return ""
    for seed in results.seeds:
        for name in judged.claim.test.names:
            if name not in seed.measurements:
                return f"{name}: not measured by these results"
            if seed.measurements[name]["value"] is None:
                return f"{name}: {seed.measurements[name]['note']}"
    return "never run"


def evidence(place: Place, study: Study) -> dict[str, tuple[Results, tuple[Judged, ...]]]:
    """Results and verdicts by budget, the largest first; budgets that were never run are empty."""
    found = {}
    for budget in reversed(EVIDENCE):
        results = read_results(results_file(place, budget, Path()), study.name, budget)
        found[budget] = (results, rule(study, results))
    return found


def write_page(place: Place, study: Study | None = None) -> Path:
    """Write a study's README from its file and its results."""
    study = study or load(place)
    path = place.folder / PAGE
    return _write(path, study_page(place, study, evidence(place, study)))


def write_index(folder: Path) -> Path:
    """Write every study's README again, and the table of all of them.

    Where the folder is that of Engram's own sources, the verdicts that the package carries are
    written too.

    Raises:
        EngramError: A study names a method that is not in the catalogue.
    """
    known = [(place, load(place)) for place in places(folder).values()]
    for place, study in known:
        write_page(place, study)
    rows = [(place, study, evidence(place, study)) for place, study in known]
    for _, study, _ in rows:
        _check_methods(study)
    if folder.resolve() == OWN:
        write_verdicts(verdict_row(*row) for row in rows)
    return _write(folder / PAGE, index_page(rows))


def _check_methods(study: Study) -> None:
    known = [name for kind in catalog.KINDS for name in catalog.entries(kind)]
    for name in study.methods:
        if name not in known:
            raise EngramError(
                f"study {study.name!r} is about {name!r}, which is no method",
                hint=nearest(name, known, "`engram ls` lists them"),
            )


def _write(path: Path, text: str) -> Path:
    part = path.with_name(path.name + ".part")
    with disk_errors(path.parent):
        part.write_text(text, encoding="utf-8")
        return part.replace(path)
