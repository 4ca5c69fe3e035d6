"""`engram audit`, `engram measure` and `engram check`."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from engram import catalog, data, families
from engram.cli.output import make_run, number, tell, terminal_width
from engram.cli.parse import Common, Printed, parse, read_config, split_list
from engram.core import EngramError, Finding, Split, Target
from engram.data.scores import read_scores
from engram.engine import (
    AuditRun,
    EngineRun,
    Reading,
    audit_scores,
    known_records,
    load,
)
from engram.engine import audit as run_audit
from engram.engine import measure as run_measure
from engram.engine.battery import OWN_BASE, unsuited
from engram.engine.measured import measured
from engram.engine.plan import SERVED, Plan, plan_audit, plan_measure
from engram.parts.completions import Budget
from engram.store import RECORD, TARGET, load_record


@dataclass(frozen=True)
class TargetOptions(Common):
    """Which target, and which of its records."""

    target: tyro.conf.Positional[str] = ""
    """A target's folder, any causal language model's folder or Hugging Face name, or a model
    behind an OpenAI-compatible server: openai://HOST:PORT/MODEL."""
    data: str = ""
    """The data that the target was trained on, if it has moved."""
    members: str = ""
    """Records that the model was trained on, where the target has no ledger."""
    outsiders: str = ""
    """Records of the same kind that it never saw."""
    text_column: str | None = None
    """The column of --members and --outsiders that holds the text."""
    owner_column: str | None = None
    """Their column that says whose record it is."""
    id_column: str | None = None
    """Their column that holds the ids."""
    label_column: str | None = None
    """Their column that holds the class, for classifiers."""
    family: str = ""
    """The kind of model, where the folder is not one of ours; by default as its configuration
    says, causal-lm or masked-lm."""
    batch_tokens: int = 4096
    """Tokens in one forward pass."""
    window: int = 0
    """Tokens that the model sees at once; 0: all that it can."""
    stride: int = 0
    """Tokens by which windows over a long record advance; 0: half the window."""
    long: str = "window"
    """Records longer than the context: window (read piece by piece) or refuse."""
    cluster: str = ""
    """Where models to compare with and shards are worked at: local starts Ray here, ADDRESS joins
    one."""
    max_requests: int | None = None
    """The most requests that a served model is asked; without it, as many as it takes."""

    def reading(self) -> Reading:
        """How records are read."""
        return Reading(self.batch_tokens, self.stride, self.window, self.long)


@dataclass(frozen=True)
class AuditOptions(TargetOptions):
    """Options of `engram audit`."""

    scores: str = ""
    """Audit bare numbers instead of a model: a CSV or Parquet file with id, member and one
    column an attack, or target_nll and reference_nll."""
    battery: str = "standard"
    """quick, standard or thorough."""
    attacks: str = ""
    """Exactly these attacks instead of a battery, with commas between them."""
    reference: str = ""
    """The model that the reference attack compares with; by default the target's own base."""
    shadows: int = 0
    """Shadow models to train, so that the attacks that compare with such join the battery."""
    population: str = ""
    """Records that nobody trained on and that are not audited; attacks that need such join."""
    prompts: str = ""
    """Records of the same field, to make the model write from; attacks that need such join."""
    set: str = ""
    """Fields of attacks, with commas between them: min-k.fraction=0.1,neighbourhood.share=0.1."""
    out: Path | None = None
    """Folder of the run; by default one in the store, named by its inputs."""

    def common(self) -> dict[str, Any]:
        """Fields for every attack that has them."""
        given = {"shadows": self.shadows, "population": self.population, "prompts": self.prompts}
        return {key: value for key, value in given.items() if value}

    def settings(self) -> dict[str, dict[str, str]]:
        """The fields of attacks that are not the default."""
        found: dict[str, dict[str, str]] = {}
        given: list[str] = []
        for each in split_list(self.set):
            if given and "=" not in each:  # one more value of the last field
                given[-1] += f",{each}"
            else:
                given.append(each)
        for each in given:
            name, _, value = each.partition("=")
            attack, _, field = name.partition(".")
            if not (attack and field and value):
                raise EngramError(
                    f"--set {each!r} is not ATTACK.FIELD=VALUE", hint="--set min-k.fraction=0.1"
                )
            found.setdefault(attack, {})[field] = value
        if self.reference:
            found.setdefault("reference", {})["reference"] = _as_folder(self.reference)
        return found


