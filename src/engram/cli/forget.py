"""`engram forget`: a deletion request, one method or many, or two exported logs."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from engram import catalog, data
from engram.cli.judge import cell, fitted, judge_limit, read_policy, report_of
from engram.cli.output import make_run, number, tell
from engram.cli.parse import Common, Printed, listed, parse, split_list
from engram.core import EngramError, Finding, Split, Target
from engram.data.answer_logs import read_answer_log
from engram.engine import EngineRun, known_records, load, to_forget
from engram.engine import forget as run_forget
from engram.engine.answer_logs import judge_logs
from engram.engine.auto_forget import CHANCE, HELD_OUT, KEPT, Attempt, choose_unlearner
from engram.engine.forget import Forgotten, retrain_without
from engram.engine.forget_compare import compare_unlearners
from engram.engine.forget_evidence import suits_residual
from engram.engine.prepared import answering, suited
from engram.stats.residual import REMOVED, SUMMARIES


@dataclass(frozen=True)
class ForgetOptions(Common):
    """Options of `engram forget`; the method's own fields are set by `engram edit`."""

    target: tyro.conf.Positional[str] = ""
    """The target that is to forget."""
    owner: str = ""
    """Forget all records of this owner, of several with commas between them, or of those in a file
    that has one a line."""
    ids: str = ""
    """Forget the records with these ids, with commas between them or in a file with one a line."""
    records: str = ""
    """Forget the records in this file; they are found by their content."""
    method: str = ""
    """The unlearner (`engram ls edits`), or auto: the cheapest one that passes the policy. By
    default the one that the target was prepared for (by sisa, say), else gradient-difference, or
    retrain where that is not for its kind of model."""
    compare: str = ""
    """Try these (names with commas between them, or all) and compare them in one table: unlearners,
    and recipes that would have prepared for the request. Nothing is deleted by that."""
    policy: Path | None = None
    """Limits for --method auto, a TOML file as `engram check` reads: on chance (p-value of
    forgotten and held-out records being alike), usefulness on kept records and usefulness on
    held-out records, and of language models suppression index. By default at least 0.05, 0.8 and
    0.9, and at most 0.2."""
    retrain: bool = True
    """Train the exact reference too: the same recipe and seed, without the records."""
    battery: str = "standard"
    """For the audits before and after: quick, standard or thorough."""
    data: str = ""
    """The data that the target was trained on, if it has moved."""
    logs: str = ""
    """Judge a model by its exported losses alone (TOFU's evaluation log), without any target."""
    retrained_logs: str = ""
    """The same log of the model that was trained without the records."""
    out: Path | None = None
    """Folder of the new target; the evidence goes beside it, to OUT-evidence."""
    requested_by: str = ""
    """Who asked: a case number, say. It is written into the deletion ledger."""
    branch: bool = False
    """Go on although an earlier request has already made this target forget other records."""


def forget(args: list[str]) -> int:
    """`engram forget TARGET (--records F | --ids ... | --owner ID)`."""
    try:
        options = parse("engram forget", args, ForgetOptions).options
    except Printed:
        return 0
    if options.logs or options.retrained_logs:
        return _judge_logs(options)
    _check(options)
    automatic = options.method == "auto"
    limits = read_policy(options.policy) if options.policy else FORGETTING
    run = make_run(options)
    target = load(options.target, run.device)
    name = options.method or answering(target) or _usual(target)
    method = None if automatic else catalog.find("edits", name).load()()
    known = known_records(target, options.data)
    asked = data.read(options.records, **columns_of(target)) if options.records else None
    owners = _owners(options.owner, target)
    records = to_forget(
        target, known, owner=owners, ids=listed(options.ids), records=asked, root=options.root
    )
    _tell_of_copies(owners, records)
    if options.compare:
        return _compare(options, target, known, records, run)
    attempts: tuple[Attempt, ...] = ()
    if method is None:
        if options.policy is None and suits_residual(target):
            limits = [*limits, SUPPRESSED]
        never = None
        if options.retrain:  # the evidence needs it anyway
            never = retrain_without(target, known, set(records.ids), run)
        method, attempts = choose_unlearner(
            target, known, records, run, lambda found: failing(limits, found), never
        )
    done = run_forget(
        target,
        known,
        records,
        method,
        run,
        retrain=options.retrain,
        battery=options.battery,
        out=options.out,
        evidence=options.out.with_name(f"{options.out.name}-evidence") if options.out else None,
        by=options.requested_by,
        branch=options.branch,
    )
    _tell(done, attempts, options.json)
    return 0


def _usual(target: Target) -> str:
    """The unlearner where none is named: retraining for models that are not trained by steps."""
    suits = target.family in catalog.find("edits", USUAL).load().families
    return USUAL if suits else "retrain"


def _owners(asked: str, target: Target) -> tuple[str, ...]:
    """Whose records go: one owner, whose name may have a comma in it, or several."""
    is_one = asked != "" and asked in (target.ledger.owners or ())
    return (asked,) if is_one else listed(asked)


