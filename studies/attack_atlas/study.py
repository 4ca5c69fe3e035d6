"""How well does each attack do on each family of models, and does it follow the generalisation gap?

Every attack of the catalogue that a family can answer is run on targets of that family that were
trained for more and more epochs: causal language models and masked ones on letters of a made-up
clinic, classifiers on points whose labels are partly noise. Members and outsiders come from one
source and are drawn by owner. Attacks that need records from outside are given others of the same
source; shadow models are trained by the target's own recipe.

One seed draws its own records, bases and targets. A target's generalisation gap is the mean loss
of its outsiders minus that of its members.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from engram import catalog, data, families
from engram.core import Paper, Split, Target
from engram.engine import EngineRun, train
from engram.engine.battery import make, unsuited
from engram.engine.study import Claim, Study, above, mean_at_least, mean_at_most
from engram.engine.trial import Trial
from engram.stats import auc

CHEAP: dict[str, dict[str, Any]] = {
    "neighbourhood": {"filler": "random", "neighbours": 5},
    "spv-mia": {"paraphraser": "random-tokens", "paraphrases": 3, "prompt_count": 40},
    "gradient-norm": {},
}
"""Settings that keep an attack quick at this size."""
SLOW = ("samia",)
"""Attacks left out: text only, by sampling many continuations of every record."""


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> dict[str, float]:
    """The AUC of every attack on every target of one seed, and each target's gap."""
    found: dict[str, float] = {}
    series_of = {
        "causal-lm": _language_models("pretrain-lm", "finetune-lm"),
        "masked-lm": _language_models("pretrain-mlm", "finetune-mlm"),
        "classifier": _classifiers,
    }
    for family in FAMILIES:
        rows = [
            _attacked(target, pool, outside, settings, run)
            for target, pool, outside in series_of[family](run, settings[family], seed)
        ]
        found |= _named(family, settings[family]["ladder"], rows)
    last = settings["classifier"]["ladder"][-1]
    only, many = (found.get(f"classifier, {last} epochs: {n}", 0) for n in ("label-only", "lira"))
    return {**found, "classifier: label-only over lira": only - many}


def _language_models(base: str, tune: str) -> Any:
    """A function that trains a base, and from it one target for each number of epochs."""

    def series(run: EngineRun, settings: Mapping[str, Any], seed: int) -> Any:
        public = f"demo:letters?n={settings['public']}&seed={3000 + seed}"
        private = f"demo:letters?n={settings['private']}&seed={4000 + seed}"
        outside = f"demo:letters?n={settings['outside']}&seed={5000 + seed}"
        recipe = catalog.find("recipes", base).load()(**settings["base"])
        start = train(recipe, data.read(public), run, source=public, holdout=0.1)
        letters = data.read(private)
        for epochs in settings["ladder"]:
            method = catalog.find("recipes", tune).load()
            tuned = method(base=str(start.folder), epochs=epochs, **settings["tune"])
            yield train(tuned, letters, run, source=private, holdout=0.5), letters, outside

    return series


def _classifiers(run: EngineRun, settings: Mapping[str, Any], seed: int) -> Any:
    """One classifier of points for each number of epochs."""
    points = _points(seed, "points", settings["private"], settings["noise"], run)
    outside = run.root / f"outside-{seed}.parquet"
    others = _points(seed, "outside", settings["outside"], settings["noise"], run)
    data.write(others, outside, force=True)
    method = catalog.find("recipes", "train-classifier").load()
    for epochs in settings["ladder"]:
        recipe = method(epochs=epochs, **settings["train"])
        yield train(recipe, points, run, source="", holdout=0.5), points, str(outside)


def _points(seed: int, name: str, count: int, noise: float, run: EngineRun) -> Split:
    rng = run.stream(name, seed)
    features = rng.normal(size=(count, 16)).astype(np.float32)
    signal = features[:, :4].sum(axis=1) / 2
    label = (signal + noise * rng.normal(size=count) > 0).astype(np.int64)
    return Split.of(name, features=features, label=label)


def _attacked(
    target: Target, pool: Split, outside: str, settings: Mapping[str, Any], run: EngineRun
) -> dict[str, float]:
    """The AUC of each attack on one target, and the target's gap."""
    run.remember(target)
    sides = [target.ledger.split(pool, role) for role in ("trained", "held-out")]
    attacks = _attacks(target, outside, settings)
    labelled = Trial(*sides).run(attacks, target, run)
    owners = labelled.records.owners
    found = {}
    for name, values in labelled.scores.items():
        rng = run.stream("auc", name)
        area = auc(values, labelled.is_member, rng, owners=owners, resamples=50).value
        found[name] = float("nan") if area is None else float(area)
    inside, beyond = (run.losses(target, side) for side in sides)
    return {**found, "gap": float(np.mean(beyond) - np.mean(inside))}


