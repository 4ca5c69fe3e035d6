"""`engram transform`, `engram train` and `engram edit`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import tyro

from engram import catalog, data
from engram.cli.output import make_run, tell
from engram.cli.parse import Common, Printed, parse
from engram.core import EngramError, Role, Split
from engram.engine import edit as run_edit
from engram.engine import known_records, load
from engram.engine import train as run_train
from engram.engine import transform as run_transform
from engram.engine.pictures import drawing
from engram.parts.images import SHAPE


@dataclass(frozen=True)
class ReadOptions(Common):
    """How data is read."""

    data: str = ""
    """JSONL, CSV, Parquet or TXT file, a folder of pictures (a folder a class), the folder of a
    graph (nodes.csv and edges.csv), a data set's name, sklearn:NAME or demo:NAME."""
    text_column: str | None = None
    """The column that holds the text."""
    owner_column: str | None = None
    """The column that says whose record it is."""
    id_column: str | None = None
    """The column that holds the ids."""
    label_column: str | None = None
    """The column that holds the class, for classifiers."""
    limit: int | None = None
    """Read only this many records."""

    def columns(self) -> dict[str, Any]:
        """The settings that are not the default, for `engram.read`."""
        names = ("text_column", "owner_column", "id_column", "label_column", "limit")
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}


@dataclass(frozen=True)
class TransformOptions(ReadOptions):
    """Options of `engram transform`."""

    out: str | None = None
    """File to write: .jsonl, .csv or .parquet; or, ending in /, a folder to write pictures to."""
    force: bool = False
    """Write over a file that is already there."""
    show: Path | None = None
    """Draw some pictures before and after, and the change, to this .svg file; by default beside
    the output where records are pictures."""
    draw: bool = True
    """Whether to draw them by default."""


@dataclass(frozen=True)
class TrainOptions(ReadOptions):
    """Options of `engram train`."""

    out: Path | None = None
    """Folder of the target; by default one in the store, named by its inputs."""
    holdout: float = 0.25
    """Share of owners (or records) to hold out for the audit, in [0, 1)."""
    validation: float = 0.0
    """Share of the held-out side that training may look at (to stop, say), in [0, 1). These
    records are no outsiders in an audit."""
    coins: bool = False
    """Hold out each owner (or record) by a coin of its own: epsilon-lower-bound then shows more."""


@dataclass(frozen=True)
class EditOptions(Common):
    """Options of `engram edit`."""

    target: tyro.conf.Positional[str] = ""
    """The target to change."""
    forget: str = ""
    """Records to forget: a file; they are found by their content."""
    keep: str = ""
    """Records to keep; by default all other records that the target was trained on."""
    data: str = ""
    """The data that the target was trained on, if it has moved."""
    out: Path | None = None
    """Folder of the new target; by default one in the store, named by its inputs."""


def transform(args: list[str]) -> int:
    """`engram transform NAME --data F --out F`."""
    name, parsed = _parse("transforms", "transform", args, TransformOptions)
    if parsed is None:
        return 0
    options = parsed.options
    if options.out is None:
        raise EngramError("--out is missing", hint="say which file to write: --out letters.jsonl")
    _check_free(options)
    if options.data or not getattr(parsed.method, "makes_records", False):
        _need(options.data, "--data", "--data letters.jsonl, or --data demo:letters")
        split = data.read(options.data, **options.columns())
        if data.is_folder(options.out):
            data.check_pictures(split)
    else:
        split = Split.of("nothing", text=[])
    run, facts = make_run(options), {}

    def listen(entry: Mapping[str, Any]) -> None:
        run.listen(entry)
        if not {"step", "epoch"} & set(entry):  # what it found, and not how far it is
            facts.update(entry)

    changed = run_transform(parsed.method, split, replace(run, listen=listen))
    picture = _drawing(split, changed, name, parsed)  # before anything is written
    _write(split, changed, parsed, facts)
    drawn = _drawn(picture, options)
    tell(
        {
            "transform": name,
            "records_in": len(split),
            "records_out": len(changed),
            "out": str(options.out),
            "pictures": str(drawn) if drawn else None,
            "fingerprint": changed.fingerprint,
            "facts": facts,
        },
        [
            f"{name}: {len(split):,} records in, {len(changed):,} out -> {options.out}",
            *([f"pictures of it: {drawn}"] if drawn else []),
            *(f"  {what}: {value}" for what, value in facts.items()),
        ],
        options.json,
    )
    return 0


def _check_free(options: TransformOptions) -> None:
    """Nothing stands where the output goes: found out before the work, not after it."""
    out = Path(options.out or "")
    if not (out.exists() or out.is_symlink()):
        return
    if data.is_folder(options.out or "") or out.is_dir():
        raise EngramError(
            f"{out} is already there, and no folder is written over",
            hint="choose another name, or remove it",
        )
    if not options.force:
        raise EngramError(f"{out} is already there", hint="--force writes over it")