def _as_folder(where: str) -> str:
    """A folder that has the name of a keyword (`base`) is a folder where somebody names it."""
    return os.path.join(os.curdir, where) if where in OWN_BASE and Path(where).is_dir() else where


@dataclass(frozen=True)
class CheckOptions(AuditOptions):
    """Options of `engram check`."""

    policy: Path | None = None
    """A TOML file of limits on findings."""


def audit(args: list[str]) -> int:
    """`engram audit TARGET`, or `engram audit --scores FILE`."""
    try:
        options = parse("engram audit", args, AuditOptions).options
    except Printed:
        return 0
    found = _audit(options)
    _tell_audit(found, options.json)
    return 0


def _audit(options: AuditOptions) -> AuditRun:
    if options.scores:
        if options.target or options.members or options.outsiders:
            raise EngramError(
                "both a model's records and --scores are given",
                hint="audit a model or bare scores, one at a time",
            )
        table = read_scores(options.scores)
        return audit_scores(
            table.name,
            table.ids,
            table.member,
            table.columns,
            make_run(options),
            texts=table.texts,
            owners=table.owners,
            notes=table.notes,
            out=options.out,
        )
    target, members, outsiders, run, source = _sides(options)
    if target.family == SERVED:
        _tell_plan(
            plan_audit(
                target,
                members,
                outsiders,
                run,
                battery=options.battery,
                attacks=split_list(options.attacks),
                settings=options.settings(),
                common=options.common(),
            ),
            target,
            run,
        )
    return run_audit(
        target,
        members,
        outsiders,
        run,
        battery=options.battery,
        attacks=split_list(options.attacks),
        settings=options.settings(),
        common=options.common(),
        source=source,
        out=options.out,
    )


def _tell_plan(planned: Plan, target: Target, run: EngineRun) -> None:
    """Say what it will cost, before anything is asked about a record; refuse what is too dear."""
    planned.check(run.budget)
    facts = families.find(target.family).describe(target.model)
    print(f"{facts['server']} tells {facts['tells']}; this will ask {planned}", file=sys.stderr)
    if "losses" in facts:
        print(f"note: losses are {facts['losses']}", file=sys.stderr)


def _sides(options: TargetOptions) -> tuple[Target, Split, Split, EngineRun, str]:
    """The target with its members and outsiders, from its ledger or from the named files."""
    if not options.target:
        raise EngramError(
            "TARGET is missing",
            hint="engram audit runs/finetune-lm-..., or engram audit --scores FILE",
        )
    if bool(options.members) != bool(options.outsiders):
        missing = "--outsiders" if options.members else "--members"
        raise EngramError(
            f"{missing} is missing", hint="an audit needs records of both kinds, from two files"
        )
    names = ("text_column", "owner_column", "id_column", "label_column")
    given = {n: getattr(options, n) for n in names if getattr(options, n) is not None}
    sides = None
    if options.members:  # read before the model is opened: their mistakes are found at once
        named = (options.members, options.outsiders)
        sides = [data.read(where, **given) for where in named]
        _check_classes(*sides)
    budget = Budget(options.max_requests)
    run = replace(make_run(options, options.reading()), budget=budget)
    target = load(
        options.target, run.device, options.family, root=run.root, budget=budget, watch=run.progress
    )
    if sides is not None:
        members, outsiders = sides[0].renamed("members"), sides[1].renamed("outsiders")
        return target, members, outsiders, run, f"{options.members} against {options.outsiders}"
    known = known_records(target, options.data, given)
    return target, known.trained, known.held_out, run, known.source


def _check_classes(members: Split, outsiders: Split) -> None:
    """Classes are numbered in the order of their names: where some lack, the others move up."""
    one, other = (
        [str(name) for name in side.shared.get("classes", ())] if "features" in side.columns else []
        for side in (members, outsiders)
    )
    if one and other and one != other:
        odd = sorted(set(one) ^ set(other)) or one
        raise EngramError(
            f"members have {len(one)} classes and outsiders {len(other)}, and not the same ones "
            f"({', '.join(map(repr, odd[:3]))}), so their numbers mean other things",
            hint="cut both from one file; for folders of pictures name all classes: "
            "'FOLDER?classes=cat,dog'",
        )


@dataclass(frozen=True)
class MeasureOptions(TargetOptions):
    """Options of `engram measure`."""

    out: Path | None = None
    """Folder to keep the result in, as a run with a report; by default it is printed alone."""


