"""Targets on disk: seal a draft into one, and open one again."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engram import __version__, families
from engram.core import ACCESS, Draft, EngramError, Ledger, Lineage, Target, nearest
from engram.parts.completions import Budget, is_address
from engram.parts.observation_line import findings_of, is_observation
from engram.parts.stopping import best
from engram.store import TARGET, default_root, disk_errors, read_json, write_json

TRACE = "trace.jsonl"
Watch = Callable[[int, int, str], None]
KEYS = ("id", "name", "family", "fingerprint", "access", "lineage")


def silent(done: int, total: int, what: str) -> None:
    """Watch nothing."""


def now() -> str:
    """The time in UTC, as records state it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seal(
    draft: Draft,
    ledger: Ledger,
    lineage: Lineage,
    folder: Path,
    name: str = "",
    seconds: float = 0.0,
) -> Target:
    """Write a draft as a target folder; `target.json` comes last, so a folder with it is whole.

    The ledger is written here, for every recipe and edit, and nowhere else. `seconds` is what the
    draft took to make.
    """
    family = families.find(draft.family)
    staging = folder / ".incoming"
    with disk_errors(folder):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        family.save(draft.model, staging)
        ledger.save(staging)
        lines = [json.dumps(dict(entry), allow_nan=False) for entry in draft.trace]
        (staging / TRACE).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        for path in sorted(staging.iterdir()):
            if (folder / path.name).is_dir():  # of a sealing that was killed
                shutil.rmtree(folder / path.name)
            os.replace(path, folder / path.name)
        staging.rmdir()
        fingerprint = family.fingerprint(draft.model)
        target = Target(
            name or folder.name,
            draft.family,
            draft.model,
            fingerprint,
            lineage=lineage,
            known=ledger,
            folder=folder,
        )
        write_json(folder / TARGET, {**describe(target), "seconds": round(seconds, 3)})
    return target


def describe(target: Target) -> dict[str, Any]:
    """What `target.json` says of a target, and what reports show of it."""
    facts: Mapping[str, Any] = families.find(target.family).describe(target.model)
    return {
        "engram": __version__,
        "id": target.folder.name if target.folder else target.name,
        "name": target.name,
        "family": target.family,
        "fingerprint": target.fingerprint,
        "access": target.access,
        "created": now(),
        "lineage": target.lineage.to_json(),
        "facts": {**facts, **_promised(target.lineage)},
    }


def _promised(lineage: Lineage) -> dict[str, Any]:
    return {"guarantee": lineage.guarantee["sentence"]} if lineage.guarantee else {}


def load(
    where: str | Path,
    device: str = "cpu",
    family: str = "",
    *,
    root: Path | None = None,
    budget: Budget | None = None,
    watch: Watch = silent,
) -> Target:
    """Open a target: a folder of ours, any model folder or published name, or a served model.

    Args:
        where: The folder, the name, or `openai://HOST:PORT/MODEL`.
        device: Where to compute.
        family: The kind of model, where the folder is not one of ours; by default a masked or a
            causal language model, as its configuration says.
        root: The store, where a server's answers are kept; by default `ENGRAM_RUNS` or ./runs.
        budget: How many requests may be made of a server.
        watch: Told how far a server's answers are.

    Raises:
        EngramError: There is no such model, its files are damaged or of an unsafe kind, or its
            weights are not those that its `target.json` describes.
    """
    if is_address(where):
        return _served(str(where), root or default_root(), budget or Budget(), watch)
    folder = Path(where)
    if (folder / TARGET).is_file():
        return _ours(folder, device)
    if (folder / ".incoming").exists() or any(folder.glob(".work-*")):
        raise EngramError(
            f"{folder} holds a training that was not finished",
            hint="start the same `engram train` command again: it goes on where it stopped",
        )
    from engram.parts.published_model import published_family

    family = family or published_family(where)
    adapter = families.find(family)
    model = adapter.load(str(where), device)
    return Target(
        folder.name or str(where),
        family,
        model,
        adapter.fingerprint(model),
        folder=folder if folder.is_dir() else None,
    )


def _served(where: str, root: Path, budget: Budget, watch: Watch) -> Target:
    """A model behind a server; it offers text, or log-probabilities too, and never weights."""
    from engram.families.api_lm import FAMILY

    with disk_errors(root):
        model = FAMILY.load(where, root=root / "signals", budget=budget, watch=watch)
    access = "text" if FAMILY.offered(model) == {"text"} else "logits"
    return Target(model.client.address.model, FAMILY.name, model, model.fingerprint, access=access)


def _ours(folder: Path, device: str) -> Target:
    record = read_json(folder / TARGET)
    if missing := [key for key in KEYS if key not in record]:
        raise EngramError(
            f"{folder / TARGET} has no {missing[0]!r}",
            hint="the file may be damaged; train the target again",
        )
    if record["access"] not in ACCESS:
        raise EngramError(
            f"{folder / TARGET} says access {record['access']!r}",
            hint=nearest(str(record["access"]), ACCESS, f"known: {', '.join(ACCESS)}"),
        )
    family = families.find(str(record["family"]))
    model = family.load(folder, device)
    fingerprint = family.fingerprint(model)
    if fingerprint != record["fingerprint"]:
        raise EngramError(
            f"the weights in {folder} have the fingerprint {fingerprint}, but its "
            f"{TARGET} describes {record['fingerprint']}",
            hint="the files were changed after they were written; train or edit again",
        )
    return Target(
        str(record["name"]),
        family.name,
        model,
        fingerprint,
        access=record["access"],
        lineage=_lineage(record["lineage"], folder),
        known=Ledger.load(folder),
        folder=folder,
    )


def _lineage(found: Any, folder: Path) -> Lineage:
    known = {field.name for field in fields(Lineage)}
    if not isinstance(found, Mapping) or set(found) - known:
        raise EngramError(
            f"{folder / TARGET} has a lineage that cannot be read",
            hint="it may come from a newer version of Engram",
        )
    return Lineage(**{**found, "history": tuple(found.get("history", ()))})


def trace_of(folder: Path | None, at_most: int = 400) -> list[dict[str, Any]]:
    """The training trace of a target folder, thinned to `at_most` entries; [] without one."""
    lines = [line for line in _trace(folder) if not is_observation(line)]
    step = max(1, -(-len(lines) // at_most))
    return lines[::step]


def observations_of(folder: Path | None) -> list[dict[str, Any]]:
    """The entries of the trace that a monitor wrote, oldest first."""
    return [line for line in _trace(folder) if is_observation(line)]


def observed_of(target: Target) -> list[dict[str, Any]]:
    """What a monitor saw while the target was trained: epoch, whether kept, and findings."""
    seen = observations_of(target.folder)
    settings = target.lineage.config
    kept = best(settings.get("stop", "none"), seen, settings.get("tau", 0.0))
    kept = len(seen) - 1 if kept is None else kept
    return [
        {
            "epoch": entry["epoch"],
            "kept": place == kept,
            "findings": [found.to_json() for found in findings_of(entry)],
        }
        for place, entry in enumerate(seen)
    ]


def _trace(folder: Path | None) -> list[dict[str, Any]]:
    if folder is None or not (folder / TRACE).is_file():
        return []
    try:
        text = (folder / TRACE).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines() if line]
    except (OSError, ValueError) as problem:
        raise EngramError(
            f"{folder / TRACE} cannot be read ({problem})", hint="the file may be damaged"
        ) from None
