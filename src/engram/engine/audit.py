"""The main job: which records does this model give away?"""

import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engram import __version__, catalog, families, stats
from engram.core import SCORED, EngramError, Split, Target, stream
from engram.engine.battery import Battery, Settings, choose_battery, reference_prints
from engram.engine.exposed import exposed_owners, exposed_records, extraction_examples
from engram.engine.judge import Judgement, border_pairs, judge, look_at_split
from engram.engine.pictures import trained_pictures
from engram.engine.run import EngineRun
from engram.engine.targets import describe, now, observed_of, trace_of
from engram.engine.trial import Labelled, Trial
from engram.store import (
    add,
    disk_errors,
    is_complete,
    load_record,
    run_id,
    save_record,
)

SCORES = "scores.parquet"
OWN_FILES = (SCORES, "report.html", "report.json", "report.md")


@dataclass(frozen=True)
class AuditRun:
    """A finished audit: its folder and its record."""

    folder: Path
    document: dict[str, Any]

    @property
    def findings(self) -> list[dict[str, Any]]:
        """Every finding of the audit, as plain data."""
        return list_findings(self.document)


def audit(
    target: Target,
    members: Split,
    outsiders: Split,
    run: EngineRun,
    *,
    battery: str = "standard",
    attacks: tuple[str, ...] = (),
    settings: Settings = MappingProxyType({}),
    common: Mapping[str, Any] = MappingProxyType({}),
    source: str = "",
    out: Path | None = None,
) -> AuditRun:
    """Audit a target, or find the audit if the same one was made before.

    Args:
        target: The model; its ledger is not shown to the attacks.
        members: Records that it was trained on.
        outsiders: Records of the same kind that it never saw.
        run: Seed, device, store, and how records are read.
        battery: "quick", "standard" or "thorough".
        attacks: Exactly these attacks instead of a battery.
        settings: Fields of attacks that are not the default, by attack.
        common: Fields for every attack that has them; some bring attacks along: `shadows`,
            `population`, `prompts`.
        source: Where the records came from, for the report.
        out: Folder of the run; by default one in the store.

    Raises:
        EngramError: Sides overlap or are empty, records are not of the family's kind, an attack
            is unknown or does not suit the target.
    """
    started = time.monotonic()
    family = families.find(target.family)
    run.remember(target)
    planted = any(members.canaries or ())
    chosen = choose_battery(target, run, battery, attacks, settings, common, planted=planted)
    for side in (members, outsiders):
        family.check(side)
    columns = [column for column in members.columns if column in outsiders.columns]
    trial = Trial(members.only(columns), outsiders.only(columns))
    name = _audit_id(target, trial, chosen, run)
    folder = out or run.root / name
    if found := found_run(folder, name, run.root):
        return AuditRun(folder, found)
    fair_trial, outcomes = _scorable(trial, target)
    split_audit = look_at_split(fair_trial.members, fair_trial.outsiders, run.seed)
    labelled = fair_trial.run(chosen.attacks, target, run)
    judgement = judge(
        labelled.scores,
        labelled.is_member,
        split_audit,
        labelled.records.owners,
        run.seed,
        labelled.units,
        {name: _about(attack) for name, attack in chosen.attacks.items()},
    )
    measures, unmeasured = _measure(target, fair_trial, chosen, run)
    document = {
        **_head(name, target),
        "verdict": judgement.verdict,
        "setup": _setup(fair_trial, run, source, chosen),
        "split_audit": judgement.split_audit | border_pairs(split_audit, labelled.records.ids),
        "headline": judgement.headline,
        "attacks": judgement.attacks,
        "measures": [*judgement.ensemble, *measures],
        **_records(target, labelled, judgement, run),
        "trace": trace_of(target.folder),
        "observed": observed_of(target),
        "not_measured": [*judgement.not_measured, *chosen.left_out, *unmeasured],
        "outcomes": dict(outcomes),
        "warnings": _warnings(outcomes, judgement),
    }
    document["seconds"] = round(time.monotonic() - started, 2)
    return finish(folder, document, run.root, labelled)


