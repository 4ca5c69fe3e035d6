"""Which defence is worth its price: several targets in one table, as trained and equally useful."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engram import __version__, catalog
from engram.core import EngramError, Finding, Target
from engram.engine.audit import AuditRun, audit, finish, found_run
from engram.engine.compare.matched import (
    Question,
    common,
    epoch_of,
    least,
    matched,
    observations,
)
from engram.engine.compare.names import names_of
from engram.engine.compare.sides import Sides, sides_of
from engram.engine.forget import scorable
from engram.engine.run import EngineRun
from engram.engine.targets import describe, now, observations_of
from engram.store import run_id

PERPLEXITY = Question("validation perplexity", "validation_perplexity")
AUC = Question("AUC", "auc")
TPR = Question("TPR@1%FPR", "")
EXPOSURE = Question("exposure", "exposure", "bits")
VERBATIM = Question("verbatim rate", "verbatim")
QUESTIONS = (PERPLEXITY, AUC, TPR, EXPOSURE, VERBATIM)
ATTACK = "reference"
"""Calibrated by the base, so that it does not matter how hard a record is."""
SHOWN = ("step", "epoch", *(q.key for q in QUESTIONS if q.key))


def compare(
    targets: Sequence[Target],
    run: EngineRun,
    *,
    at: float | None = None,
    battery: str = "standard",
    data: str = "",
    options: Mapping[str, Any] | None = None,
    out: Path | None = None,
) -> AuditRun:
    """Ask every target the same questions; an audit that was made before is found.

    Args:
        targets: Two or more causal language models of ours, trained on the same records.
        run: Seed, device, store, and how records are read.
        at: The validation perplexity at which they are compared; by default the best that every
            training reached.
        battery: Of the audits.
        data: The data that they were trained on, if it has moved.
        options: How to read it, if otherwise than for training.
        out: Folder of the comparison; by default one in the store.

    Raises:
        EngramError: Targets that cannot be compared (see `sides_of`), or a perplexity that no
            training was seen to reach.
    """
    started = time.monotonic()
    sides = sides_of(targets, data, options)
    number = run_id(
        "compare",
        targets=[target.fingerprint for target in targets],
        names=[target.name for target in targets],
        members=sides.members.fingerprint,
        outsiders=sides.outsiders.fingerprint,
        reading=asdict(run.reading),
        battery=battery,
        at=at,
        seed=run.seed,
        code=__version__,
    )
    folder = out or run.root / number
    if found := found_run(folder, number, run.root):
        return AuditRun(folder, found)
    traces = [observations(observations_of(target.folder)) for target in targets]
    level, reason = _level(targets, traces, sides, at)
    rows = []
    for name, target, trace in zip(names_of(targets), targets, traces, strict=True):
        audited = audit(
            target, sides.members, sides.outsiders, run, battery=battery, source=sides.source
        )
        cells = _cells(audited.document, target, sides, run)
        rows.append(_row(name, target, cells, trace, level, audited))
    questions = [q for q in QUESTIONS if any(row["cells"][q.name]["value"] is not None
                                             or q is PERPLEXITY for row in rows)]  # fmt: skip
    document = {
        "engram": __version__,
        "kind": "comparison",
        "method": "compare",
        "id": number,
        "created": now(),
        "seconds": round(time.monotonic() - started, 2),
        "title": f"{len(targets)} models compared",
        "lead": _lead(sides),
        "questions": [{"name": q.name, "key": q.key, "unit": q.unit} for q in questions],
        "targets": [_listed(row, questions) for row in rows],
        "matched": {"at": level, "reason": reason},
        "warnings": list(sides.warnings),
    }
    document["verdict"] = {"level": "unknown", "sentence": _sentence(document)}
    return finish(folder, document, run.root)


def _level(
    targets: Sequence[Target],
    traces: Sequence[Sequence[Mapping[str, float | int]]],
    sides: Sides,
    at: float | None,
) -> tuple[float | None, str]:
    """The common perplexity, and why there is none, or who set it."""
    unseen = [t.name for t, trace in zip(targets, traces, strict=True) if not trace]
    if not sides.same:
        return None, "the targets' own validation records differ, so their perplexities do too"
    if at is not None:
        reached = [best for trace in traces if (best := least(trace)) is not None]
        if not reached or min(reached) > at:
            best = f"the best was {min(reached):.4g}" if reached else "none was observed"
            raise EngramError(
                f"no training was seen to reach a validation perplexity of {at:g}: {best}",
                hint="leave --at out, or train with --observe --validation 0.2",
            )
        return at, "as asked for"
    if len(unseen) > len(targets) - 2:
        return None, (
            f"{len(unseen)} of {len(targets)} targets were not observed while they trained; "
            "train with --observe and --validation 0.2"
        )
    level = common(traces)
    slowest = max(zip(names_of(targets), traces, strict=True), key=lambda p: least(p[1]) or 0.0)[0]
    return level, f"the best that every training reached; {slowest} got no lower"


def _cells(
    document: Mapping[str, Any], target: Target, sides: Sides, run: EngineRun
) -> dict[str, Finding]:
    """The answers of one target as it was trained."""
    attacks = {attack["name"]: attack["findings"] for attack in document["attacks"]}
    by_reference = attacks.get(ATTACK, [])
    why = f"the attack {ATTACK} was not run"
    measures = document["measures"]
    found = {
        PERPLEXITY: _find(measures, "perplexity", "perplexity", "outsiders"),
        AUC: _named(by_reference, "AUC") or Finding.missing("AUC", why),
        TPR: _named(by_reference, TPR.name) or Finding.missing(TPR.name, why),
        EXPOSURE: _find(measures, "exposure", "mean exposure", "members"),
        VERBATIM: _verbatim(measures, target, sides, run),
    }
    return {
        q.name: Finding(q.name, f.value, f.low, f.high, f.n, q.unit, f.method or ATTACK, f.split,
                        f.note, "lower")
        for q, f in found.items()
    }  # fmt: skip


def _find(measures: Sequence[Mapping[str, Any]], method: str, name: str, split: str) -> Finding:
    for finding in measures:
        if (finding["method"], finding["name"], finding["split"]) == (method, name, split):
            return Finding(**finding)
    return Finding.missing(name, f"{method} was not measured")


def _named(findings: Sequence[Mapping[str, Any]], name: str) -> Finding | None:
    return next((Finding(**finding) for finding in findings if finding["name"] == name), None)


def _verbatim(
    measures: Sequence[Mapping[str, Any]], target: Target, sides: Sides, run: EngineRun
) -> Finding:
    """The share of members written out: 50 tokens after 50, or of short records ten words."""
    found = _find(measures, "extraction", "extraction rate", "members")
    if found.value is not None and found.n >= len(sides.members) // 2:
        return found
    measure = catalog.find("measures", "verbatim-continuation").load()()
    members = {"members": scorable(sides.members, target)}
    return measure(target.sealed(), members, run)[0]


def _row(
    name: str,
    target: Target,
    cells: Mapping[str, Finding],
    trace: Sequence[Mapping[str, float | int]],
    level: float | None,
    audited: AuditRun,
) -> dict[str, Any]:
    facts = describe(target)
    return {
        "name": name,
        "target": {k: facts[k] for k in ("name", "family", "fingerprint", "lineage", "facts")},
        "guarantee": target.lineage.guarantee.get("sentence", ""),
        "cells": {key: f.tagged(split=name).to_json() for key, f in cells.items()},
        "level": level,
        "epoch": None if level is None else epoch_of(trace, level),
        "observed": trace,
        "audit": audited.document["id"],
        "verdict": audited.document["verdict"],
    }


def _listed(row: dict[str, Any], questions: Sequence[Question]) -> dict[str, Any]:
    """A target's row with the questions that some target answers, in their order."""
    level, trace = row.pop("level"), row.pop("observed")
    at = [] if level is None else matched(trace, level, [q for q in questions if q.key])
    shown = [{k: entry[k] for k in SHOWN if k in entry} for entry in trace]
    return {
        **row,
        "cells": [row["cells"][q.name] for q in questions],
        "matched": [f.tagged(split=f"{row['name']}, matched", better="lower").to_json()
                    for f in at],
        "trace": shown,
    }  # fmt: skip


