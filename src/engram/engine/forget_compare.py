"""`engram forget --compare`: one deletion request, many unlearners, one table.

Every method makes its model from the same target; all of them, the target and a model trained
without the records are asked the same questions. Nothing is deleted by it: the target stays, and
the deletion ledger is not written to.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engram import __version__, catalog
from engram.core import DivergedError, EngramError, Split, Target, nearest
from engram.engine.audit import AuditRun, audit, finish, found_run
from engram.engine.forget import (
    BEFORE,
    FORGETTING,
    INDEX,
    NEVER,
    calibrated,
    compare,
    kept,
    retrain_without,
)
from engram.engine.forget_evidence import BY_DEFINITION
from engram.engine.records import Known
from engram.engine.run import EngineRun
from engram.engine.targets import now
from engram.engine.train import BusyError, edit
from engram.stats.residual import GONE, HIDDEN, KEPT, verdict
from engram.store import DiskFullError, run_id

ALL, EXACT = "all", "retrain"
SHOWN = (
    ("AUC", "AUC of forgotten records"),
    ("privacy gap", "privacy gap to the model that never saw them"),
    ("forget quality", "forget quality (p-value)"),
    ("utility", "model utility on kept records"),
    ("loss on kept", "loss on kept records"),
    ("forgetting", "behavioural forgetting"),
    ("index", INDEX),
    ("seconds", "seconds to make it"),
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


def suited(target: Target, wanted: Sequence[str]) -> dict[str, Any]:
    """The unlearners that were named, or all that suit the target's family, ready for use.

    Raises:
        EngramError: One of them is not known, or is not for this family.
    """
    known = catalog.entries("edits")
    if list(wanted) == [ALL]:
        methods = {name: known[name].load() for name in known}
        return {
            name: kind()
            for name, kind in methods.items()
            if target.family in kind.families and name != EXACT
        }
    found = {}
    for name in wanted:
        if name not in known:
            raise EngramError(
                f"there is no unlearner called {name!r}",
                hint=nearest(name, known, "`engram ls edits` lists them; all takes every one"),
            )
        kind = known[name].load()
        if target.family not in kind.families:
            raise EngramError(
                f"{name} edits {', '.join(sorted(kind.families))}, but target {target.name!r} is "
                f"a {target.family}",
                hint="--compare all takes those that suit it",
            )
        if name != EXACT:  # it stands in the table anyway
            found[name] = kind()
    if not found:
        raise EngramError(
            "--compare names no unlearner beside retrain",
            hint="--compare all, or names with commas between them",
        )
    return found


def compare_unlearners(
    target: Target,
    known: Known,
    records: Split,
    methods: Mapping[str, Any],
    run: EngineRun,
    *,
    out: Path | None = None,
    title: str = "",
) -> Compared:
    """Make a model by each method, and ask all of them the same questions.

    Args:
        target: One of ours, with a ledger.
        known: Its records (`known_records`).
        records: What to forget (`to_forget`).
        methods: Edits by name (`suited`).
        run: Seed, device, store.
        out: Folder of the evidence; by default one in the store.
        title: Heads the report.
    """
    keep = kept(target, known, records)
    models: dict[str, Target] = {BEFORE: target}
    failed: dict[str, str] = {}
    for done, (name, method) in enumerate(methods.items()):
        run.progress(done, len(methods), f"unlearners: {name}")
        try:
            ready = calibrated(method, target, known, run)
            models[name] = edit(ready, target, keep, records, run)
        except (BusyError, DiskFullError):
            raise
        except EngramError as problem:
            # What a method cannot do is a line of the table; it must not lose the others.
            kind = "diverged" if isinstance(problem, DivergedError) else "could not be applied"
            failed[name] = f"{kind}: {problem}"
    models[NEVER] = retrain_without(target, known, set(records.ids), run)
    promises = {name: getattr(m, "promise", "approximate") for name, m in methods.items()}
    promises[NEVER] = "exact"
    story = _story(target, known, records, keep, models, promises, failed, run, out, title)
    return Compared(story, promises, failed)


def _story(
    target: Target,
    known: Known,
    records: Split,
    keep: Split,
    models: Mapping[str, Target],
    promises: Mapping[str, str],
    failed: Mapping[str, str],
    run: EngineRun,
    out: Path | None,
    title: str,
) -> AuditRun:
    number = run_id(
        "forget-compare",
        models={name: model.fingerprint for name, model in models.items()},
        forget=records.fingerprint,
        keep=keep.fingerprint,
        held_out=known.held_out.fingerprint,
        reading=asdict(run.reading),
        failed=dict(failed),
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
    rows, _ = compare(models, {BEFORE: before}, keep, records, known.held_out, run)
    document = {
        "engram": __version__,
        "kind": "story",
        "method": "forget",
        "id": number,
        "created": now(),
        "seconds": round(time.monotonic() - started, 2),
        "title": title or f"{len(models) - 2} ways to forget {len(records)} records",
        "lead": f"{target.name} was made to forget {len(records)} records in {len(models) - 2} "
        "ways. A way is good where its model cannot be told from the one that never saw them.",
        "verdict": _best(rows, list(models)),
        "leak": None,
        "comparison": {"columns": list(models), "rows": rows},
        "steps": _steps(models, promises, failed),
        "audits": [{"title": BEFORE, "document": before.document}],
    }
    return finish(folder, document, run.root)


def _best(rows: list[dict[str, Any]], columns: Sequence[str]) -> dict[str, str]:
    """Which methods removed what was forgotten, in one sentence."""
    by_name = {row["name"]: row["cells"] for row in rows}
    if INDEX not in by_name:
        return {
            "level": "unknown",
            "sentence": "For this family of models it is not known how to tell removal from "
            "suppression; the table shows what is known.",
        }
    says: dict[str, list[str]] = {}
    for place, name in enumerate(columns):
        if kind := _says(by_name, place):
            says.setdefault(kind, []).append(name)
    parts = [f"{kind} by {', '.join(says[kind])}" for kind in (GONE, HIDDEN, KEPT) if kind in says]
    level = "no leak found" if GONE in says else "leak" if parts else "unknown"
    told = "; ".join(parts) or "nothing can be said of any method"
    return {"level": level, "sentence": f"What these records taught is {told}."}


def _steps(
    models: Mapping[str, Target], promises: Mapping[str, str], failed: Mapping[str, str]
) -> list[dict[str, str]]:
    made = [
        {"title": name, "text": f"Promises: {promises[name]}. Made {model.name} (fingerprint "
         f"{model.fingerprint})."}
        for name, model in models.items()
        if name != BEFORE
    ]  # fmt: skip
    return [*made, *({"title": name, "text": why} for name, why in failed.items())]