def found_run(folder: Path, name: str, root: Path) -> dict[str, Any] | None:
    """The record of a finished run with this id; an error where the folder holds another.

    What a killed run left in its folder is written over; what is missing beside a finished
    record (the report, the index entry) is made up for.
    """
    from engram import report

    if not is_complete(folder):
        strange = [p.name for p in folder.iterdir()] if folder.is_dir() else [folder.name]
        strange = [n for n in strange if n not in OWN_FILES and not n.endswith(".part")]
        if folder.exists() and strange:
            raise EngramError(
                f"{folder} is already there and holds no run, but {strange[0]!r}",
                hint="choose another --out: a run needs a folder of its own",
            )
        return None
    document = load_record(folder)
    if document.get("id") != name:
        raise EngramError(
            f"{folder} already holds another run ({document.get('id')})",
            hint="choose another --out, or leave it out: the store names runs by their inputs",
        )
    if not all((folder / file).is_file() for file in OWN_FILES[1:]):
        report.write(folder)
        add(root, folder)
    return document


def finish(
    folder: Path, document: dict[str, Any], root: Path, labelled: Labelled | None = None
) -> AuditRun:
    """Write scores, then the record, then the report, then the index entry."""
    from engram import report

    document["index"] = list_findings(document)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if labelled is not None:
            pq.write_table(_score_table(labelled), folder / (SCORES + ".part"))
            (folder / (SCORES + ".part")).replace(folder / SCORES)
        save_record(folder, document)
        report.write(folder)
    add(root, folder)
    return AuditRun(folder, document)


def list_findings(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every finding in an audit's record, one flat list."""
    found = list(document.get("split_audit", {}).get("findings", []))
    found += document.get("headline", {}).get("findings", [])
    for attack in document.get("attacks", []):
        found += attack["findings"] + attack["owner_findings"]
    for row in document.get("comparison", {}).get("rows", []):
        found += row["cells"]
    if document.get("kind") == "comparison":
        found += [cell for row in document["targets"] for cell in row["cells"] + row["matched"]]
    return found + list(document.get("measures", []))


def _audit_id(target: Target, trial: Trial, chosen: Battery, run: EngineRun) -> str:
    methods = {**chosen.attacks, **{f"measure {n}": m for n, m in chosen.measures.items()}}
    return run_id(
        "audit",
        target=target.fingerprint,
        members=trial.members.fingerprint,
        outsiders=trial.outsiders.fingerprint,
        methods={name: asdict(method) for name, method in methods.items()},
        references=reference_prints(chosen.attacks, target, run),
        reading=asdict(run.reading),
        seed=run.seed,
        code=__version__,
    )


def _scorable(trial: Trial, target: Target) -> tuple[Trial, Counter[str]]:
    """Leave out, and count by outcome, the records that the model cannot be asked about."""
    family = families.find(target.family)
    outcomes: Counter[str] = Counter()
    sides = []
    for side in (trial.members, trial.outsiders):
        found = family.outcomes(target.model, side)
        outcomes.update(found)
        sides.append(side.where([o == SCORED for o in found]))
        if not len(sides[-1]):
            raise EngramError(
                f"none of the {len(side)} records in {side.name!r} can be scored "
                f"({', '.join(sorted(set(found)))})",
                hint="a text needs at least two tokens",
            )
    return Trial(*sides), outcomes


def _about(method: Any) -> dict[str, str]:
    entry = catalog.find(catalog.kind_of(method), catalog.name_of(method))
    return {"summary": entry.summary, "paper": str(method.paper)}


def _measure(
    target: Target, trial: Trial, chosen: Battery, run: EngineRun
) -> tuple[list[dict[str, object]], list[str]]:
    """Findings of all measures, and a sentence for each that these records do not allow."""
    splits = {"members": trial.members, "outsiders": trial.outsiders}
    found, unmeasured = [], []
    for name, measure in chosen.measures.items():
        try:
            findings = measure(target.sealed(), splits, run)
        except EngramError as problem:
            unmeasured.append(f"{name}: {problem}")
            continue
        found += [f.tagged(method=f.method or name).to_json() for f in findings]
    return found, unmeasured


def _head(name: str, target: Target) -> dict[str, Any]:
    facts = describe(target)
    keys = ("name", "family", "fingerprint", "access", "lineage", "facts")
    return {
        "engram": __version__,
        "kind": "audit",
        "id": name,
        "created": now(),
        "seconds": 0.0,
        "target": {key: facts[key] for key in keys},
    }


def _setup(trial: Trial, run: EngineRun, source: str, chosen: Battery) -> dict[str, Any]:
    owners = None
    if trial.members.owners is not None and trial.outsiders.owners is not None:
        owners = len({*trial.members.owners, *trial.outsiders.owners})
    return {
        "members": len(trial.members),
        "outsiders": len(trial.outsiders),
        "owners": owners,
        "seed": run.seed,
        "device": run.device,
        "data": source or f"{trial.members.name} and {trial.outsiders.name}",
        "settings": {
            **asdict(run.reading),
            **{name: asdict(attack) for name, attack in chosen.attacks.items()},
        },
        "environment": environment(),
    }


def environment() -> dict[str, str]:
    """Versions that decide the numbers."""
    import torch
    import transformers

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
    }


