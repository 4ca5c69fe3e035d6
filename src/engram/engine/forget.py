"""A deletion request: forget, audit before and after, and compare with a model that never saw."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engram import __version__, catalog, families, stats
from engram.core import SCORED, Edit, EngramError, Finding, Split, Target, stream
from engram.engine.audit import AuditRun, audit, finish, found_run
from engram.engine.deletion import Asked, alone_on, check_unbranched, write_down
from engram.engine.deletion_costs import costs_of
from engram.engine.forget_evidence import loss_unit, more_rows
from engram.engine.leak import find_leak
from engram.engine.records import Known
from engram.engine.run import EngineRun
from engram.engine.shadows import own_recipe
from engram.engine.targets import now
from engram.engine.train import check_edits, edit, train_on
from engram.parts.record_bootstrap import ratio_interval
from engram.parts.unlearning import mean_loss
from engram.report.certificate import certificate
from engram.report.certificate import write as write_certificate
from engram.stats.residual import GONE, KEPT, MOST, REMOVED, SUMMARIES, UNKNOWN
from engram.stats.residual import NAME as FORGETTING
from engram.stats.residual import verdict as verdict_of
from engram.store import run_id
from engram.store.deletions import Entry

BEFORE, AFTER, NEVER = "fine-tuned", "after forgetting", "never saw them"
SIGNIFICANT = 0.05
INDEX = SUMMARIES[0]


@dataclass(frozen=True)
class Forgotten:
    """What a deletion request leaves.

    Attributes:
        target: The new target.
        retrained: The exact reference, if it was trained.
        story: The evidence.
        entry: The request's entry in the deletion ledger.
        certificate: The page that says all of it in plain words.
    """

    target: Target
    retrained: Target | None
    story: AuditRun
    entry: Entry
    certificate: Path


def forget(
    target: Target,
    known: Known,
    records: Split,
    method: Edit,
    run: EngineRun,
    *,
    retrain: bool = True,
    battery: str = "standard",
    out: Path | None = None,
    evidence: Path | None = None,
    title: str = "",
    by: str = "",
    branch: bool = False,
) -> Forgotten:
    """Make a target forget records, gather evidence, and write the request down.

    Args:
        target: One of ours, with a ledger.
        known: Its records (`known_records`).
        records: What to forget (`to_forget`).
        method: An edit.
        run: Seed, device, store.
        retrain: Whether to train the exact reference: the same recipe and seed without them.
        battery: For the audits before and after.
        out: Folder of the new target.
        evidence: Folder of the story; by default one in the store. It tells what the model gave
            away before, so it never is inside the new target's folder.
        title: Heads the report.
        by: Who asked, for the deletion ledger.
        branch: Go on although an earlier request made this target forget other records.

    Raises:
        EngramError: Another request on this target is at work, or has left it behind.
    """
    check_edits(method, target)
    asked = Asked.of(records, by)
    with alone_on(target, run.root):
        if not branch:
            check_unbranched(asked, target, run.root)
        request = _Request(target, known, records, kept(target, known, records), method)
        request = replace(request, method=calibrated(method, target, known, run))
        edited = edit(request.method, target, request.keep, records, run, out=out)
        models = {BEFORE: target, AFTER: edited}
        if retrain:
            models[NEVER] = retrain_without(target, known, set(records.ids), run)
        story = _story(request, models, run, battery, evidence, title)
        promise = getattr(method, "promise", "approximate")
        entry = write_down(
            asked, target, edited, story.document, story.folder, run.root, promise=promise
        )
    sealed = {"number": entry.number, "hash": entry.hash, "previous": entry.previous}
    page = write_certificate(
        story.folder, certificate(story.document, sealed, entry.facts, promise)
    )
    return Forgotten(edited, models.get(NEVER), story, entry, page)


@dataclass(frozen=True)
class _Request:
    """What is asked: of which target, which records to forget and to keep, and how."""

    target: Target
    known: Known
    records: Split
    keep: Split
    method: Any


def kept(target: Target, known: Known, records: Split) -> Split:
    """The trained records that stay; an error where nothing could be shown or would be left."""
    if not len(known.held_out):
        raise EngramError(
            f"target {target.name!r} held no records out, so nothing can show that it forgot",
            hint="train with --holdout 0.25, say; `engram edit` forgets without evidence",
        )
    gone = set(records.ids)
    keep = known.trained.where([i not in gone for i in known.trained.ids], name="keep")
    if not len(keep):
        raise EngramError(
            "nothing would be left: every trained record is to be forgotten",
            hint="delete the model instead; if its records were distilled, distil again without "
            "those to forget, and train on that",
        )
    return keep


def _story(
    request: _Request,
    models: Mapping[str, Target],
    run: EngineRun,
    battery: str,
    folder: Path | None,
    title: str,
) -> AuditRun:
    """Audit every model, ask all of them the same questions, and write it down."""
    started = time.monotonic()
    known, records, keep = request.known, request.records, request.keep
    number = run_id(
        "forget",
        models=[m.fingerprint for m in models.values()],
        forget=records.fingerprint,
        keep=keep.fingerprint,
        held_out=known.held_out.fingerprint,
        reading=asdict(run.reading),
        battery=battery,
        title=title,
        seed=run.seed,
        code=__version__,
    )
    folder = folder or run.root / number
    if found := found_run(folder, number, run.root):
        return AuditRun(folder, found)
    audits = {name: _audit(name, model, request, run, battery) for name, model in models.items()}
    rows, chance = compare(models, audits, keep, records, known.held_out, run)
    document = {
        "engram": __version__,
        "kind": "story",
        "method": "forget",
        "id": number,
        "created": now(),
        "seconds": round(time.monotonic() - started, 2),
        "title": title or f"Forgetting {_whose(records)}",
        "lead": _lead(request.target, records, request.method, NEVER in models),
        "verdict": with_residual(_verdict(rows, chance), rows),
        "leak": find_leak(models, records),
        "comparison": {"columns": list(models), "rows": rows},
        "costs": costs_of(request.target, models[AFTER], len(records)),
        "steps": _steps(models, request),
        "audits": [{"title": name, "document": each.document} for name, each in audits.items()],
    }
    return finish(folder, document, run.root)


def _audit(name: str, model: Target, request: _Request, run: EngineRun, battery: str) -> AuditRun:
    known, which = request.known, "all" if name == BEFORE else "kept"
    return audit(
        model,
        known.trained if name == BEFORE else request.keep,
        known.held_out,
        run,
        battery=battery,
        source=f"{known.source}: {which} trained records against held-out ones",
    )


def calibrated(method: Any, target: Target, known: Known, run: EngineRun) -> Any:
    """The method, told where to stop: at the loss of records that the target never saw.

    Beyond it the forgotten records would stand out by their absence. Only one number, the mean
    loss, is taken from the held-out records: of prompts with responses, that of the responses. A
    `stop_at` that the user gave is left alone.
    """
    unseen = scorable(known.held_out, target)
    if getattr(method, "stop_at", 0.0) is not None or not len(unseen):
        return method
    family = families.find(target.family)
    return replace(method, stop_at=mean_loss(target, family, unseen, run))


def scorable(split: Split, target: Target) -> Split:
    """The records that the model can be asked about."""
    outcomes = families.find(target.family).outcomes(target.model, split)
    return split.where([outcome == SCORED for outcome in outcomes])


def retrain_without(target: Target, known: Known, gone: set[str], run: EngineRun) -> Target:
    """The exact reference: the target's own recipe and seed, on what is left."""
    lineage = target.lineage.recipe()
    recipe = own_recipe(target, "--no-retrain leaves the exact reference out")
    trained = set(known.trained.ids) - gone
    mask = np.array([i in trained for i in known.everything.ids])
    return train_on(
        recipe,
        known.everything,
        mask,
        replace(run, seed=lineage.seed),
        source=lineage.data,
        options=lineage.data_options,
    )