def measure(args: list[str]) -> int:
    """`engram measure NAME TARGET`."""
    if not args:
        known = ", ".join(catalog.entries("measures"))
        raise EngramError("`engram measure` needs a measure's name", hint=f"one of {known}")
    entry = catalog.find("measures", args[0])
    try:
        parsed = parse(f"engram measure {args[0]}", args[1:], MeasureOptions, entry.load())
    except Printed:
        return 0
    entry.require()
    target, members, outsiders, run, source = _sides(parsed.options)
    family = families.find(target.family)
    sides = {"members": members, "outsiders": outsiders, **_forgotten(target, parsed.options)}
    for side in sides.values():
        family.check(side)
    if target.family == SERVED and not unsuited(parsed.method, target):
        _tell_plan(plan_measure(args[0], parsed.method, target, sides, run), target, run)
    if out := parsed.options.out:
        done = measured(args[0], parsed.method, target, sides, run, out, source)
        found, path = done.document["measures"], done.folder / "report.html"
        lines = [*map(_noted, found), f"report: {path}"]
        told = {"findings": found, "report": str(path), "run": str(done.folder)}
    else:
        findings = run_measure(parsed.method, target, sides, run)
        found = [f.tagged(method=f.method or args[0]).to_json() for f in findings]
        lines, told = [*map(_noted, found)], {"findings": found}
    tell(told, lines, parsed.options.json)
    return 0


def _noted(finding: Mapping[str, Any]) -> str:
    """A finding as one line, with what there is to say of it."""
    note = finding["note"] if finding["value"] is not None else ""
    return number(finding) + (f": {note}" if note else "")


def _forgotten(target: Target, options: TargetOptions) -> dict[str, Split]:
    """The records that the target was made to forget, as far as they are still in its data."""
    if options.members or target.known is None or not target.ledger.having("forgotten"):
        return {}
    found = known_records(target, options.data).forgotten
    return {"forgotten": found} if len(found) else {}


def check(args: list[str]) -> int:
    """`engram check TARGET --policy policy.toml`; exit 1 where a finding is over its limit."""
    try:
        options = parse("engram check", args, CheckOptions).options
    except Printed:
        return 0
    if options.policy is None:
        raise EngramError("--policy is missing", hint="--policy policy.toml; see the docs")
    limits = read_policy(options.policy)
    if not options.target and not options.scores:
        raise EngramError("TARGET is missing", hint="a target, or the folder of a finished run")
    folder = Path(options.target)
    if (folder / RECORD).is_file() and not (folder / TARGET).is_file():
        document = load_record(folder)
        check_findings(folder, document.get("index"))
    else:
        document = _audit(options).document
    outcome = [judge_limit(limit, document.get("index", [])) for limit in limits]
    over = [row for row in outcome if not row["ok"]]
    lines = [f"{'ok  ' if row['ok'] else 'OVER'}  {row['text']}" for row in outcome]
    lines.append(f"{len(over)} of {len(outcome)} limits are exceeded")
    tell({"limits": outcome, "over": len(over)}, lines, options.json)
    return 1 if over else 0


def check_findings(folder: Path, findings: Any) -> None:
    """Refuse a run's record whose findings are not findings: it may come from anywhere."""
    try:
        for finding in findings:
            Finding(**finding)
    except (TypeError, EngramError) as problem:
        raise EngramError(
            f"{folder / RECORD} holds findings that cannot be read ({problem})",
            hint="run the audit again",
        ) from None


LIMIT_KEYS = {"method", "name", "split", "max", "min", "use"}


def read_policy(path: Path) -> list[dict[str, Any]]:
    """The `[[limit]]` tables of a policy file, checked."""
    limits = read_config(path).get("limit")
    if not isinstance(limits, list) or not limits:
        raise EngramError(
            f"{path} has no [[limit]] table",
            hint='[[limit]] name = "AUC", max = 0.6 (and method, split, use if wanted)',
        )
    for place, limit in enumerate(limits, 1):
        if not isinstance(limit, dict) or not {"max", "min"} & set(limit) or "name" not in limit:
            raise EngramError(
                f"limit {place} in {path} needs a name and a max or a min",
                hint='[[limit]] name = "AUC", max = 0.6',
            )
        if unknown := set(limit) - LIMIT_KEYS:
            raise EngramError(
                f"limit {place} in {path} has an unknown key {sorted(unknown)[0]!r}",
                hint=f"the keys are {', '.join(sorted(LIMIT_KEYS))}",
            )
        bounds = [limit[key] for key in ("max", "min") if key in limit]
        if any(isinstance(b, bool) or not isinstance(b, (int, float)) for b in bounds):
            raise EngramError(f"limit {place} in {path} is not a number", hint="max = 0.6")
        if limit.get("use", "value") not in ("value", "low", "high"):
            raise EngramError(
                f"limit {place} in {path} uses {limit['use']!r}",
                hint="use = value, low or high: which end of the interval must obey",
            )
    return limits


