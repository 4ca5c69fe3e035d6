"""Does a short fine-tuning from a protected model forget as well as training again, and cheaply?

One seed holds out a quarter of each table's records. On the others it trains a plain network, and
one that is pre-trained on 10-anonymous records and fine-tuned on the original ones. A request names
one record in twenty, drawn by lot; as many requests as add up to about 200 records are answered,
each from the first models: by training again, and by doing the fine-tuning again. Two attacks, by
the loss and by the largest probability, then tell forgotten records from held-out ones; whichever
way they err counts: the area is max(A, 1 - A), over the records of all requests together.

Beside it stand pre-training on differentially private records (laplace, epsilon 2.5), shards (five,
with four slices) for one request, and boosted trees for one request.

Differs from the paper: tables and networks are small; heart is the Cleveland table of 297 patients,
where the paper's is another; Adult is a sample of 2,000. Bounds for noise are round numbers, known
of the quantities beforehand. Trees are scikit-learn's.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from engram import catalog, data, families
from engram.core import EngramError, Finding, Paper, Split, Target
from engram.engine import EngineRun, edit, train
from engram.engine.study import Claim, Study, all_of, at_least, at_most, equal
from engram.engine.targets import trace_of
from engram.parts.protection import k_anonymous
from engram.stats.roc import auc_value

Rows = dict[str, float]


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> dict[str, float | Finding]:
    """Every table by itself, then the mean over those that are there."""
    found: dict[str, float | Finding] = {}
    tables: list[Rows] = []
    for source, table in settings["tables"].items():
        try:
            rows = _table(source, {**settings, **table}, run)
        except EngramError as problem:
            if "ENGRAM_DATA" not in f"{problem} {problem.hint}":
                raise
            name = f"accuracy of retraining, {_short(source)}"
            found[name] = Finding.missing(name, str(problem))
            continue
        tables.append(rows)
        found |= {f"{name}, {_short(source)}": value for name, value in rows.items()}
    common = [name for name in tables[0] if all(name in rows for rows in tables)]
    found |= {name: float(np.mean([rows[name] for rows in tables])) for name in common}
    name = "least size of a class, over k"
    return {**found, name: float(min(rows[name] for rows in tables))}


def _table(source: str, settings: Mapping[str, Any], run: EngineRun) -> Rows:
    """One table: all models, all requests."""
    records = data.read(source)
    if len(records) > settings["most"]:
        rows = run.stream("sample", source).permutation(len(records))[: settings["most"]]
        path = run.root / f"sample-{_short(source)}-{run.seed}.parquet"
        data.write(records.take(np.sort(rows)), path, force=True)
        source, names = str(path), dict(records.shared)
        records = data.read(source)
        records = Split.from_table(records.name, records.to_table(), shared=names)
    common = {**settings["train"], "epochs": settings["epochs"]}
    protection = {"k": settings["k"], "tune_epochs": settings["tune_epochs"]}
    plain = _train("train-classifier", common, records, source, run)
    eupg = _train("eupg", {**common, **protection}, records, source, run)
    known, held_out = _sides(records, plain)
    found = _before(plain, eupg, known, held_out)
    found |= _requests(plain, eupg, known, held_out, settings, run)
    classes = k_anonymous(known, settings["k"]).split.shared["class_sizes"]
    found["least size of a class, over k"] = float(classes.min() / settings["k"])
    found |= _others(records, source, known, held_out, common, settings, run)
    return found


def _train(name: str, fields: Mapping[str, Any], records: Split, source: str, run: Any) -> Target:
    recipe = catalog.find("recipes", name).load()
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return train(recipe(**config), records, run, source=source)


def _sides(records: Split, target: Target) -> tuple[Split, Split]:
    ledger = target.ledger
    return ledger.split(records, "trained"), ledger.split(records, "held-out")


def _before(plain: Target, eupg: Target, known: Split, held_out: Split) -> Rows:
    """Membership of all trained records before anything is forgotten."""
    own, other = (max(_areas(_asked(t, known), _asked(t, held_out))) for t in (plain, eupg))
    return {
        "area before, plain": own,
        "area before, EUPG": other,
        "area before, EUPG less plain": other - own,
        "accuracy before, plain": _accuracy(plain, held_out),
        "accuracy before, EUPG": _accuracy(eupg, held_out),
    }


def _requests(
    plain: Target, eupg: Target, known: Split, held_out: Split, settings: Any, run: EngineRun
) -> Rows:
    """As many requests as it takes to forget the number of records that is asked for."""
    size = max(1, round(settings["share"] * len(known)))
    count = -(-settings["forgotten"] // size)
    redo, family = catalog.find("edits", "eupg-redo").load()(), families.find(eupg.family)
    order, rng = run.stream("requests").permutation(len(known)), run.stream("outsiders")
    before = family.inner.fingerprint(eupg.model.protected)
    asked: dict[str, list[Any]] = {"retrained": [], "redone": []}
    told: dict[str, list[float]] = {}
    for number in range(count):
        rows = order[np.arange(number * size, (number + 1) * size) % len(order)]
        gone = np.isin(np.arange(len(known)), rows)
        keep, forget = known.where(~gone), known.where(gone)
        outside = held_out.take(rng.permutation(len(held_out))[: len(forget)])
        begun = time.process_time()
        again = run.fit(plain, keep)
        middle = time.process_time()
        redone = edit(redo, eupg, keep, forget, run)
        took = middle - begun, time.process_time() - middle
        for name, target in (("retrained", again), ("redone", redone)):
            asked[name].append((_asked(target, forget), _asked(target, outside)))
        rows_ = {
            "accuracy of retraining": _accuracy(again, held_out),
            "accuracy after forgetting": _accuracy(redone, held_out),
            "share of retraining's steps": _steps(redone) / _steps(again),
            "share of retraining's seconds": took[1] / took[0],
            "protected model unchanged": float(
                family.inner.fingerprint(redone.model.protected) == before
            ),
        }
        for name, value in rows_.items():
            told.setdefault(name, []).append(value)
    found = {name: float(np.mean(values)) for name, values in told.items()}
    protected = families.find("classifier").logits(eupg.model.protected, held_out)
    found["accuracy of the protected model"] = _hits(protected, held_out)
    areas = {name: _pooled(pairs) for name, pairs in asked.items()}
    gap = max(abs(a - b) for a, b in zip(areas["retrained"], areas["redone"], strict=True))
    return {
        **found,
        "accuracy lost against retraining": found["accuracy of retraining"]
        - found["accuracy after forgetting"],
        "accuracy gained on the protected model": found["accuracy after forgetting"]
        - found["accuracy of the protected model"],
        "area on forgotten, retrained": max(areas["retrained"]),
        "area on forgotten, redone": max(areas["redone"]),
        "area away from retraining's": gap,
        "forgotten records": float(size * count),
    }


def _others(
    records: Split, source: str, known: Split, held_out: Split,
    common: Mapping[str, Any], settings: Any, run: EngineRun,
) -> Rows:  # fmt: skip
    """Private records, shards and trees: one request each."""
    size = max(1, round(settings["share"] * len(known)))
    gone = np.isin(np.arange(len(known)), run.stream("requests").permutation(len(known))[:size])
    keep, forget = known.where(~gone), known.where(gone)
    tuned = {"tune_epochs": settings["tune_epochs"]}
    noisy = {"protection": "laplace", "epsilon": 2.5, "bounds": settings["bounds"]}
    ways = {
        "EUPG, epsilon 2.5": ("eupg", {**common, **tuned, **noisy}, "eupg-redo"),
        "shards": ("sisa", {**common, "shards": 5, "slices": 4}, "retrain-shards"),
        "EUPG of trees": ("eupg-boosting", {"k": settings["k"]}, "eupg-redo"),
    }
    found = {}
    for name, (recipe, fields, method) in ways.items():
        target = _train(recipe, fields, records, source, run)
        begun = time.process_time()
        after = edit(catalog.find("edits", method).load()(), target, keep, forget, run)
        found[f"processor seconds of a request, {name}"] = time.process_time() - begun
        found[f"accuracy after forgetting, {name}"] = _accuracy(after, held_out)
    recipe = catalog.find("recipes", "fit-estimator").load()
    again = run.fit(recipe("gradient-boosting", ("learning_rate=0.5",)), keep)
    return {**found, "accuracy of retraining, trees": _accuracy(again, held_out)}


def _steps(target: Target) -> int:
    """Gradient steps of the whole training that made the target."""
    return int(trace_of(target.folder, at_most=10**9)[-1]["step"]) + 1


def _asked(target: Target, split: Split) -> np.ndarray:
    """What two attacks say of each record: (2, n)."""
    family = families.find(target.family)
    logits = family.logits(target.model, split)
    shares = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    return np.stack([-family.losses(target.model, split), shares.max(1)])


def _areas(inside: np.ndarray, outside: np.ndarray) -> list[float]:
    member = np.repeat([True, False], [inside.shape[1], outside.shape[1]])
    both = np.concatenate([inside, outside], axis=1)
    return [max(a, 1 - a) for a in (auc_value(values, member) for values in both)]


def _pooled(pairs: list[Any]) -> list[float]:
    inside, outside = (np.concatenate(side, axis=1) for side in zip(*pairs, strict=True))
    return _areas(inside, outside)


def _accuracy(target: Target, split: Split) -> float:
    return _hits(families.find(target.family).logits(target.model, split), split)


def _hits(logits: np.ndarray, split: Split) -> float:
    return float(np.mean(logits.argmax(1) == split.matrix("label")))


def _short(source: str) -> str:
    return source.rpartition(":")[2]


CANCER = ["*radius=0:40", "radius error=0:4", "*texture=0:60", "texture error=0:6",
          "*perimeter=0:260", "perimeter error=0:30", "*area=0:4500", "area error=0:600",
          "*=0:1"]  # fmt: skip
HEART = ["age=0:100", "sex=0:1", "cp=1:4", "trestbps=60:240", "chol=80:600", "fbs=0:1",
         "restecg=0:2", "thalach=50:220", "exang=0:1", "oldpeak=0:8", "slope=1:3", "ca=0:3",
         "thal=3:7"]  # fmt: skip
ADULT = ["age=0:100", "fnlwgt=0:1500000", "education-num=0:20", "capital-gain=0:100000",
         "capital-loss=0:5000", "hours-per-week=0:100"]  # fmt: skip
TRAIN = {"width": 128, "layers": 2, "batch_size": 64, "learning_rate": 3e-3}
SMALL = {"train": TRAIN, "epochs": 100, "tune_epochs": 5, "k": 10, "share": 0.05, "most": 2000}

STUDY = Study(
    name="eupg",
    paper=Paper(
        title="Efficient Unlearning with Privacy Guarantees",
        authors="Domingo-Ferrer, Jebreel and Sánchez",
        year=2025,
        url="https://arxiv.org/abs/2507.04771",
    ),
    claims=(
        Claim(
            "After forgetting, accuracy is that of retraining, less 0.02 at the most",
            where="tables after forgetting 5 %: Adult and heart, networks, k = 10",
            paper_value="Adult 85.40 to 83.31, heart 73.87 to 72.77",
            test=at_most("accuracy lost against retraining", 0.02),
        ),
        Claim(
            "Attacks tell forgotten records from others no better than after retraining: areas "
            "differ by 0.05 at the most",
            where="the same table, Adult",
            paper_value="50.64 and 50.12",
            test=at_most("area away from retraining's", 0.05),
        ),
        Claim(
            "Forgetting takes at most 0.15 of the steps and of the seconds of retraining",
            where="the same table: seconds",
            paper_value="Adult 4.65 of 89.9 s, heart 4.7 of 186.7 s",
            test=all_of(
                at_most("share of retraining's steps", 0.15),
                at_most("share of retraining's seconds", 0.15),
            ),
        ),
        Claim(
            "Every equivalence class has k records or more",
            where="the definition",
            test=at_least("least size of a class, over k", 1),
        ),
        Claim(
            "A request leaves the protected model as it is, bit by bit",
            where="the definition",
            test=equal("protected model unchanged", 1, 0),
        ),
        Claim(
            "Fine-tuning costs no accuracy against the protected model",
            where="the baseline of the protected model alone",
            test=at_least("accuracy gained on the protected model", 0),
        ),
        Claim(
            "Before forgetting, members are no easier to tell than with plain training",
            where="the table before forgetting",
            test=at_most("area before, EUPG less plain", 0),
        ),
    ),
    budgets={
        "smoke": {**SMALL, "epochs": 4, "tune_epochs": 1, "forgotten": 8,
                  "tables": {"sklearn:wine": {"bounds": ["*=0:2000"]}}},
        "small": {**SMALL, "forgotten": 200,
                  "tables": {"sklearn:breast_cancer": {"bounds": CANCER},
                             "sklearn:digits": {"bounds": ["*=0:1"]},
                             "heart-cleveland": {"bounds": HEART},
                             "adult-census": {"bounds": ADULT}}},
        "full": {**SMALL, "forgotten": 1000, "most": 50_000,
                 "tables": {"sklearn:breast_cancer": {"bounds": CANCER},
                            "sklearn:digits": {"bounds": ["*=0:1"]},
                            "heart-cleveland": {"bounds": HEART},
                            "adult-census": {"bounds": ADULT}}},
    },
    tried="""\
The bounds in the tests were set before anything was measured.

The paper's table, after forgetting 5 % with networks (accuracy / membership / seconds; for credit
the area under the curve in the place of accuracy):

| table | retrain | SISA | EUPG, k = 10 | EUPG, eps 0.5 |
| --- | --- | --- | --- | --- |
| Adult | 83.31/50.12/89.9 | 84.18/51.12/48.5 | 85.40/50.64/4.65 | 84.92/51.21/4.21 |
| heart | 72.77 / - / 186.7 | 71.76 | 73.87 / - / 4.7 | 73.73 |
| credit | 71.96 | 76.12 | 81.78 | 81.66 |
| Adult, XGBoost | 85.54 | 85.78 | 86.51 | 81.79 |

Ours stand in the table of measurements, under the same names. Our seconds are the processor's.
""",
    run=run,
)  # fmt: skip
