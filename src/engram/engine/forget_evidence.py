"""What a deletion request is judged by beside membership: knowledge, utility, neighbours, cost.

Every question is asked of every model in the same words, and each answer stands in one row of the
story's table. What is compared with the model that never saw the records is missing where that
was not trained.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from engram import catalog, families, stats
from engram.core import Finding, Split, Target
from engram.engine.run import EngineRun
from engram.engine.targets import trace_of
from engram.parts.residual.distance import DISTANCE
from engram.store import TARGET, read_json

NEIGHBOURS = 32
"""Kept records that are looked at for being too much like the forgotten ones."""
ALIKE = 4096
"""The most kept records among which neighbours are looked for."""
Cells = list[Finding]
BY_DEFINITION = "by definition"
"""What is said of the two ends of a scale."""


def more_rows(
    models: Mapping[str, Target],
    keep: Split,
    forgotten: Split,
    outsiders: Split,
    run: EngineRun,
    *,
    before: str,
    never: str,
) -> list[Cells]:
    """Rows of findings, one a model, for what the models' family can be asked.

    Args:
        models: By what they are called; the first is the one before.
        keep: Trained records that stay.
        forgotten: Records that are forgotten.
        outsiders: Records that no model saw.
        run: Seed, device, store.
        before: Which model is the one before.
        never: Which model never saw the forgotten records, if it is there.
    """
    rows: list[Cells] = []
    if "text" in families.find(models[before].family).answers:
        rows += _knowledge(models, keep, forgotten, run, never)
    if "logits" in families.find(models[before].family).answers:
        rows += _accuracy(models, {"kept": keep, "held-out": outsiders}, run)
    rows += [_neighbours(models, keep, forgotten, run)]
    if never in models:
        rows += [_privacy(models, forgotten, outsiders, run, never)]
    sides = {"members": keep, "forgotten": forgotten, "outsiders": outsiders}
    rows += _residual(models, sides, run, before, never)
    return [*(row for row in rows if row), *_cost(models)]


def _knowledge(
    models: Mapping[str, Target], keep: Split, forgotten: Split, run: EngineRun, never: str
) -> list[Cells]:
    """What the model still says of the forgotten, and how it does on the kept."""
    sides = {"members": keep, "forgotten": forgotten}
    told = _measured("extraction-strength", models, {"forgotten": forgotten}, run)
    said = _measured("answer-overlap", models, {"forgotten": forgotten}, run)
    ratio = _measured("truth-ratio", models, {"forgotten": forgotten}, run)
    useful = _measured("model-utility", models, {"members": keep}, run)
    rows = [
        [replace(f, name="extraction strength of forgotten records") for f in told],
        [replace(f, name="ROUGE-L recall of forgotten records") for f in said],
        [replace(f, name="truth ratio of forgotten records") for f in ratio],
    ]
    if never in models:
        folder = str(models[never].folder)
        quality = _measured("forget-quality", models, sides, run, retrained=folder)
        rows.append([replace(f, name="forget quality (p-value)") for f in quality])
    return [*rows, [replace(f, name="model utility on kept records") for f in useful]]


def _accuracy(
    models: Mapping[str, Target], sides: Mapping[str, Split], run: EngineRun
) -> list[Cells]:
    """How often a classifier is right, on what it was to keep and on what no model saw."""
    return [
        [
            replace(_first_quality(model, side, run), name=f"accuracy on {name} records")
            for model in models.values()
        ]
        for name, side in sides.items()
    ]


def _first_quality(model: Target, side: Split, run: EngineRun) -> Finding:
    family = families.find(model.family)
    return family.quality(model.model, side, run.stream("quality", model.fingerprint))[0]


def _measured(
    name: str,
    models: Mapping[str, Target],
    splits: Mapping[str, Split],
    run: EngineRun,
    **fields: Any,
) -> Cells:
    """The first finding of a measure for every model."""
    measure = catalog.find("measures", name).load()(**fields)
    return [measure(model, splits, run)[0] for model in models.values()]


def _privacy(
    models: Mapping[str, Target], forgotten: Split, outsiders: Split, run: EngineRun, never: str
) -> Cells:
    sides = {"forgotten": forgotten, "outsiders": outsiders}
    found = _measured("forgotten-privacy", models, sides, run, retrained=str(models[never].folder))
    return [replace(f, name="privacy gap to the model that never saw them") for f in found]


def _residual(
    models: Mapping[str, Target],
    sides: Mapping[str, Split],
    run: EngineRun,
    before: str,
    never: str,
) -> list[Cells]:
    """What is left of the forgotten beside answers: 0 as in a model that never saw them."""
    if not suits_residual(models[before]):
        return []
    made = {
        name: residual_of(model, models[before], models.get(never), sides, run)
        for name, model in models.items()
        if name not in (before, never)
    }
    rows = list(zip(*made.values(), strict=True))  # one finding a model in each
    return [
        [
            row[list(made).index(name)] if name in made else _by_definition(row[0], name == before)
            for name in models
        ]
        for row in rows
    ]


def _by_definition(like: Finding, before: bool) -> Finding:
    """What the scale itself is made of: the model before has forgotten nothing and holds all."""
    value = float(before != (like.better == "higher"))
    found = Finding.exact(like.name, value, like.n, like.unit)
    return found.tagged(note=BY_DEFINITION, better=like.better)


def suits_residual(target: Target) -> bool:
    """Whether the residual-knowledge battery is for a target's family."""
    return target.family in catalog.find("measures", "residual-knowledge").load().families