def _tell_of_copies(owners: tuple[str, ...], records: Split) -> None:
    if owners and (others := [o for o in records.owners or () if o not in owners]):
        print(
            f"{len(others)} of the {len(records)} records are somebody else's, the same to the "
            "last letter: they go too, or the model would still know what they say",
            file=sys.stderr,
        )


def _check(options: ForgetOptions) -> None:
    """Refuse options that do not go together."""
    if not options.target:
        raise EngramError("TARGET is missing", hint="engram forget runs/... --owner ID")
    if options.policy is not None and options.method != "auto":
        raise EngramError(
            f"--policy is given, but --method is {options.method or 'not auto'}",
            hint="a policy chooses between methods: --method auto",
        )
    if options.compare and options.method:
        raise EngramError(
            f"--compare and --method {options.method} are both given",
            hint="--compare tries several methods; ask for one of them afterwards",
        )


def _tell(done: Forgotten, attempts: Sequence[Attempt], as_json: bool) -> None:
    """Say what came of a request, and where everything is."""
    tell(
        {
            "target": str(done.target.folder),
            "certificate": str(done.certificate),
            "tried": [asdict(attempt) for attempt in attempts],
            "entry": {"number": done.entry.number, "hash": done.entry.hash},
            "retrained": str(done.retrained.folder) if done.retrained else None,
            "report": str(done.story.folder / "report.html"),
            **report_of(done.story),
        },
        [
            *(_tried(attempt) for attempt in attempts),
            done.story.document["verdict"]["sentence"],
            "",
            *_comparison(done.story.document["comparison"]),
            "",
            f"target: {done.target.folder}",
            f"report: {done.story.folder / 'report.html'}",
            f"certificate: {done.certificate} (entry {done.entry.number} of the deletion ledger)",
        ],
        as_json,
    )


def _compare(
    options: ForgetOptions, target: Target, known: Any, records: Split, run: EngineRun
) -> int:
    """`engram forget --compare`."""
    ways = suited(target, split_list(options.compare))
    done = compare_unlearners(target, known, records, ways, run, out=options.out)
    report = done.story.folder / "report.html"
    tell(
        {"promises": dict(done.promises), "failed": dict(done.failed), "report": str(report),
         **report_of(done.story)},
        [
            done.story.document["verdict"]["sentence"],
            "",
            *fitted(done.lines()),
            *(f"{name}: {why}" for name, why in done.failed.items()),
            "",
            f"report: {report}",
        ],
        options.json,
    )  # fmt: skip
    return 0


USUAL = "gradient-difference"
"""The unlearner of targets that were not prepared for requests."""
FORGETTING: list[dict[str, Any]] = [
    {"name": CHANCE, "min": 0.05},
    {"name": KEPT, "min": 0.8},
    {"name": HELD_OUT, "min": 0.9},
]
"""What `--method auto` asks of a model, where no policy is given."""
SUPPRESSED: dict[str, Any] = {"name": SUMMARIES[0], "max": REMOVED}
"""What it asks of a language model beside that."""


def failing(limits: list[dict[str, Any]], found: Sequence[Finding]) -> list[str]:
    """The limits that some findings do not meet, in words."""
    plain = [finding.to_json() for finding in found]
    judged = [judge_limit(limit, plain) for limit in limits]
    return [one["text"] for one in judged if not one["ok"]]


def _tried(attempt: Attempt) -> str:
    why = "; ".join(attempt.failed)
    return f"{attempt.method}: {f'not good enough ({why})' if why else 'chosen'}"


def _judge_logs(options: ForgetOptions) -> int:
    """Forget quality and utility from exported losses."""
    if options.target:
        raise EngramError(
            "both a target and --logs are given",
            hint="judge a model by itself or by its exported losses, one at a time",
        )
    if not (options.logs and options.retrained_logs):
        missing = "--retrained-logs" if options.logs else "--logs"
        raise EngramError(
            f"{missing} is missing", hint="forget quality compares with a retrained model"
        )
    sides = [read_answer_log(where) for where in (options.logs, options.retrained_logs)]
    found = [f.to_json() for f in judge_logs(*sides, seed=options.seed)]
    tell({"findings": found}, [number(f) for f in found], options.json)
    return 0


def columns_of(target: Target) -> dict[str, Any]:
    """How the target's data was read: a file of the same form is read the same way."""
    return {k: v for k, v in target.lineage.data_options.items() if k != "limit"}


def _comparison(comparison: Mapping[str, Any]) -> list[str]:
    columns = comparison["columns"]
    width = max(len(row["name"]) for row in comparison["rows"])
    lines = [" " * width + "".join(f"  {column:>24}" for column in columns)]
    for row in comparison["rows"]:
        cells = [cell(found) for found in row["cells"]]
        lines.append(f"{row['name']:<{width}}" + "".join(f"  {cell:>24}" for cell in cells))
    return lines
