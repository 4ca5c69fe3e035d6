"""Does a network trained on distilled pictures give away the real ones that they came from?

One seed draws three sets of digits: the source, as many others, and a third that an attacker has.
Networks are trained on the whole source, on a few random pictures of it, and on as many that were
distilled from it in four ways. Attackers then guess whether a picture was in the source: by its
loss, by the norm of its gradient, by how much noise its label survives, and, with the third set, by
how much less it surprises the network than one that was trained on a distillation of that set
(calibrated loss). All of them score all of the source and all of the others.

Pictures that were distilled without labels teach features alone: the network that learnt them is
tuned on a few labelled pictures of the third set, which is not attacked, and stands beside one that
was trained on those few from random weights.

What the distilled pictures are worth for training is told for three architectures.

Differs from the paper: digits of 8 by 8 pixels and 10 distilled pictures of each; one shadow
distillation instead of many.
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
FREE = "self-supervised"
"""The method that looks at no labels."""
ATTACKS = {"loss": "loss", "gradient norm": "gradient-norm", "label alone": "label-only"}
CALIBRATED = "calibrated loss"
ARCHITECTURES = ("mlp", "cnn", "resnet")


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """AUC of each attack on the source, and accuracies, after each way of training."""
    source, others, third = digits(settings["source"], run.stream("digits"))
    rng = run.stream("few")
    labelled = few(third, settings["each"], rng).renamed("labelled")
    mine, shadow = (_sets(split, settings, rng, run) for split in (source, third))
    found: dict[str, float] = {}
    for name, members in mine.items():
        told = (members, labelled) if name == FREE else (members, None)
        target = _trained(*told, "mlp", settings, run)
        told = (shadow[name], labelled) if name == FREE else (shadow[name], None)
        other = _trained(*told, "mlp", settings, run)
        found |= {
            f"AUC, {attack}, {name}": value
            for attack, value in _attacked(target, other, source, others, run).items()
        }
        if name == "random real":
            found["AUC, loss, random real, of the few themselves"] = _attacked(
                target, other, members, others, run
            )["loss"]
    return found | _accuracies(mine, labelled, others, settings, run)


def _sets(
    source: Split, settings: Mapping[str, Any], rng: np.random.Generator, run: EngineRun
) -> dict[str, Split]:
    """All that networks are trained on, by name."""
    sets = {"all real": source, "random real": few(source, settings["each"], rng)}
    for name, method in METHODS.items():
        transform = catalog.find("transforms", method).load()
        sets[name] = transform(per_class=settings["each"], **settings[name])(source, run)
    free = catalog.find("transforms", "distil-self-supervised").load()
    sets[FREE] = free(count=10 * settings["each"], **settings[FREE])(source, run)
    return sets


def _accuracies(
    sets: Mapping[str, Split],
    labelled: Split,
    others: Split,
    settings: Mapping[str, Any],
    run: EngineRun,
) -> dict[str, float]:
    """Accuracy on the others by architecture, and the gains over as many real pictures."""
    found: dict[str, float] = {}
    for architecture in ARCHITECTURES:
        accuracy: dict[str, float] = {}
        for name, members in {**sets, "labelled few": labelled}.items():
            tuned = labelled if name == FREE else None
            target = _trained(members, tuned, architecture, settings, run)
            right = run.logits(target, others).argmax(1) == others.matrix("label")
            accuracy[name] = float(right.mean())
        found |= {f"accuracy, {architecture}, {n}": value for n, value in accuracy.items()}
        yard = {**dict.fromkeys(METHODS, "random real"), FREE: "labelled few"}
        found |= {
            f"gain, {architecture}, {name}": accuracy[name] - accuracy[like]
            for name, like in yard.items()
        }
    return found


def digits(count: int, rng: np.random.Generator) -> tuple[Split, Split, Split]:
    """Digits of scikit-learn: the source, as many others, and about as many for the attacker."""
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
        for name, rows in (
            ("source", order[:count]),
            ("others", order[count : 2 * count]),
            ("third", order[2 * count : 3 * count]),
        )
    )  # type: ignore[return-value]


def draw(run: EngineRun, settings: Mapping[str, Any]) -> dict[str, str]:
    """One distilled picture of each class, beside the real one that it started as."""
    source, _, _ = digits(settings["source"], run.stream("digits"))
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


def _trained(
    members: Split,
    labelled: Split | None,
    architecture: str,
    settings: Mapping[str, Any],
    run: EngineRun,
) -> Target:
    """A network trained on `members`, and then tuned on the labelled records, if there are any."""
    known = dict(settings["victim"])
    size = {name: known.pop(name) for name in ("width", "layers")}
    width = size["width"] * 4 if architecture == "mlp" else size["width"]
    known["epochs"] = _epochs(known["steps"], len(members), known["batch_size"])
    steps = known.pop("steps")
    recipe = catalog.find("recipes", "train-classifier").load()(
        architecture=architecture, width=width, layers=size["layers"], **known
    )
    target = run.fit(recipe, members)
    if labelled is None:
        return target
    known["epochs"] = _epochs(steps, len(labelled), known["batch_size"])
    tune = catalog.find("recipes", "finetune-classifier").load()
    return run.fit(tune(base=str(target.folder), classes=10, **known), labelled)


def _epochs(steps: int, records: int, batch: int) -> int:
    return max(1, round(steps / -(-records // batch)))


def _attacked(
    target: Target, other: Target, members: Split, outsiders: Split, run: EngineRun
) -> dict[str, float]:
    """The AUC of each attack, told by its name."""
    asked = Split.of(
        "asked",
        features=np.concatenate([s.matrix("features") for s in (members, outsiders)]),
        label=np.concatenate([s.matrix("label") for s in (members, outsiders)]),
        shared=dict(members.shared),
    )
    scores = {
        name: catalog.find("attacks", method).load()()(target, asked, run).values
        for name, method in ATTACKS.items()
    }
    scores[CALIBRATED] = run.losses(other, asked) - run.losses(target, asked)
    is_member = np.arange(len(asked)) < len(members)
    return {
        name: float(auc(values, is_member, run.stream("auc"), resamples=100).value)
        for name, values in scores.items()
    }


def _budget(source: int, each: int, networks: int, steps: int, victim: int) -> dict[str, Any]:
    cnn = {"architecture": "cnn", "width": 16, "layers": 2}
    kernel = {**cnn, "steps": steps, "oldest": min(steps, 100)}
    return {
        "source": source, "each": each,
        "gradients": {**cnn, "networks": networks, "rounds": 5, "network_steps": 10},
        "distributions": {**cnn, "steps": steps},
        "kernel": kernel,
        FREE: {**kernel, "ridge": 1e-3, "learning_rate": 1e-2, "target_rate": 1e-2,
               "teacher_epochs": max(1, steps // 25)},
        "victim": {"width": 32, "layers": 2, "steps": victim, "batch_size": 32,
                   "learning_rate": 3e-3, "weight_decay": 0.0},
    }  # fmt: skip


STUDY = Study(
    name="distillation-privacy",
    methods=(
        "distil-distributions", "distil-gradients", "distil-kernel", "distil-self-supervised",
    ),
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
            test=at_least("AUC, loss, all real", 0.52),
        ),
        *(
            Claim(
                f"It does not tell them where pictures were distilled through {name}",
                where="the experiments on membership inference",
                test=at_most(f"AUC, loss, {name}", 0.55),
            )
            for name in (*METHODS, FREE)
        ),
        *(
            Claim(
                f"Nor does an attacker with a distillation of his own, through {name}",
                where="the experiments with a calibrated attack",
                test=at_most(f"AUC, {CALIBRATED}, {name}", 0.55),
            )
            for name in (*METHODS, FREE)
        ),
        *(
            Claim(
                f"He finds less than where the network was trained on all of them, through {name}",
                where="ours: does distilling protect?",
                test=above(f"AUC, {CALIBRATED}, all real", f"AUC, {CALIBRATED}, {name}"),
            )
            for name in (*METHODS, FREE)
        ),
        *(
            Claim(
                f"Pictures distilled through {name} train an MLP better than as many random real "
                "ones",
                where="the tables of accuracy",
                test=above(f"accuracy, mlp, {name}", "accuracy, mlp, random real", by=0.02),
            )
            for name in METHODS
        ),
        *(
            Claim(
                f"And a {architecture}, through {name}",
                where="the tables of accuracy across architectures",
                test=above(
                    f"accuracy, {architecture}, {name}", f"accuracy, {architecture}, random real"
                ),
            )
            for architecture in ARCHITECTURES[1:]
            for name in METHODS
        ),
        Claim(
            "A few real records are told, though: to distil is not to draw fewer (our control)",
            where="ours",
            test=above(
                "AUC, loss, random real, of the few themselves", "AUC, loss, gradients", by=0.1
            ),
        ),
    ),
    budgets={
        "smoke": _budget(80, 2, 1, 2, 5),
        "small": _budget(590, 10, 20, 500, 600),
        "full": _budget(590, 10, 300, 10000, 5000),
    },
    seeds={"small": 6},
    tried="""\
The plan was run for three seeds at first, which left most claims undecided: AUCs of 0.53 to 0.57
with intervals of a twentieth to either side. Nothing in it was changed when three more were added,
but the claims that compare with training on all pictures were added then. Eight seeds were meant;
for want of time it stayed at six.
""",
    run=run,
    draw=draw,
)  # fmt: skip