def compare(
    models: Mapping[str, Target],
    audits: Mapping[str, AuditRun],
    keep: Split,
    forgotten: Split,
    outsiders: Split,
    run: EngineRun,
) -> tuple[list[dict[str, Any]], list[float]]:
    """The same questions to every model, one row each: what is gone, and what had to stay.

    Also returned: for each model, how likely chance alone would tell the forgotten records from
    the held-out ones as well as that (two-sided Mann-Whitney test).
    """
    attack = audits[BEFORE].document["headline"]["attack"] or "loss"
    if "reference" in {a["name"] for a in audits[BEFORE].document["attacks"]}:
        attack = "reference"  # calibrated by the base: the least moved by how hard a text is
    sides = [scorable(side, models[BEFORE]) for side in (keep, forgotten, outsiders)]
    if not all(map(len, sides)):
        raise EngramError(
            "none of the records to forget, to keep or held out can be scored",
            hint="a text needs at least two tokens",
        )
    asked = [_questions(m, attack, *sides, run) for m in models.values()]
    table = [list(row) for row in zip(*(found for found, _ in asked), strict=True)]
    table += more_rows(models, *sides, run, before=BEFORE, never=NEVER)
    return [row_of(models, cells) for cells in table], [chance for _, chance in asked]


def row_of(models: Mapping[str, Target], cells: list[Finding]) -> dict[str, Any]:
    """One row of the story's table: the same question to every model."""
    first = cells[0]
    return {
        "name": first.name,
        "unit": first.unit,
        "better": first.better,
        "cells": [
            cell.tagged(split=name).to_json() for name, cell in zip(models, cells, strict=True)
        ],
    }


