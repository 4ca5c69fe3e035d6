"""Recipes and edits: the engine holds out, seeds, resumes, writes the ledger and the lineage."""

import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from engram import __version__, catalog, families
from engram.core import (
    DivergedError,
    Edit,
    EngramError,
    Ledger,
    Lineage,
    Recipe,
    Split,
    Target,
    check_disjoint,
)
from engram.data import read
from engram.engine.run import EngineRun
from engram.engine.targets import load, seal
from engram.parts.partition import choose, toss
from engram.parts.processes import launched
from engram.store import (
    TARGET,
    DiskFullError,
    add,
    disk_errors,
    expect,
    read_json,
    run_id,
    write_json,
)


def train(
    recipe: Recipe,
    data: Split,
    run: EngineRun,
    *,
    source: str,
    options: Mapping[str, Any] | None = None,
    holdout: float = 0.25,
    validation: float = 0.0,
    coins: bool = False,
    out: Path | None = None,
) -> Target:
    """Hold out a share of the owners (or records), train on the rest, and seal the target.

    Args:
        recipe: A method of kind `recipes`.
        data: All records, trained and held out alike.
        run: Seed, device, store.
        source: Where the data came from, so that an audit finds it again.
        options: How it was read (column names).
        holdout: Share to hold out, in [0, 1). Owners stay whole, and so do exact duplicates.
        validation: Share of the held-out side that the recipe may look at while it trains, in
            [0, 1). These records are no outsiders in an audit.
        coins: Hold out each of them by a coin of its own, instead of that share of all by lot: an
            epsilon is then bounded from below more tightly.
        out: The target's folder; by default one in the store, named by its inputs.

    Returns:
        The target: trained now, or found if the same inputs were trained before.
    """
    families.find(recipe.family).check(data)
    if not 0 <= holdout < 1:
        raise EngramError(
            f"holdout is {holdout}, but must be in [0, 1)",
            hint="0.5 gives the most powerful audit, 0.25 trains on more",
        )
    trained = np.ones(len(data), bool)
    if holdout:
        draw = toss if coins else choose
        trained = draw(data, 1 - holdout, run.stream("hold-out"))
    looked_at = _looked_at(data, trained, validation, run)
    # Where some of the held-out records are looked at, the coins of the others are not fair.
    tossed = coins and holdout and not validation
    return train_on(
        recipe,
        data,
        trained,
        run,
        validation=looked_at,
        source=source,
        options=options,
        coins=1 - holdout if tossed else 0.0,
        out=out,
    )


def _looked_at(data: Split, trained: np.ndarray, share: float, run: EngineRun) -> np.ndarray:
    """Which of the held-out records are for validation."""
    if not 0 <= share < 1:
        raise EngramError(
            f"validation is {share}, but must be in [0, 1)",
            hint="it is a share of the held-out records: 0.5 leaves half of them for the audit",
        )
    found = np.zeros(len(data), bool)
    if share:
        held_out = np.flatnonzero(~trained)
        if len(held_out) < 2:
            raise EngramError(
                f"validation is {share}, but {len(held_out)} records are held out",
                hint="give a larger --holdout: validation records are a share of those",
            )
        rest = data.take(held_out, name="held-out")
        found[held_out] = choose(rest, share, run.stream("validation"))
    return found


def train_on(
    recipe: Recipe,
    data: Split,
    trained: np.ndarray,
    run: EngineRun,
    *,
    source: str,
    validation: np.ndarray | None = None,
    options: Mapping[str, Any] | None = None,
    coins: float = 0.0,
    out: Path | None = None,
) -> Target:
    """Train on the records where `trained` is true; the others are held out in the ledger.

    Those where `validation` is true are given to the recipe to look at, and say so there.
    """
    if not len(data) or not trained.any():
        raise EngramError(
            f"split {data.name!r} has no records to train on",
            hint="give more data, or a smaller --holdout",
        )
    ledger = Ledger.of(data, trained, validation)
    aside = None if validation is None else data.where(validation, name="validation")
    run = replace(run, validation=aside if aside is not None and len(aside) else None)
    lineage = replace(
        _lineage(recipe, data, run),
        data=anchored(source),
        data_options=dict(options or {}),
        coins=coins,
    )
    subset = data.where(trained, name="trained")
    if launched().count > 1 and not getattr(recipe, "many_processes", False):
        raise EngramError(
            f"{lineage.method} trains in one process, but {launched().count} were launched",
            hint="start it with `engram train`; recipes that tune language models take several",
        )
    return _make(lambda inner: recipe(subset, inner), lineage, ledger, run, out)


