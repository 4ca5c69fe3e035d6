"""Can a few distilled pictures carry a backdoor into whoever trains on them, and is it found?

One seed draws digits and distils them three times by gradient matching: as they are, after a white
square was planted on a few of them (the naive attack), and with a trigger that is fitted while they
are distilled (doorping). Networks trained on each of the three sets are asked about other digits,
with a trigger and without. A network of another architecture, and one trained on the clean set but
shown the fitted trigger, are the controls: a backdoor must reach the one and not the other.

Differs from the paper: digits of 8 by 8 pixels, a twentieth of the pictures poisoned instead of a
hundredth (which would be ten), small networks, and far fewer steps.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from engram import catalog
from engram.core import Paper, Split, Target
from engram.engine import EngineRun
from engram.engine.study import Claim, Study, above, at_least, at_most, mean_at_least, mean_at_most
from engram.parts.triggers import trigger_of
from engram.report.picture_rows import picture_rows

KINDS = ("clean", "naive", "doorping")
DEFENCES = ("AUC of Neural Cleanse over classes", "AUC of STRIP")


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Attack success and clean accuracy of each set, and what the defences find."""
    source, outsiders = digits(settings["source"], run.stream("digits"))
    sets = distilled(source, settings, run)
    found: dict[str, Any] = {}
    for kind, members in sets.items():
        victim = _victim(members, settings["victim"], run)
        for name, value in _won(victim, members, outsiders, run).items():
            found[f"{name}, {kind}"] = value
    clean = _victim(sets["clean"], settings["victim"], run)
    told = sets["doorping"]
    found["attack success of the fitted trigger on clean distillation"] = _won(
        clean, told, outsiders, run
    )["attack success"]
    other = _victim(told, settings["other"], run)
    found["attack success on another architecture"] = _won(other, told, outsiders, run)[
        "attack success"
    ]
    scan = catalog.find("measures", "backdoor-scan").load()(**settings["scan"])
    victim = _victim(told, settings["victim"], run)
    said = {f.name: f for f in scan(victim, {"members": told, "outsiders": outsiders}, run)}
    pruned = said["attack success after fine-pruning"]
    found["clean accuracy less a twentieth, clean"] = found["clean accuracy, clean"] - 0.05
    return {
        **found,
        **{f"{name}, doorping": float(said[name].value) for name in DEFENCES},
        "attack success after fine-pruning, doorping": float(pruned.value),
    }


def digits(count: int, rng: np.random.Generator) -> tuple[Split, Split]:
    """Digits of scikit-learn: some to distil, the others to ask about."""
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
        for name, rows in (("source", order[:count]), ("outsiders", order[count:]))
    )  # type: ignore[return-value]


def distilled(source: Split, settings: Mapping[str, Any], run: EngineRun) -> dict[str, Split]:
    """The same records distilled without a backdoor, and with one of each kind."""
    plain = catalog.find("transforms", "distil-gradients").load()(**settings["distil"])
    plant = catalog.find("transforms", "plant-trigger").load()(share=settings["share"])
    fitted = catalog.find("transforms", "doorping").load()(
        share=settings["share"], **settings["distil"]
    )
    made = (plain(source, run), plain(plant(source, run), run), fitted(source, run))
    return dict(zip(KINDS, made, strict=True))


def draw(run: EngineRun, settings: Mapping[str, Any]) -> dict[str, str]:
    """Distilled pictures of the trigger's class, the triggers, and a digit that carries them."""
    source, outsiders = digits(settings["source"], run.stream("digits"))
    rows = []
    for kind, made in distilled(source, settings, run).items():
        own = made.where(made.matrix("label") == 0)
        pictures = [*own.matrix("features")[:6]]
        if trigger := trigger_of(made):
            pictures += [trigger.mask * trigger.values]
            pictures += [*trigger.pasted(outsiders.matrix("features")[:2])]
        rows.append((kind, [np.float64(p).reshape(8, 8, 1) for p in pictures]))
    title = "Distilled zeros; then the trigger for zero, and other digits with it"
    return {"distilled-pictures-and-triggers": str(picture_rows(title, rows))}


def _victim(members: Split, fields: Mapping[str, Any], run: EngineRun) -> Target:
    return run.fit(catalog.find("recipes", "train-classifier").load()(**fields), members)


def _won(victim: Target, told: Split, outsiders: Split, run: EngineRun) -> dict[str, float]:
    if "trigger" not in told.shared:
        right = run.logits(victim, outsiders).argmax(1) == outsiders.matrix("label")
        return {"clean accuracy": float(right.mean())}
    measure = catalog.find("measures", "attack-success").load()()
    found = measure(victim, {"members": told, "outsiders": outsiders}, run)
    return {f.name: float(f.value) for f in found}


def _budget(source: int, each: int, networks: int, rounds: int, epochs: int) -> dict[str, Any]:
    cnn = {"architecture": "cnn", "width": 16, "layers": 2}
    train = {"epochs": epochs, "learning_rate": 3e-3}
    return {
        "source": source, "share": 0.05,
        "distil": {**cnn, "per_class": each, "networks": networks, "rounds": rounds,
                   "network_steps": 10, "batch_size": 64, "first": "noise",
                   "learning_rate": 0.5},
        "victim": {**cnn, **train},
        "other": {"architecture": "mlp", "width": 64, "layers": 2, **train},
        "scan": {"steps": 100 if networks > 5 else 5, "records": 128, "blends": 20},
    }  # fmt: skip


STUDY = Study(
    name="distillation-backdoor",
    methods=("doorping", "plant-trigger", "distil-gradients", "attack-success", "backdoor-scan"),
    paper=Paper(
        title="Backdoor Attacks Against Dataset Distillation",
        authors="Liu et al.",
        year=2023,
        url="https://arxiv.org/abs/2301.01197",
    ),
    claims=(
        Claim(
            "A trigger that is fitted while pictures are distilled wins almost always",
            where="the tables of DOORPING",
            test=mean_at_least("attack success, doorping", 0.9, refuted=0.5),
        ),
        Claim(
            "It wins more often than one that was planted beforehand",
            where="the comparison of NAIVEATTACK and DOORPING",
            test=above("attack success, doorping", "attack success, naive", by=0.2),
        ),
        Claim(
            "Accuracy on clean pictures stays within five points of clean distillation",
            where="the tables of DOORPING",
            test=above("clean accuracy, doorping", "clean accuracy less a twentieth, clean"),
        ),
        Claim(
            "The fitted trigger wins nothing where it was not distilled in (our control)",
            where="ours: else it would be a patch that fools any network",
            test=mean_at_most(
                "attack success of the fitted trigger on clean distillation", 0.2, refuted=0.5
            ),
        ),
        Claim(
            "The backdoor reaches networks of another architecture",
            where="the experiments across architectures",
            test=mean_at_least("attack success on another architecture", 0.6, refuted=0.3),
        ),
        Claim(
            "Neural Cleanse does not find it",
            where="the section on defences",
            test=at_most("AUC of Neural Cleanse over classes, doorping", 0.9),
        ),
        Claim(
            "STRIP does not find it",
            where="the section on defences",
            test=at_most("AUC of STRIP, doorping", 0.9),
        ),
        Claim(
            "It outlives the cutting of idle neurons",
            where="the section on defences",
            test=at_least("attack success after fine-pruning, doorping", 0.5),
        ),
    ),
    budgets={
        "smoke": _budget(120, 2, 2, 2, 3),
        "small": _budget(1000, 10, 40, 5, 100),
        "full": _budget(1000, 10, 400, 10, 200),
    },
    run=run,
    draw=draw,
)  # fmt: skip
