"""Does a network trained on distilled pictures give away the real ones that they came from?

One seed draws digits, half of which are the source. Networks are trained on the whole source, on a
few random pictures of it, and on as many that were distilled from it in three ways. An attacker who
sees the loss of a picture then guesses whether it was in the source. Two answers matter: what the
attack finds among all of the source, and what the distilled pictures are worth for training,
beside as many real ones.

Differs from the paper: digits of 8 by 8 pixels and 10 distilled pictures of each; the attack is the
loss alone, not calibrated by shadow models of distillations.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from engram import catalog
from engram.core import Paper, Split, Target
from engram.engine import EngineRun
from engram.engine.study import Claim, Study, above, at_least, at_most
from engram.report.picture_rows import picture_rows
from engram.stats import auc

METHODS = {
    "gradients": "distil-gradients",
    "distributions": "distil-distributions",
    "kernel": "distil-kernel",
}


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """AUC of the loss attack on the source, and accuracy, after each way of training."""
    source, others = digits(settings["source"], run.stream("digits"))
    sets = {"all real": source, "random real": few(source, settings["each"], run.stream("few"))}
    for name, method in METHODS.items():
        transform = catalog.find("transforms", method).load()
        sets[name] = transform(per_class=settings["each"], **settings[name])(source, run)
    found: dict[str, float] = {}
    for name, members in sets.items():
        target = _trained(members, settings["victim"], run)
        right = run.logits(target, others).argmax(1) == others.matrix("label")
        found[f"accuracy, {name}"] = float(right.mean())
        found[f"AUC, {name}"] = _attacked(target, source, others, run)
        if name == "random real":
            found["AUC of the few themselves, random real"] = _attacked(
                target, members, others, run
            )
    gains = {
        f"gain, {name}": found[f"accuracy, {name}"] - found["accuracy, random real"]
        for name in METHODS
    }
    return {**found, **gains}


def digits(count: int, rng: np.random.Generator) -> tuple[Split, Split]:
    """Digits of scikit-learn: the source, and as many others."""
    from sklearn.datasets import load_digits

    given = load_digits()
    order = rng.permutation(len(given.target))
    return tuple(
        Split.of(
            name,
            features=(given.data[rows] / 16).astype(np.float32),
            label=given.target[rows].astype(np.int64),
            shared={"image_shape": np.array([8, 8])},
        )
        for name, rows in (("source", order[:count]), ("others", order[count : 2 * count]))
    )  # type: ignore[return-value]


def draw(run: EngineRun, settings: Mapping[str, Any]) -> dict[str, str]:
    """One distilled picture of each class, beside the real one that it started as."""
    source, _ = digits(settings["source"], run.stream("digits"))
    place = {digest: row for row, digest in enumerate(source.digests)}
    rows = []
    for name, method in METHODS.items():
        transform = catalog.find("transforms", method).load()
        made = transform(per_class=settings["each"], **settings[name])(source, run)
        shown = made.take(np.arange(0, len(made), settings["each"]))
        if not rows:
            started = source.take([place[d] for d in shown.column("initial").to_pylist()])
            rows.append(("real", _pictures(started)))
        rows.append((name, _pictures(shown)))
    return {"distilled-pictures": str(picture_rows("Distilled digits", rows))}


def _pictures(split: Split) -> list[np.ndarray]:
    side = int(split.shared["image_shape"][0])
    return list(split.matrix("features").astype(np.float64).reshape(-1, side, side, 1))


def few(source: Split, each: int, rng: np.random.Generator) -> Split:
    """Random records of the source, so many of each class."""
    labels = source.matrix("label")
    rows = [rng.permutation(np.flatnonzero(labels == k))[:each] for k in np.unique(labels)]
    return source.take(np.concatenate(rows), "random real")


def _trained(members: Split, fields: Mapping[str, Any], run: EngineRun) -> Target:
    known = dict(fields)
    steps = known.pop("steps")
    known["epochs"] = max(1, round(steps / -(-len(members) // known["batch_size"])))
    return run.fit(catalog.find("recipes", "train-classifier").load()(**known), members)


def _attacked(target: Target, members: Split, others: Split, run: EngineRun) -> float:
    losses = np.concatenate([run.losses(target, members), run.losses(target, others)])
    is_member = np.arange(len(losses)) < len(members)
    return float(auc(-losses, is_member, run.stream("auc"), resamples=100).value)


def _budget(source: int, each: int, networks: int, steps: int, victim: int) -> dict[str, Any]:
    cnn = {"architecture": "cnn", "width": 16, "layers": 2}
    return {
        "source": source, "each": each,
        "gradients": {**cnn, "networks": networks, "rounds": 5, "network_steps": 10},
        "distributions": {**cnn, "steps": steps},
        "kernel": {**cnn, "steps": steps, "oldest": min(steps, 100)},
        "victim": {"architecture": "mlp", "width": 128, "layers": 2, "steps": victim,
                   "batch_size": 32, "learning_rate": 3e-3, "weight_decay": 0.0},
    }  # fmt: skip


STUDY = Study(
    name="distillation-privacy",
    methods=("distil-distributions", "distil-gradients", "distil-kernel"),
    paper=Paper(
        title="Privacy for Free: How does Dataset Condensation Help Privacy?",
        authors="Dong, Zhao and Lyu",
        year=2022,
        url="https://arxiv.org/abs/2206.00240",
    ),
    claims=(
        Claim(
            "The loss tells the records of a network that was trained on all of them (our control)",
            where="ours",
            test=at_least("AUC, all real", 0.52),
        ),
        *(
            Claim(
                f"It does not tell them where pictures were distilled through {name}",
                where="the experiments on membership inference",
                test=at_most(f"AUC, {name}", 0.55),
            )
            for name in METHODS
        ),
        *(
            Claim(
                f"Pictures distilled through {name} train better than as many random real ones",
                where="the tables of accuracy",
                test=above(f"accuracy, {name}", "accuracy, random real", by=0.02),
            )
            for name in METHODS
        ),
        Claim(
            "A few real records are told, though: to distil is not to draw fewer (our control)",
            where="ours",
            test=above("AUC of the few themselves, random real", "AUC, gradients", by=0.1),
        ),
    ),
    budgets={
        "smoke": _budget(120, 2, 2, 5, 40),
        "small": _budget(800, 10, 20, 500, 1500),
        "full": _budget(800, 10, 300, 10000, 5000),
    },
    run=run,
    draw=draw,
)  # fmt: skip
