"""Runs the arrows: seeds, ledger, resume, store. `import engram` gives these by name."""

from collections.abc import Mapping

from engram.core import EngramError, Finding, Measure, Split, Target, Transform
from engram.engine.audit import AuditRun, audit, audit_scores
from engram.engine.compare import compare
from engram.engine.demo import demo
from engram.engine.forget import Forgotten, forget, scorable
from engram.engine.records import Known, known_records, to_forget
from engram.engine.run import EngineRun, Reading, pick_device
from engram.engine.targets import load
from engram.engine.train import edit, train, train_on


def transform(method: Transform, split: Split, run: EngineRun) -> Split:
    """Apply a transform; the given split stays as it is."""
    changed = method(split, run)
    if not len(changed):
        raise EngramError(
            f"nothing is left of the {len(split)} records of {split.name!r}",
            hint="the transform's settings take everything away",
        )
    return changed


def measure(
    method: Measure, target: Target, splits: Mapping[str, Split], run: EngineRun
) -> tuple[Finding, ...]:
    """Measure a target on named splits."""
    from engram.engine.battery import unsuited

    if reason := unsuited(method, target):
        raise EngramError(
            f"target {target.name!r} cannot be measured so: {reason}",
            hint="`engram ls measures` lists the others",
        )
    askable = {name: scorable(split, target) for name, split in splits.items()}
    return method(target.sealed(), askable, run)


__all__ = [
    "AuditRun", "EngineRun", "Forgotten", "Known", "Reading", "audit", "audit_scores", "compare",
    "demo", "edit", "forget", "known_records", "load", "measure", "pick_device", "to_forget",
    "train", "train_on", "transform",
]  # fmt: skip
