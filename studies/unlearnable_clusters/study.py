"""Does noise for clusters protect pictures from trainers whose labels nobody knew?

Pictures of handwritten digits (scikit-learn's, 8 by 8 pixels) are protected by one noise for each
cluster, found without labels through an encoder that has learnt nothing but how far these pictures
were turned, or by error-minimising noise for each class, made with the protector's labels: ten
digits. Those who train use other labels: odd or even, five and above, and three groups of digits
drawn by lot. What counts is how much their accuracy on clean test pictures falls, from that of
training on clean ones with the same labels.

One seed draws its own pictures, encoder, groups and networks. All networks of a seed have the same
settings whatever they are trained on.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from engram import catalog, data
from engram.core import Finding, Paper, Split
from engram.engine import EngineRun, measure
from engram.engine.study import Claim, Study, above, mean_at_least
from engram.parts.labelled import features_of, labels_of
from engram.parts.protection import pictures_of
from engram.parts.turned import turned
from engram.parts.victims import fields_of
from engram.report.picture_rows import amplified, picture_rows

CLUSTERS, CLASSES = "unlearnable clusters", "class-wise error-minimising"
OTHERS = ("odd or even", "five and above", "three groups")
Labels = Mapping[str, Callable[[np.ndarray], np.ndarray]]


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> dict[str, float | Finding]:
    """Accuracy and its fall for each noise, trainer's labels and victim."""
    train, test = _pictures(settings, run)
    protected, reached = _protected(train, settings, run)
    groups = run.stream("groups").permutation(10) % 3
    labels: Labels = {
        "ten digits": lambda y: y,
        "odd or even": lambda y: y % 2,
        "five and above": lambda y: (y >= 5).astype(np.int64),
        "three groups": lambda y: groups[y],
    }
    found: dict[str, float | Finding] = {}
    for told, change in labels.items():
        sides = {"clean": train, **protected}
        for name, split in sides.items():
            found |= _by_victim(
                f"{name}, {told}", _named(split, change), _named(test, change), settings, run
            )
        for name in protected:
            fall = _value(found[f"clean, {told}: mean"]) - _value(found[f"{name}, {told}: mean"])
            found[f"{name}: fall, {told}"] = fall
    for name in protected:
        falls = [_value(found[f"{name}: fall, {told}"]) for told in OTHERS]
        found[f"{name}: mean fall over labels of others"] = float(np.mean(falls))
    found["share of pictures that reached their new cluster"] = reached
    return found


def draw(run: EngineRun, settings: Mapping[str, Any]) -> dict[str, str]:
    """Some pictures, what each noise changes in them, and what they then look like."""
    train, _ = _pictures(settings, run)
    protected, _ = _protected(train, settings, run)
    before = pictures_of(train)
    originals = before.shown(before.raw)[: settings["shown"]]
    rows: list[tuple[str, list[np.ndarray]]] = [("original", list(originals))]
    for name, split in protected.items():
        after = before.shown(features_of(split))[: settings["shown"]]
        changes = [amplified(a, b) for a, b in zip(originals, after, strict=True)]
        short = "clusters:" if name == CLUSTERS else "classes:"
        rows += [(short, changes), ("protected", list(after))]
    title = (
        "Digits, what noise for clusters and for classes changes in them (amplified around "
        "grey), and what is published"
    )
    return {"pictures": str(picture_rows(title, rows))}


def _pictures(settings: Mapping[str, Any], run: EngineRun) -> tuple[Split, Split]:
    digits = data.read("sklearn:digits")
    order = run.stream("pictures").permutation(len(digits))
    count, tested = settings["train"], settings["test"]
    return digits.take(order[:count], "train"), digits.take(order[-tested:], "test")


def _protected(
    train: Split, settings: Mapping[str, Any], run: EngineRun
) -> tuple[dict[str, Split], float]:
    """The training pictures by method, and which share reached its new cluster."""
    told: list[float] = []
    heard = replace(
        run, listen=lambda entry: told.append(entry["reached"]) if "reached" in entry else None
    )
    recipe = catalog.find("recipes", "train-classifier").load()(**settings["encoder"])
    encoder = run.fit(recipe, turned(pictures_of(train)))
    clusters = catalog.find("transforms", "unlearnable-clusters").load()(
        epsilon=settings["epsilon"], surrogate=str(encoder.folder), **settings["clusters"]
    )
    classes = catalog.find("transforms", "error-minimising").load()(
        epsilon=settings["epsilon"], each="class", **settings["classes"]
    )
    bare = replace(train, records=train.records.drop_columns(["label"]))  # no labels to look at
    moved = features_of(clusters(bare, heard))
    return {CLUSTERS: _moved(train, moved), CLASSES: classes(train, heard)}, told[-1]


def _moved(split: Split, pixels: np.ndarray) -> Split:
    column = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), pixels.shape[1])
    place = split.records.column_names.index("features")
    return replace(split, records=split.records.set_column(place, "features", column))


def _named(split: Split, change: Callable[[np.ndarray], np.ndarray]) -> Split:
    """The same pictures with a trainer's own labels."""
    shared = {k: v for k, v in split.shared.items() if k != "classes"}
    return Split.of(
        split.name,
        features=features_of(split),
        label=change(labels_of(split)),
        ids=split.ids,
        shared=shared,
    )


def _value(found: float | Finding) -> float:
    return float(found.value or 0.0) if isinstance(found, Finding) else found


