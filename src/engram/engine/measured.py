"""A measure as a run of its own: its findings are kept, and open as a report."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engram import __version__, catalog
from engram.core import Finding, Split, Target
from engram.engine.audit import AuditRun, environment, finish, found_run
from engram.engine.run import EngineRun
from engram.engine.targets import describe, now
from engram.store import run_id


def measurement_id(
    name: str, method: Any, target: Target, splits: Mapping[str, Split], run: EngineRun
) -> str:
    """The id of this measure of this target on these records."""
    return run_id(
        "measure",
        measure=name,
        settings=asdict(method),
        target=target.fingerprint,
        splits={side: split.fingerprint for side, split in splits.items()},
        reading=asdict(run.reading),
        seed=run.seed,
        code=__version__,
    )


def measured(
    name: str,
    method: Any,
    target: Target,
    splits: Mapping[str, Split],
    run: EngineRun,
    out: Path,
    source: str = "",
) -> AuditRun:
    """Measure a target, and keep what was found as a run with a report.

    Args:
        name: The measure's name.
        method: The measure.
        target: Whom to measure.
        splits: The records, by side.
        run: The engine's run.
        out: Folder of the run.
        source: Where the records come from, for the report.

    Raises:
        EngramError: The target cannot be measured so, or the folder holds something else.
    """
    from engram.engine import measure

    started = time.monotonic()
    number = measurement_id(name, method, target, splits, run)
    if found := found_run(out, number, run.root):
        return AuditRun(out, found)
    findings = measure(method, target, splits, run)
    document = {
        "engram": __version__,
        "kind": "measurement",
        "method": name,
        "id": number,
        "created": now(),
        "seconds": round(time.monotonic() - started, 2),
        "target": _facts(target),
        "summary": catalog.find("measures", name).summary,
        "paper": str(method.paper) if getattr(method, "paper", None) else "",
        "setup": {
            "records": {side: len(split) for side, split in splits.items()},
            "data": source,
            "seed": run.seed,
            "device": run.device,
            "settings": {**asdict(run.reading), **asdict(method)},
            "environment": environment(),
        },
        "measures": [_tagged(finding, name) for finding in findings],
    }
    return finish(out, document, run.root)


def _facts(target: Target) -> dict[str, Any]:
    known = describe(target)
    return {k: known[k] for k in ("name", "family", "fingerprint", "access", "lineage", "facts")}


def _tagged(finding: Finding, name: str) -> dict[str, Any]:
    return finding.tagged(method=finding.method or name).to_json()
