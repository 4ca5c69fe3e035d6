"""`engram forget --compare`: one deletion request, many ways to answer it, one table.

Every unlearner makes its model from the same target. Recipes that prepare for deletion are trained
on the same records first, and then asked to forget. All of these models, the target and a model
trained without the records are asked the same questions. Nothing is deleted by it: the target
stays, and the deletion ledger is not written to.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engram import __version__
from engram.core import DivergedError, EngramError, Finding, Split, Target
from engram.engine.audit import AuditRun, audit, finish, found_run
from engram.engine.forget import (
    BEFORE,
    FORGETTING,
    INDEX,
    NEVER,
    SIGNIFICANT,
    calibrated,
    compare,
    kept,
    retrain_without,
    row_of,
)
from engram.engine.forget_evidence import BY_DEFINITION, seconds_of
from engram.engine.prepared import Suited, answer, prepare
from engram.engine.records import Known
from engram.engine.run import EngineRun
from engram.engine.targets import now
from engram.engine.train import BusyError, edit
from engram.report.wording import counted
from engram.stats.residual import GONE, HIDDEN, KEPT, verdict
from engram.store import DiskFullError, run_id

BEFOREHAND = "seconds spent before the request"
SHOWN = (
    ("AUC", "AUC of forgotten records"),
    ("privacy gap", "privacy gap to the model that never saw them"),
    ("forget quality", "forget quality (p-value)"),
    ("utility", "model utility on kept records"),
    ("accuracy", "accuracy on held-out records"),
    ("loss on kept", "loss on kept records"),
    ("forgetting", "behavioural forgetting"),
    ("index", INDEX),
    ("seconds", "seconds to make it"),
    ("beforehand", BEFOREHAND),
    ("MB", "storage"),
)
"""What the short table shows of each model: heading and row."""


@dataclass(frozen=True)
class Compared:
    """Many unlearners on one request.

    Attributes:
        story: The evidence, one column a model.
        promises: What each method promises: exact, approximate or suppression.
        failed: Methods that made no model, and why.
    """

    story: AuditRun
    promises: Mapping[str, str]
    failed: Mapping[str, str]

    def lines(self) -> list[list[str]]:
        """A short table: its heading, then one line a model."""
        table = self.story.document["comparison"]
        rows = {row["name"]: row["cells"] for row in table["rows"]}
        shown = [(head, rows[name]) for head, name in SHOWN if name in rows]
        heads = ["model", "promise", *(head for head, _ in shown), "verdict"]
        lines = [heads]
        for place, model in enumerate(table["columns"]):
            cells = [_short(found[place]) for _, found in shown]
            lines.append([model, self.promises.get(model, ""), *cells, _says(rows, place)])
        return lines


def _short(cell: Mapping[str, Any]) -> str:
    return "-" if cell["value"] is None else f"{cell['value']:.3g}"


def _says(rows: Mapping[str, Any], place: int) -> str:
    """The verdict on one model; "" where there is none to give."""
    if INDEX not in rows or rows[INDEX][place]["note"] == BY_DEFINITION:
        return ""
    return verdict(rows[FORGETTING][place]["value"], rows[INDEX][place]["value"])


@dataclass(frozen=True, eq=False)
class _Made:
    """The models that stand side by side, by what they are called.

    Attributes:
        models: The target first, the one that never saw the records last.
        before: What stood there before the request: the target itself, or a prepared one.
        promises: What is promised of each: exact, approximate, suppression, a guarantee.
        failed: What made no model, and why.
    """

    models: dict[str, Target]
    before: dict[str, Target]
    promises: dict[str, str]
    failed: dict[str, str]


def compare_unlearners(
    target: Target,
    known: Known,
    records: Split,
    ways: Suited,
    run: EngineRun,
    *,
    out: Path | None = None,
    title: str = "",
) -> Compared:
    """Make a model in each way, and ask all of them the same questions.

    Args:
        target: One of ours, with a ledger.
        known: Its records (`known_records`).
        records: What to forget (`to_forget`).
        ways: Edits, and recipes that would have prepared for the request (`suited`).
        run: Seed, device, store.
        out: Folder of the evidence; by default one in the store.
        title: Heads the report.
    """
    keep = kept(target, known, records)
    made = _Made({BEFORE: target}, {}, {}, {})
    for done, (name, way) in enumerate([*ways.edits.items(), *ways.recipes.items()]):
        run.progress(done, len(ways), f"unlearners: {name}")
        try:
            if name in ways.recipes:
                before = prepare(way, target, known, run)
                after = answer(way, before, keep, records, run)
            else:
                before, ready = target, calibrated(way, target, known, run)
                after = edit(ready, target, keep, records, run)
        except (BusyError, DiskFullError):
            raise
        except EngramError as problem:
            # What a method cannot do is a line of the table; it must not lose the others.
            kind = "diverged" if isinstance(problem, DivergedError) else "could not be applied"
            made.failed[name] = f"{kind}: {problem}"
            continue
        made.models[name], made.before[name] = after, before
        made.promises[name] = promise_of(way, after)
    made.models[NEVER] = retrain_without(target, known, set(records.ids), run)
    made.before[NEVER], made.promises[NEVER] = target, "exact"
    story = _story(target, known, records, keep, made, run, out, title)
    return Compared(story, made.promises, made.failed)


def promise_of(way: Any, after: Target) -> str:
    """What is promised in a few words: the guarantee of the weights, or what the method says."""
    guarantee = after.lineage.guarantee
    kind, value = guarantee.get("kind"), guarantee.get("value")
    if not kind:
        return str(getattr(way, "promise", "approximate"))
    plain = kind != "exact" and isinstance(value, int | float) and not isinstance(value, bool)
    return f"{kind} = {value:g}" if plain else str(kind)


def _beforehand(made: _Made) -> list[Finding]:
    """Seconds that it took to make what stood there before the request."""
    spent = {name: seconds_of(before) for name, before in made.before.items()}
    cells = [Finding.missing(BEFOREHAND, "it is what is asked", unit="s")]
    for name in list(made.models)[1:]:
        value = spent[name]
        cells.append(
            Finding.missing(BEFOREHAND, "its seconds were not written down", unit="s")
            if value is None
            else Finding.exact(BEFOREHAND, value, 1, "s").tagged(better="lower")
        )
    return cells


def _story(
    target: Target,
    known: Known,
    records: Split,
    keep: Split,
    made: _Made,
    run: EngineRun,
    out: Path | None,
    title: str,
) -> AuditRun:
    models = made.models
    number = run_id(
        "forget-compare",
        models={name: model.fingerprint for name, model in models.items()},
        forget=records.fingerprint,
        keep=keep.fingerprint,
        held_out=known.held_out.fingerprint,
        reading=asdict(run.reading),
        failed=dict(made.failed),
        title=title,
        seed=run.seed,
        code=__version__,
    )
    started, folder = time.monotonic(), out or run.root / number
    if found := found_run(folder, number, run.root):
        return AuditRun(folder, found)
    before = audit(
        target,
        known.trained,
        known.held_out,
        run,
        battery="quick",
        source=f"{known.source}: trained records against held-out ones",
    )
    ways, forgotten = counted(len(models) - 2, "ways"), counted(len(records), "records")
    rows, chance = compare(models, {BEFORE: before}, keep, records, known.held_out, run)
    rows.append(row_of(models, _beforehand(made)))
    document = {
        "engram": __version__,
        "kind": "story",
        "method": "forget",
        "id": number,
        "created": now(),
        "seconds": round(time.monotonic() - started, 2),
        "title": title or f"{ways} to forget {forgotten}",
        "lead": f"{target.name} was made to forget {forgotten} in {ways}. "
        "A way is good where its model cannot be told from the one that never saw them.",
        "verdict": _best(rows, dict(zip(models, chance, strict=True))),
        "leak": None,
        "comparison": {"columns": list(models), "rows": rows},
        "steps": _steps(made),
        "audits": [{"title": BEFORE, "document": before.document}],
    }
    return finish(folder, document, run.root)


def _best(rows: list[dict[str, Any]], chance: Mapping[str, float]) -> dict[str, str]:
    """Which methods removed what was forgotten, in one sentence.

    Where a family of models cannot be asked what is left inside, membership alone decides.
    """
    by_name = {row["name"]: row["cells"] for row in rows}
    if INDEX not in by_name:
        return _told_apart(chance)
    says: dict[str, list[str]] = {}
    for place, name in enumerate(chance):
        if kind := _says(by_name, place):
            says.setdefault(kind, []).append(name)
    parts = [f"{kind} by {', '.join(says[kind])}" for kind in (GONE, HIDDEN, KEPT) if kind in says]
    level = "no leak found" if GONE in says else "leak" if parts else "unknown"
    if not parts:
        sentence = "Nothing can be said: of no method could it be told how far it forgets."
        return {"level": level, "sentence": sentence}
    return {"level": level, "sentence": f"What these records taught is {'; '.join(parts)}."}


def _told_apart(chance: Mapping[str, float]) -> dict[str, str]:
    """Of which models the forgotten records can be told from records never seen, either way."""
    made = {name: p for name, p in chance.items() if name not in (BEFORE, NEVER)}
    told = [name for name, p in made.items() if p < SIGNIFICANT]
    rest = [name for name in made if name not in told]
    if chance[BEFORE] >= SIGNIFICANT:
        sentence = (
            "Nothing can be said: the records could not be told from records never seen even "
            f"before they were forgotten (p = {chance[BEFORE]:.2g})."
        )
        return {"level": "unknown", "sentence": sentence}
    if chance[NEVER] < SIGNIFICANT:
        sentence = (
            "These records stand out by what they are, for the model that never saw them too "
            f"(p = {chance[NEVER]:.2g}): what counts is each model's gap to it."
        )
        return {"level": "unknown", "sentence": sentence}
    parts = []
    if rest:
        parts.append(f"cannot be told from records never seen after {', '.join(rest)}")
    if told:
        parts.append(f"still can after {', '.join(told)}")
    level = "leak" if told or not rest else "no leak found"
    return {"level": level, "sentence": f"The forgotten records {'; they '.join(parts)}."}


def _steps(made: _Made) -> list[dict[str, str]]:
    told = [
        {"title": name, "text": f"Promises: {made.promises[name]}. Made {model.name} (fingerprint "
         f"{model.fingerprint}). {model.lineage.guarantee.get('sentence', '')}".strip()}
        for name, model in made.models.items()
        if name != BEFORE
    ]  # fmt: skip
    return [*told, *({"title": name, "text": why} for name, why in made.failed.items())]