def _records(
    target: Target, labelled: Labelled, judgement: Judgement, run: EngineRun
) -> dict[str, Any]:
    best = judgement.headline["attack"] or next(iter(labelled.scores))
    exposed = exposed_records(target, labelled, best, run, judgement.sign)
    shown = trained_pictures(labelled.records.where(labelled.is_member))
    return {
        **({"pictures": shown} if shown else {}),
        "exposed": exposed,
        "owners": exposed_owners(labelled, best, judgement.sign),
        "extraction": extraction_examples(target, labelled, exposed, run),
    }


def _warnings(outcomes: Counter[str], judgement: Judgement) -> list[str]:
    warnings = []
    if judgement.split_audit["verdict"] != "clean":
        warnings.append(judgement.split_audit["sentence"])
    for outcome, times in sorted(outcomes.items()):
        if outcome != SCORED:
            warnings.append(f"{times} records were left out: {outcome}")
    return warnings


def _score_table(labelled: Labelled) -> pa.Table:
    columns: dict[str, Any] = {"id": pa.array(labelled.records.ids, pa.string())}
    if labelled.records.owners is not None:
        columns["owner"] = pa.array(labelled.records.owners, pa.string())
    columns["member"] = pa.array(labelled.is_member)
    return pa.table({**columns, **{n: pa.array(v) for n, v in labelled.scores.items()}})


def audit_scores(
    name: str,
    ids: Sequence[str],
    is_member: np.ndarray,
    scores: Mapping[str, np.ndarray],
    run: EngineRun,
    *,
    texts: Sequence[str] | None = None,
    owners: Sequence[str] | None = None,
    notes: Sequence[str] = (),
    out: Path | None = None,
) -> AuditRun:
    """Audit bare numbers: scores or losses that were made elsewhere, without the model.

    Args:
        name: What to call the file in the report.
        ids: One id a record.
        is_member: Whether each record was trained on.
        scores: One column an attack; higher means more likely a member.
        run: Seed and store.
        texts: The records, if they may be looked at; without them the split is not audited.
        owners: Whose records they are, if known.
        notes: What a reader of the numbers should know.
        out: Folder of the run; by default one in the store.
    """
    started = time.monotonic()
    columns: dict[str, Any] = {f"score {attack}": values for attack, values in scores.items()}
    columns |= {"member": is_member.astype(float), "id": list(ids)}
    columns |= {} if owners is None else {"owner": list(owners)}
    columns |= {} if texts is None else {"text": list(texts)}
    split = Split.from_table(name, pa.table(columns))
    number = run_id(
        "audit", scores=split.fingerprint, columns=list(scores), seed=run.seed, code=__version__
    )
    folder = out or run.root / number
    if found := found_run(folder, number, run.root):
        return AuditRun(folder, found)
    audit = stats.audit_split(texts, is_member, owners, stream(run.seed, "split audit"))
    judgement = judge(scores, is_member, audit, owners, run.seed)
    labelled = Labelled(split, split, is_member, scores, {})
    best = judgement.headline["attack"] or next(iter(scores))
    document = {
        "engram": __version__,
        "kind": "audit",
        "id": number,
        "created": now(),
        "seconds": round(time.monotonic() - started, 2),
        "target": {"name": name, "family": "", "fingerprint": "", "access": "", "facts": {},
                   "lineage": {}},
        "verdict": judgement.verdict,
        "setup": {
            "members": int(is_member.sum()),
            "outsiders": int((~is_member).sum()),
            "owners": None if owners is None else len(set(owners)),
            "seed": run.seed,
            "device": "",
            "data": name,
            "settings": {},
            "environment": {"python": platform.python_version(), "numpy": np.__version__},
        },
        "split_audit": judgement.split_audit | border_pairs(audit, ids),
        "headline": judgement.headline,
        "attacks": judgement.attacks,
        "measures": judgement.ensemble,
        "exposed": exposed_records(None, labelled, best, run, judgement.sign),
        "owners": exposed_owners(labelled, best, judgement.sign),
        "extraction": [],
        "trace": [],
        "not_measured": [
            *judgement.not_measured,
            "perplexity, extraction, tokens: the model itself was not given",
        ],
        "outcomes": {SCORED: len(ids)},
        "warnings": [*_warnings(Counter(), judgement), *notes],
    }  # fmt: skip
    return finish(folder, document, run.root, labelled)