def stored_folder(recipe: Any, data: Split, run: EngineRun) -> Path:
    """Where the store keeps a target that was trained on all of `data`, or would keep it."""
    lineage, ledger = _lineage(recipe, data, run), Ledger.of(data, np.ones(len(data), bool))
    return run.root / run_id(lineage.method, **_inputs(lineage, ledger))


def _lineage(recipe: Any, data: Split, run: EngineRun) -> Lineage:
    """What decides the outcome of a training; where data came from is not part of that."""
    base = anchored(getattr(recipe, "base", ""))
    return Lineage(
        method=catalog.name_of(recipe),
        kind="recipes",
        config=json.loads(json.dumps(asdict(recipe))),  # as it is read again: lists, no tuples
        seed=run.seed,
        fingerprint=data.fingerprint,
        parent=run.target(base).fingerprint if base else "",
        base=base,
        code=__version__,
    )


def anchored(where: str) -> str:
    """A path in full, so that it is found again from another folder; other names as they are."""
    if not where or Path(where).exists():
        return str(Path(where).resolve()) if where else where
    base, mark, options = where.partition("?")
    return f"{Path(base).resolve()}{mark}{options}" if base and Path(base).exists() else where


def edit(
    method: Edit,
    target: Target,
    keep: Split,
    forget: Split | None,
    run: EngineRun,
    *,
    out: Path | None = None,
) -> Target:
    """Change a target; records in `forget` are marked as forgotten in the new one's ledger."""
    check_edits(method, target)
    if forget is not None:
        check_disjoint(forget, keep)
    ledger = target.ledger if forget is None else target.ledger.forgetting(forget.ids)
    lineage = replace(
        target.lineage,
        method=catalog.name_of(method),
        kind="edits",
        config={
            **_told(method),
            "keep": keep.fingerprint,
            "forget": forget.fingerprint if forget else "",
        },
        seed=run.seed,
        parent=target.fingerprint,
        code=__version__,
        coins=0.0,  # who is forgotten is nobody's coin
        guarantee={},  # an edit looks at the records again, without noise
        history=(*target.lineage.history, target.lineage.own()),
    )
    return _make(lambda inner: method(target, keep, forget, inner), lineage, ledger, run, out)


def check_edits(method: Edit, target: Target) -> None:
    """Raise where a method does not change targets of this kind, or may not see its weights."""
    if target.family not in method.families:
        raise EngramError(
            f"{catalog.name_of(method)} edits {', '.join(sorted(method.families))}, "
            f"but target {target.name!r} is of the family {target.family}",
            hint="`engram ls edits` lists the others; retrain suits most",
        )
    target.require("weights", catalog.name_of(method))


def _told(method: Any) -> dict[str, Any]:
    """What a method says of itself: only what may be written down, not what it deletes."""
    return method.told() if hasattr(method, "told") else asdict(method)