def _questions(
    target: Target, attack: str, keep: Split, forgotten: Split, outsiders: Split, run: EngineRun
) -> tuple[list[Finding], float]:
    rng = stream(run.seed, "compare", target.fingerprint)
    method = catalog.find("attacks", attack).load()()
    everyone = keep.joined(forgotten, "kept").joined(outsiders, "asked")
    scores = method(target.sealed(), everyone, run).values
    losses = run.losses(target, everyone)
    first, last = len(keep), len(keep) + len(forgotten)
    owners, unit = everyone.owners, loss_unit(target)
    found = [
        _membership(scores[first:], last - first, owners and owners[first:], rng).tagged(
            method=attack, note="forgotten against held-out records; 0.5 is what is wanted"
        ),
        _mean(losses[first:last], "loss on forgotten records", unit, rng),
        *_verbatim(target, forgotten, run),
        _mean(losses[:first], "loss on kept records", unit, rng).tagged(better="lower"),
        _mean(losses[last:], "loss on held-out records", unit, rng).tagged(better="lower"),
    ]
    return found, two_sided(scores[first:], last - first, owners and owners[first:])


def two_sided(scores: np.ndarray, n: int, owners: Any = None) -> float:
    """p-value of the first `n` scores being drawn like the others; both directions count.

    Where several owners are forgotten the test is by owner. For the records of one or two it is
    by record, as if these were independent.
    """
    is_member = np.arange(len(scores)) < n
    if owners is not None and len(set(owners[:n])) > 2:
        people = stats.by_owner(scores, is_member, owners)
        scores, is_member = people.values, people.is_member
    p = min(stats.auc_p_value(scores, is_member), stats.auc_p_value(-scores, is_member))
    return min(1.0, 2 * p)


def _membership(scores: np.ndarray, n: int, owners: Any, rng: np.random.Generator) -> Finding:
    is_member = np.arange(len(scores)) < n
    # One owner alone, or two, cannot be resampled by owner; then records are.
    several = owners is not None and len(set(owners[:n])) > 2
    area = stats.auc(scores, is_member, rng, owners=owners if several else None)
    return replace(area, name="AUC of forgotten records")


def _mean(values: np.ndarray, name: str, unit: str, rng: np.random.Generator) -> Finding:
    return stats.mean_finding(np.asarray(values, np.float64), name, unit, rng)


def _verbatim(target: Target, forgotten: Split, run: EngineRun) -> list[Finding]:
    """Share of the forgotten records' tokens that greedy decoding writes."""
    if "tokens" not in families.find(target.family).answers:
        return []
    said = run.tokens(target, forgotten)
    hits = np.array([part.sum() for part in said.ragged(np.asarray(said.greedy))], np.float64)
    tokens = said.lengths.astype(np.float64)
    rng = stream(run.seed, "verbatim", target.fingerprint)
    low, high = ratio_interval(hits, tokens, rng)  # tokens of one record are not independent
    name = "tokens of forgotten records that greedy decoding writes"
    value = float(hits.sum() / tokens.sum())
    return [Finding(name, value, low, high, len(forgotten), better="lower")]


def _whose(records: Split) -> str:
    owners = sorted(set(records.owners or ()))
    if len(owners) == 1 and owners[0]:
        return f"{owners[0]} ({len(records)} records)"
    return f"{len(records)} records"


def _lead(target: Target, records: Split, method: Any, exact: bool) -> str:
    reference = (
        " Beside it stands a model trained by the same recipe and seed that never saw them: "
        "forgetting has worked where the two cannot be told apart."
        if exact
        else " No model was trained without them, so there is nothing exact to compare with."
    )
    return (
        f"{target.name} was asked to forget {_whose(records)} by "
        f"{catalog.name_of(method)}.{reference}"
    )