def _attacks(target: Target, outside: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {}
    offered = families.offered(target.family, target.model)
    for name, entry in catalog.entries("attacks").items():
        if not entry.address.startswith("engram.") or name in SLOW or entry.load().needs - offered:
            continue
        if settings["attacks"] and name not in settings["attacks"]:
            continue
        has = entry.load().__dataclass_fields__
        fields = {**CHEAP.get(name, {})}
        fields |= {key: outside for key in ("population", "prefix", "prompts") if key in has}
        fields |= {"shadows": settings[target.family]["shadows"]} if "shadows" in has else {}
        attack = make("attacks", name, fields)
        if not unsuited(attack, target):
            chosen[name] = attack
    return chosen


def _named(family: str, ladder: list[int], rows: list[dict[str, float]]) -> dict[str, float]:
    """The numbers of one family by name, and what follows from them."""
    found = {
        f"{family}, {epochs} epochs: {name}": value
        for epochs, row in zip(ladder, rows, strict=True)
        for name, value in row.items()
    }
    names = [name for name in rows[0] if name != "gap"]
    first, middle, last = rows[0], rows[(len(rows) - 1) // 2], rows[-1]
    free = [n for n in names if n in ("loss", "zlib", "lowercase", "min-k", "min-k-plus-plus")]
    calibrated = [n for n in names if n in ("reference", "likelihood-ratio", "lira", "rmia")]
    found[f"{family}: gap, last over first"] = last["gap"] - first["gap"]
    found[f"{family}: loss, last"] = last["loss"]
    found[f"{family}: loss, first"] = first["loss"]
    found[f"{family}: best without calibration, middle"] = max(middle[n] for n in free)
    found[f"{family}: best with calibration, middle"] = max(middle[n] for n in calibrated)
    grows = np.mean([last[name] >= first[name] - 0.02 for name in names])
    found[f"{family}: share of attacks that grow"] = float(grows)
    return found


TINY_LM = {"layers": 1, "width": 32, "heads": 2, "context": 128, "vocabulary": 300, "epochs": 1}
SMALL_LM = {"layers": 2, "width": 64, "heads": 2, "context": 192, "vocabulary": 600, "epochs": 3}
FAMILIES = ("causal-lm", "masked-lm", "classifier")

STUDY = Study(
    name="attack-atlas",
    methods=(
        "loss", "zlib", "lowercase", "min-k", "min-k-plus-plus", "neighbourhood", "reference",
        "spv-mia", "samia", "gradient-norm", "lira", "rmia", "label-only", "likelihood-ratio",
    ),
    paper=Paper(
        title="Membership Inference Attacks From First Principles",
        authors="Carlini et al.",
        year=2022,
        url="https://arxiv.org/abs/2112.03570",
    ),
    claims=(
        *(
            Claim(
                f"More epochs widen the gap and help the loss attack ({family})",
                where="ours, after the experiments on overfitting",
                test=above(f"{family}: loss, last", f"{family}: loss, first", by=0.05),
            )
            for family in FAMILIES
        ),
        *(
            Claim(
                f"Attacks grow with the gap, nearly all of them ({family})",
                where="ours",
                test=mean_at_least(f"{family}: share of attacks that grow", 0.8, refuted=0.5),
            )
            for family in FAMILIES
        ),
        *(
            Claim(
                "Calibrated by models that did not see the record, an attack finds more than "
                f"any that asks the target alone ({family})",
                where="section VI",
                test=above(
                    f"{family}: best with calibration, middle",
                    f"{family}: best without calibration, middle",
                    by=0.05,
                ),
            )
            for family in FAMILIES
        ),
        Claim(
            "Asking only for labels finds less than asking for losses of many models",
            where="ours",
            test=mean_at_most("classifier: label-only over lira", 0.0, refuted=0.1),
        ),
    ),
    budgets={
        "smoke": {
            "attacks": ["loss", "reference", "lira"],
            "causal-lm": {"public": 12, "private": 10, "outside": 60, "base": TINY_LM,
                          "tune": {"learning_rate": 2e-3}, "ladder": [1], "shadows": 4},
            "masked-lm": {"public": 12, "private": 10, "outside": 60, "base": TINY_LM,
                          "tune": {"learning_rate": 2e-3}, "ladder": [1], "shadows": 4},
            "classifier": {"private": 60, "outside": 60, "noise": 1.0, "ladder": [1],
                           "train": {"width": 8}, "shadows": 4},
        },
        "small": {
            "attacks": [],
            "causal-lm": {"public": 80, "private": 80, "outside": 60, "base": SMALL_LM,
                          "tune": {"learning_rate": 2e-3}, "ladder": [1, 6], "shadows": 4},
            "masked-lm": {"public": 60, "private": 60, "outside": 50, "base": SMALL_LM,
                          "tune": {"learning_rate": 2e-3}, "ladder": [2, 10], "shadows": 4},
            "classifier": {"private": 300, "outside": 150, "noise": 1.0, "ladder": [2, 12, 50],
                           "train": {"width": 64, "learning_rate": 3e-3}, "shadows": 8},
        },
        "full": {
            "attacks": [],
            "causal-lm": {"public": 20000, "private": 4000, "outside": 2000,
                          "base": {"layers": 6, "width": 384, "heads": 6, "context": 256,
                                   "vocabulary": 4096, "epochs": 6},
                          "tune": {"learning_rate": 5e-4}, "ladder": [1, 4, 10], "shadows": 64},
            "masked-lm": {"public": 20000, "private": 4000, "outside": 2000,
                          "base": {"layers": 6, "width": 384, "heads": 6, "context": 256,
                                   "vocabulary": 4096, "epochs": 6},
                          "tune": {"learning_rate": 5e-4}, "ladder": [2, 8, 24], "shadows": 64},
            "classifier": {"private": 20000, "outside": 5000, "noise": 1.0,
                           "ladder": [2, 12, 50], "train": {"width": 256}, "shadows": 128},
        },
    },
    seeds={"small": 3},
    tried="""\
The settings and the bounds of the tests were written before the first run of the small budget. A
first version of it, with half as many records again and twice the shadows, did not end within its
ten minutes on a busy machine and was cut down before any of its numbers were looked at.

After the first seed one thing was changed: of two numbers of epochs, "middle" was the larger one,
at which language models were overfitted so far (AUC of the loss 0.999) that no attack could be
ahead of another. It is the smaller one now; bounds and settings stayed.
""",
    run=run,
)  # fmt: skip