def _make(work: Any, lineage: Lineage, ledger: Ledger, run: EngineRun, out: Path | None) -> Target:
    """Do the work in a folder named by its inputs, resume it there, and find it if it is done."""
    name = run_id(lineage.method, **_inputs(lineage, ledger))
    folder = out or run.root / name
    if found := _done(folder, name, run):
        return _placed(found, lineage, run)
    scratch, processes = folder / f".work-{name}", launched()
    fresh = not folder.exists()
    try:
        with disk_errors(folder):
            scratch.mkdir(parents=True, exist_ok=True)
        expect(run.root, folder)
        with _alone(scratch) if processes.is_first else nullcontext():
            begun = time.monotonic()
            with disk_errors(folder):
                draft = work(replace(run, scratch=scratch))
            if not processes.is_first:
                processes.wait()
                return load(folder, run.device)
            lineage = replace(lineage, guarantee=dict(draft.guarantee))
            title, took = name if out is None else folder.name, time.monotonic() - begun
            target = seal(draft, ledger, lineage, folder, title, took)
    except (DiskFullError, BusyError):
        raise
    except DivergedError:
        if fresh and lineage.kind == "edits":  # a recipe keeps its last good weights
            shutil.rmtree(folder, ignore_errors=True)
        raise
    except EngramError:
        if fresh and processes.is_first:  # a mistake leaves nothing behind
            shutil.rmtree(folder, ignore_errors=True)
        raise
    processes.wait()
    shutil.rmtree(scratch, ignore_errors=True)
    add(run.root, folder)
    return target


class BusyError(EngramError):
    """Another process is at the same work."""


@contextmanager
def _alone(scratch: Path) -> Iterator[None]:
    """Hold the lock of a work folder; the system lets it go when the process ends, however."""
    with (scratch / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"another process is training into {scratch.parent}",
                hint="wait for it: the same command finds the result",
            ) from None
        yield


def _inputs(lineage: Lineage, ledger: Ledger) -> dict[str, Any]:
    inputs = {**lineage.to_json(), "roles": "".join(role[0] for role in ledger.roles)}
    # Where data and base were found does not change the result; what they hold does.
    # What comes of the training does not decide it either, and the roles say who was held out,
    # however that was drawn.
    for place in ("data", "data_options", "base", "coins", "guarantee"):
        inputs.pop(place, None)
    inputs["config"] = {k: v for k, v in inputs["config"].items() if k != "base"}
    return inputs


def _placed(target: Target, asked: Lineage, run: EngineRun) -> Target:
    """A found target, whose record says where its data and its base are now.

    That is not among its inputs, so it may have been trained when they lay elsewhere, or from
    records that were not read from there at all. Its record is changed where what is named now
    does hold them: of the base that was seen when the lineage was made.
    """
    known = target.lineage
    if known.kind != "recipes" or target.folder is None:
        return target
    places = {"base": asked.base, "config": asked.config}
    if _moved(known, asked) and _holds(asked):
        places |= {"data": asked.data, "data_options": asked.data_options}
    lineage = replace(known, **places)
    if lineage.to_json() == known.to_json() or not launched().is_first:
        return target
    path = target.folder / TARGET
    write_json(path, {**read_json(path), "lineage": lineage.to_json()})
    add(run.root, target.folder)
    return replace(target, lineage=lineage)


def _moved(known: Lineage, asked: Lineage) -> bool:
    return (known.data, dict(known.data_options)) != (asked.data, dict(asked.data_options))


def _holds(asked: Lineage) -> bool:
    """Whether the data that are named now, read so, are those that were trained on."""
    try:
        return read(asked.data, **asked.data_options).fingerprint == asked.fingerprint
    except (EngramError, TypeError):  # records that were made in a program have no place
        return False


def _done(folder: Path, name: str, run: EngineRun) -> Target | None:
    if (folder / TARGET).is_file():
        target = load(folder, run.device)
        if run_id(target.lineage.method, **_inputs(target.lineage, target.ledger)) != name:
            raise EngramError(
                f"{folder} already holds another target (made by {target.lineage.method})",
                hint="choose another --out, or delete the folder if it is not wanted",
            )
        shutil.rmtree(folder / f".work-{name}", ignore_errors=True)
        return target
    if folder.exists() and not folder.is_dir():
        raise EngramError(f"{folder} is a file", hint="choose another --out")
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found and f".work-{name}" not in found:
        what = (
            "an unfinished training with other inputs"
            if any(f.startswith(".work-") for f in found)
            else f"{sorted(found)[0]!r}"
        )
        raise EngramError(
            f"{folder} is not empty: it holds {what}",
            hint="choose another --out: a target needs a folder of its own",
        )
    return None