def residual_of(
    target: Target, before: Target, never: Target | None, sides: Mapping[str, Split], run: EngineRun
) -> list[Finding]:
    """Findings of the residual-knowledge battery; none for families that it is not for.

    Args:
        target: A model that was made to forget.
        before: The model from before.
        never: One trained without the forgotten; without it held-out records are the control.
        sides: "forgotten", "members" (the kept) and "outsiders".
        run: Seed, device, store.
    """
    if not suits_residual(target):
        return []
    measure = catalog.find("measures", "residual-knowledge").load()(
        original=str(before.folder), retrained=str(never.folder) if never else ""
    )
    return [f for f in measure(target, sides, run) if f.name != DISTANCE]


def _neighbours(
    models: Mapping[str, Target], keep: Split, forgotten: Split, run: EngineRun
) -> Cells:
    """Loss on the kept records that are most like the forgotten ones: they should survive."""
    rows = nearest_rows(keep, forgotten, run)
    if len(rows) < 2:
        return []
    some = keep.take(rows.tolist(), "neighbours")
    name = "loss on kept records most like the forgotten ones"
    return [
        stats.mean_finding(
            np.asarray(run.losses(model, some), np.float64),
            name,
            loss_unit(model),
            run.stream("neighbours", model.fingerprint),
        ).tagged(better="lower")
        for model in models.values()
    ]


def loss_unit(model: Target) -> str:
    """The unit of a record's loss: of texts it is a mean over tokens."""
    texts = {"text", "tokens", "logprobs"} & set(families.find(model.family).answers)
    return "nats/token" if texts else "nats"


def nearest_rows(keep: Split, forgotten: Split, run: EngineRun) -> np.ndarray:
    """Rows of the kept records that are nearest to a forgotten one, nearest first.

    Texts are compared by the words that they share (cosine of TF-IDF), features by distance.
    """
    rows = np.arange(len(keep))
    if len(rows) > ALIKE:
        rows = np.sort(run.stream("neighbours", "pool").choice(rows, ALIKE, replace=False))
    pool = keep.take(rows.tolist(), "pool") if len(rows) < len(keep) else keep
    likeness = _likeness(pool, forgotten)
    if likeness is None:
        return rows[:0]
    order = np.argsort(-likeness, kind="stable")[:NEIGHBOURS]
    return rows[order]


def _likeness(pool: Split, forgotten: Split) -> np.ndarray | None:
    """How like its nearest forgotten record each is; higher: more alike."""
    if "text" in pool.columns:
        from sklearn.feature_extraction.text import TfidfVectorizer

        try:
            made = TfidfVectorizer(sublinear_tf=True).fit([*pool.texts, *forgotten.texts])
        except ValueError:  # no words at all
            return None
        both = made.transform(pool.texts) @ made.transform(forgotten.texts).T
        return np.asarray(both.max(1).todense()).ravel()
    if "features" not in pool.columns:
        return None
    mine, its = (np.asarray(side.matrix(), np.float64) for side in (pool, forgotten))
    mine, its = mine.reshape(len(mine), -1), its.reshape(len(its), -1)
    return -np.min([np.square(mine - row).sum(1) for row in its[: NEIGHBOURS * 4]], axis=0)


def _cost(models: Mapping[str, Target]) -> list[Cells]:
    """What it took to make each model (of an edit, the edit's alone), and what its folder takes."""
    asked = (
        ("seconds to make it", "s", seconds_of),
        ("gradient steps to make it", "", _steps),
        ("storage", "MB", _megabytes),
    )
    return [
        [_made(model, what, unit, count) for model in models.values()]
        for what, unit, count in asked
    ]


def _made(model: Target, name: str, unit: str, count: Callable[[Target], float | None]) -> Finding:
    value = count(model)
    if value is None:
        return Finding.missing(name, "it was not written down", unit=unit)
    return Finding.exact(name, value, 1, unit).tagged(better="lower")


def seconds_of(model: Target) -> float | None:
    """Seconds that it took to make a target, as its folder tells."""
    if model.folder is None:
        return None
    found = read_json(model.folder / TARGET).get("seconds")
    return float(found) if isinstance(found, int | float) and found > 0 else None


def _steps(model: Target) -> float | None:
    entries = trace_of(model.folder, 10**9)
    steps = [entry["step"] for entry in entries if "step" in entry]
    return float(max(steps) + 1) if steps else None


def _megabytes(model: Target) -> float | None:
    """Size of everything in a target's folder, in 10^6 bytes."""
    if model.folder is None:
        return None
    return sum(p.stat().st_size for p in model.folder.rglob("*") if p.is_file()) / 1e6