def judge_limit(limit: Mapping[str, Any], findings: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether every finding that the limit names obeys it.

    A limit that no finding matches, or whose number could not be measured, is exceeded: a
    pipeline must not turn green because a name was misspelt.
    """
    keys = [key for key in ("method", "name", "split") if key in limit]
    found = [f for f in findings if all(f.get(k) == limit[k] for k in keys)]
    asked = ", ".join(f"{k} {limit[k]!r}" for k in keys)
    use = limit.get("use", "value")
    if not found:
        return {"ok": False, "text": f"{asked}: there is no such finding", "findings": []}
    ok, told = True, []
    for finding in found:
        value = finding[use]
        fits = value is not None
        fits = fits and value <= limit.get("max", float("inf"))
        fits = fits and value >= limit.get("min", float("-inf"))
        ok = ok and fits
        told.append(number(finding))
    bounds = ", ".join(f"{k} {limit[k]}" for k in ("max", "min") if k in limit)
    return {"ok": ok, "text": f"{'; '.join(told)} ({use}: {bounds})", "findings": found}


def report_of(found: AuditRun) -> dict[str, Any]:
    """What `report.json` of a finished run holds."""
    path = found.folder / "report.json"
    return json.loads(path.read_text(encoding="utf-8"))


def _tell_audit(found: AuditRun, as_json: bool) -> None:
    document = found.document
    path = found.folder / "report.html"
    lines = [
        document["verdict"]["sentence"],
        "",
        f"The split: {document['split_audit']['sentence']}",
        "",
        *_table(document),
        "",
        *(number(f) for f in document["measures"] if f["value"] is not None),
        "",
        *(f"not measured: {reason}" for reason in document["not_measured"]),
        f"report: {path}",
    ]
    tell({**report_of(found), "report": str(path), "run": str(found.folder)}, lines, as_json)


def _table(document: Mapping[str, Any]) -> list[str]:
    """One line an attack: AUC by record and by owner, and the rates at few false alarms."""
    heads = ["attack", "AUC", "AUC by owner", *(f["name"] for f in _rates(document))]
    lines = [heads]
    for attack in document["attacks"]:
        owners = attack["owner_findings"][:1]
        cells = [*attack["findings"][:1], *(owners or [None]), *attack["findings"][1:]]
        lines.append([attack["name"], *(cell(found) for found in cells)])
    return fitted(lines)


def fitted(lines: list[list[str]]) -> list[str]:
    """Cells under each other; on a narrow terminal without empty columns, in several tables."""
    whole = aligned(lines)
    width = terminal_width()
    if width is None or max(map(len, whole)) <= width:
        return whole
    columns = list(zip(*lines, strict=True))
    told = [c for n, c in enumerate(columns) if n < 2 or any(x not in ("", "-") for x in c[1:])]
    tables = [aligned([list(row) for row in zip(*part, strict=True)])
              for part in _parts(told, width)]  # fmt: skip
    return [line for n, table in enumerate(tables) for line in (["", *table] if n else table)]


def _parts(columns: list[tuple[str, ...]], width: int) -> list[list[tuple[str, ...]]]:
    """The columns of each table, the first of all in each of them; at least two columns."""
    first, parts, used = columns[0], [], width + 1
    for column in columns[1:]:
        wide = 2 + max(map(len, column))
        if used + wide > width:
            parts.append([first])
            used = max(map(len, first))
        parts[-1].append(column)
        used += wide
    return parts


def aligned(lines: list[list[str]]) -> list[str]:
    """Cells under each other."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _rates(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return document["attacks"][0]["findings"][1:]


def cell(finding: Mapping[str, Any] | None) -> str:
    """A value with its interval, if it has one, or a dash."""
    if finding is None or finding["value"] is None:
        return "-"
    if finding["low"] == finding["high"] == finding["value"]:  # counted, not estimated
        return f"{finding['value']:,.4g}"
    return f"{finding['value']:.3f} [{finding['low']:.3f}, {finding['high']:.3f}]"