def _verdict(rows: list[dict[str, Any]], chance: list[float]) -> dict[str, str]:
    """Whether what was forgotten can still be told from what was never seen; both ways count."""
    cells = rows[0]["cells"]
    before, after = cells[0]["value"], cells[1]["value"]
    numbers = f"AUC {after:.2f}, {_p(chance[1])}; before, {before:.2f}, {_p(chance[0])}"
    if chance[1] < SIGNIFICANT and by_nature(chance[2:], cells[2:], after):
        level = "unknown"
        says = (
            "These records stand out by what they are, not by having been learnt: so they do for a "
            f"model that never saw them ({numbers}). What counts is the gap to it."
        )
    elif chance[1] < SIGNIFICANT and after > 0.5:
        level, says = "leak", f"The forgotten records still stand out ({numbers})."
    elif chance[1] < SIGNIFICANT:
        level = "leak"
        says = f"Forgotten too hard: the records stand out by their absence ({numbers})."
    elif chance[0] >= SIGNIFICANT:
        level = "unknown"
        says = (
            "Nothing can be said: the records could not be told from records never seen even "
            f"before they were forgotten ({numbers})."
        )
    else:
        level = "no leak found"
        says = f"The forgotten records can no longer be told from records never seen ({numbers})."
    if len(cells) > 2:
        says += f" For the model that never saw them: {cells[2]['value']:.2f}, {_p(chance[2])}."
    return {"level": level, "sentence": says}


def by_nature(chance: Sequence[float], cells: Sequence[Mapping[str, Any]], after: float) -> bool:
    """Whether a model that never saw the records, if there is one, tells them the same way."""
    if not chance or chance[0] >= SIGNIFICANT:
        return False
    return (cells[0]["value"] > 0.5) == (after > 0.5)


def with_residual(verdict: dict[str, str], rows: list[dict[str, Any]]) -> dict[str, str]:
    """The verdict, and whether what was forgotten is removed or only suppressed, if it is known.

    It is a leak where the whole interval of the suppression index is above what counts as removed.
    """
    found = {row["name"]: row["cells"][1] for row in rows}
    index, forgetting = found.get(INDEX), found.get(FORGETTING)
    if index is None or forgetting is None:
        return verdict
    kind = verdict_of(forgetting["value"], index["value"])
    if kind == UNKNOWN:
        says = f"Whether it is removed or only suppressed cannot be told: {index['note']}."
        return {**verdict, "sentence": f"{verdict['sentence']} {says}"}
    numbers = f"suppression index {index['value']:.2f} [{index['low']:.2f}, {index['high']:.2f}]"
    level = verdict["level"]
    if kind == KEPT:
        level = "leak"
        says = f"Asked about them, it still answers {100 * (1 - forgetting['value']):.0f} % of "
        says += "what it had learnt from them."
    elif kind == GONE:
        says = f"Looked for in other ways it is gone: removed ({numbers})."
    else:
        surely = index["low"] > REMOVED
        level = "leak" if surely else level
        most = index["note"].partition(MOST)[2]
        says = f"It is suppressed, not removed: the most is brought back by {most} ({numbers})."
        if not surely:
            says = "So few records cannot tell whether it is removed or only suppressed "
            says += f"({numbers})."
    return {"level": level, "sentence": f"{verdict['sentence']} {says}"}


def _p(value: float) -> str:
    return f"p = {value:.2g}" if value >= 1e-4 else "p < 0.0001"


def _steps(models: Mapping[str, Target], request: _Request) -> list[dict[str, str]]:
    target, known, records = request.target, request.known, request.records
    edited = models[AFTER]
    steps = [
        {
            "title": "Train",
            "text": f"{target.lineage.recipe().method} trained {target.name} on "
            f"{len(known.trained)} records of {known.source}; {len(known.held_out)} were held "
            "out.",
        },
        {
            "title": "Forget",
            "text": f"{catalog.name_of(request.method)} changed the weights so that "
            f"{len(records)} records are forgotten: {edited.name} (fingerprint "
            f"{edited.fingerprint}).",
        },
    ]
    if NEVER in models:
        retrained = models[NEVER]
        steps.append(
            {
                "title": "Train the exact reference",
                "text": f"The same recipe and seed, without them: {retrained.name} "
                f"(fingerprint {retrained.fingerprint}).",
            }
        )
    return [*steps, {"title": "Audit", "text": "The same battery, before and after."}]