def _write(before: Split, after: Split, parsed: Any, facts: dict[str, Any]) -> None:
    """To a file, or to a folder of pictures; there it tells what rounding to 8 bits did."""
    options, method = parsed.options, parsed.method
    if not data.is_folder(options.out):
        data.write(after, options.out, force=options.force)
        return
    limits = getattr(method, "pixels", None)
    budget = hasattr(method, "norm") and hasattr(method, "epsilon")
    moved = data.write_pictures(
        after,
        options.out,
        originals=before if budget else None,  # a mosaic with noise must not be told of them
        pixels=limits if isinstance(limits, tuple) else (),
    )
    facts["rounding to 8 bits"] = (
        f"moved pixels by up to {moved:.2f} of a step of 1/255"
        + (", towards the originals" if budget else "")
        if moved
        else "lost nothing"
    )


def _drawing(before: Split, after: Split, name: str, parsed: Any) -> str:
    """What was done to pictures, where it is asked for or the transform is one of pictures."""
    options, pixels = parsed.options, getattr(parsed.method, "pixels", None)
    limits = pixels if isinstance(pixels, tuple) else ()  # of dp-pix it is a number of pixels
    if options.show is not None:
        return drawing(before, after, name, limits)
    if not options.draw or pixels is None or SHAPE not in after.shared:
        return ""
    try:
        return drawing(before, after, name, limits)
    except EngramError:  # nobody asked for it
        return ""


def _drawn(picture: str, options: TransformOptions) -> Path | None:
    """Where the drawing was written; None where there is none, or another file stands there."""
    path = options.show or Path(options.out).with_suffix(".svg")
    kept = options.show is None and path.exists() and not options.force
    if not picture or kept:
        return None
    path.write_text(picture, encoding="utf-8")
    return path


def train(args: list[str]) -> int:
    """`engram train NAME --data F [--base MODEL] --out DIR`."""
    name, parsed = _parse("recipes", "train", args, TrainOptions)
    if parsed is None:
        return 0
    options = parsed.options
    _need(options.data, "--data", "--data letters.jsonl, or --data demo:letters")
    split = data.read(options.data, **options.columns())
    target = run_train(
        parsed.method,
        split,
        make_run(options),
        source=options.data,
        options=options.columns(),
        holdout=options.holdout,
        validation=options.validation,
        coins=options.coins,
        out=options.out,
    )
    _tell_target(target, name, options.json)
    return 0


def edit(args: list[str]) -> int:
    """`engram edit NAME TARGET [--forget F] [--keep F] --out DIR`."""
    name, parsed = _parse("edits", "edit", args, EditOptions)
    if parsed is None:
        return 0
    options = parsed.options
    _need(options.target, "TARGET", f"engram edit {name} runs/finetune-lm-...")
    run = make_run(options)
    target = load(options.target, run.device)
    known = known_records(target, options.data)
    columns = {k: v for k, v in target.lineage.data_options.items() if k != "limit"}
    forget = data.read(options.forget, **columns) if options.forget else None
    if forget is not None:
        from engram.engine import to_forget

        forget = to_forget(target, known, records=forget, root=options.root)
    keep = data.read(options.keep, **columns) if options.keep else known.trained
    gone = set(forget.digests) if forget else set()
    if not options.keep:
        keep = keep.where([d not in gone for d in keep.digests], name="keep")
    edited = run_edit(parsed.method, target, keep, forget, run, out=options.out)
    _tell_target(edited, name, options.json)
    return 0


def _parse(kind: str, command: str, args: list[str], options: type) -> tuple[str, Any]:
    if not args:
        known = ", ".join(catalog.entries(kind))
        raise EngramError(f"`engram {command}` needs a method's name", hint=f"one of {known}")
    entry = catalog.find(kind, args[0])
    try:
        parsed = parse(f"engram {command} {args[0]}", args[1:], options, entry.load())
    except Printed:
        return args[0], None
    entry.require()  # before any work
    return args[0], parsed


def _need(value: str, what: str, hint: str) -> None:
    if not value:
        raise EngramError(f"{what} is missing", hint=hint)


def _tell_target(target: Any, name: str, as_json: bool) -> None:
    ledger = target.ledger
    counts = {role: len(ledger.having(role)) for role in get_args(Role)}
    promise = dict(target.lineage.guarantee)
    tell(
        {
            "target": str(target.folder),
            "method": name,
            "family": target.family,
            "fingerprint": target.fingerprint,
            "records": counts,
            **({"guarantee": promise} if promise else {}),
        },
        [
            f"target: {target.folder}",
            "records: " + ", ".join(f"{n:,} {role}" for role, n in counts.items() if n),
            *([f"guarantee: {promise['sentence']}"] if promise.get("sentence") else []),
            f"next: engram audit {target.folder}",
        ],
        as_json,
    )