def _lead(sides: Sides) -> str:
    return (
        f"Every model was asked about the same {len(sides.members):,} records that it was trained "
        f"on and the same {len(sides.outsiders):,} that it never saw ({sides.source}). The "
        "validation perplexity is that of the latter: how useful the model is. The other numbers "
        "say what it gives away. Lower is better everywhere."
    )


def _sentence(document: Mapping[str, Any]) -> str:
    """Who gives least away at the same usefulness, or else as trained."""
    level, rows = document["matched"]["at"], document["targets"]
    names = [q["name"] for q in document["questions"] if q["key"]]
    if level is not None and "AUC" in names:
        place = names.index("AUC")
        found = [(r["matched"][place], r["name"]) for r in rows if r["matched"]]
        if told := _extremes(found):
            return f"At a validation perplexity of {level:.4g}, {told}."
    names = [q["name"] for q in document["questions"]]
    if "AUC" in names:
        place = names.index("AUC")
        if told := _extremes([(r["cells"][place], r["name"]) for r in rows]):
            return f"As trained, and not equally useful, {told}."
    return "The reference attack was not run, so the models are compared by the other numbers."


def _extremes(found: Sequence[tuple[Mapping[str, Any], str]]) -> str:
    measured = sorted((f["value"], name, f) for f, name in found if f["value"] is not None)
    if len(measured) < 2:
        return ""
    (_, least_name, least_), (_, most_name, most) = measured[0], measured[-1]
    if least_["high"] >= most["low"]:
        return (
            f"no model gives clearly less away than another: AUC {least_['value']:.3f} "
            f"({least_name}) to {most['value']:.3f} ({most_name}), with overlapping intervals"
        )
    return (
        f"{least_name} gives least away (AUC {least_['value']:.3f}) and {most_name} most "
        f"({most['value']:.3f})"
    )