def _by_victim(
    name: str, split: Split, test: Split, settings: Mapping[str, Any], run: EngineRun
) -> dict[str, float | Finding]:
    found: dict[str, float | Finding] = {}
    accuracy = catalog.find("measures", "accuracy").load()()
    for victim in settings["victims"]:
        recipe, fields = fields_of(victim, **settings["training"])
        method = catalog.find("recipes", recipe).load()(**fields)
        target = run.fit(method, split.renamed("train"))
        (found[f"{name}: {victim}"],) = measure(accuracy, target, {"test": test}, run)
    mean = float(np.mean([_value(each) for each in found.values()]))
    return {**found, f"{name}: mean": mean}


ENCODER = {"architecture": "mlp", "width": 64, "layers": 1, "epochs": 8, "learning_rate": 3e-3}
STUDY = Study(
    name="unlearnable-clusters",
    methods=("unlearnable-clusters", "error-minimising"),
    paper=Paper(
        title="Unlearnable Clusters: Towards Label-Agnostic Unlearnable Examples",
        authors="Zhang et al.",
        year=2023,
        url="https://arxiv.org/abs/2301.01217",
    ),
    claims=(
        Claim(
            "The noise moves pictures to the cluster that they were meant for, as the encoder "
            "sees them",
            where="the method",
            test=mean_at_least(
                "share of pictures that reached their new cluster", 0.7, refuted=0.5
            ),
        ),
        Claim(
            "Whoever trains with labels of his own loses accuracy on clean pictures",
            where="the label-agnostic experiments",
            test=mean_at_least(f"{CLUSTERS}: mean fall over labels of others", 0.25, refuted=0.0),
        ),
        Claim(
            "Noise for classes, the baseline, works with the labels that it was made with",
            where="ours: the baseline is not crippled",
            test=mean_at_least(f"{CLASSES}: fall, ten digits", 0.25, refuted=0.0),
        ),
        Claim(
            "With labels of others, noise for clusters takes more than noise for classes",
            where="the label-agnostic experiments",
            test=above(
                f"{CLUSTERS}: mean fall over labels of others",
                f"{CLASSES}: mean fall over labels of others",
                by=0.1,
            ),
        ),
        Claim(
            "Noise for clusters protects with the ten digits as labels too",
            where="the experiments with the same labels",
            test=mean_at_least(f"{CLUSTERS}: fall, ten digits", 0.25, refuted=0.0),
        ),
    ),
    budgets={
        "smoke": {
            "train": 60, "test": 40, "epsilon": 0.4, "victims": ["mlp", "cnn"], "shown": 2,
            "encoder": {**ENCODER, "epochs": 1, "width": 4},
            "clusters": {"clusters": 3, "generator": False, "steps": 3},
            "classes": {"rounds": 1, "noise_steps": 2, "width": 4},
            "training": {"epochs": 1, "width": 4},
        },
        "small": {
            "train": 500, "test": 500, "epsilon": 0.4, "victims": ["mlp", "cnn"], "shown": 10,
            "encoder": ENCODER,
            "clusters": {"clusters": 10, "generator": False, "steps": 80, "noise_rate": 0.2},
            "classes": {"rounds": 30},
            "training": {"epochs": 20, "learning_rate": 3e-3},
        },
        "full": {
            "train": 1200, "test": 500, "epsilon": 0.4, "victims": ["mlp", "cnn", "resnet"],
            "shown": 10, "encoder": ENCODER,
            "clusters": {"clusters": 10, "generator": True, "steps": 400},
            "classes": {"rounds": 60},
            "training": {"epochs": 60, "learning_rate": 3e-3},
        },
    },
    seeds={"full": 5},
    tried="""\
Before this plan was written, on seed 0, with the three labels of others and accuracies of an MLP
(and, where it says so, a CNN):

- A budget of 0.25, as the method's card plans it, with an encoder of two convolutions and a
  generator for each cluster: 69 % of the pictures reached their new cluster, and with the ten
  digits as labels an MLP lost 0.04 and a CNN 0.12. With sharper softmaxes 51 % got there; with
  free noise instead of a generator, at a low rate, 34 %.
- An encoder of two fully connected layers, trained longer, at 0.25 and 0.4: falls of 0.08 to 0.11
  (MLP and CNN), and 0.15 with the squared distance in place of the divergence. Trained
  adversarially it was worse (0.04 and 0.07).
- An encoder of one such layer, trained for 8 epochs, free noise at a rate of 0.2, at 0.4: 96 % got
  there, and the fall was 0.27 (0.26 by squared distance, 0.24 with a sharpness of 3). With 5
  clusters it was 0.19, with 20 0.25, with an offset of 3 0.17; at a budget of 0.5 it was 0.29. This
  encoder, at 0.4, with 10 clusters, became the plan.
- Class-wise error-minimising noise at 0.4 took 0.21 to 0.29 with the same labels of others, at
  0.25 0.22. These labels are all functions of the ten digits; so a pattern that tells the digit
  tells them as well, and nothing of it is lost. A margin of 0.1 over it is therefore not expected
  at any budget that was tried.

After it, seeds 0 to 2, to see whether it was that: noise for classes made with labels that say less
(odd or even) took 0.305 on average from those who train with the ten digits, five and above, or the
three groups, of which none follows from it, and 0.337 with its own labels; noise for clusters takes
0.328 with the same three. So most of what either takes here is that pictures with a strong pattern
teach little about pictures without one, whatever the pattern means.
""",
    run=run,
    draw=draw,
)  # fmt: skip
