"""Can a few distilled pictures carry a backdoor into whoever trains on them, and is it found?

One seed draws digits and distils them by gradient matching in six ways: as they are; after a white
square was planted on a few of them (the naive attack); with a patch that is fitted while they are
distilled (doorping), once kept within the range of a pixel and once let out of it by one range, for
the published code sets no bound; with a white square that is let out as far and not fitted; and
with a faint veil (invisible). Networks trained on each set are asked about other digits, with the
trigger and without. A network of another architecture, and one trained on the clean set but shown
the fitted trigger, are the controls: a backdoor must reach the one and not the other.

Differs from the paper: digits of 8 by 8 pixels, a twentieth of the pictures poisoned instead of a
hundredth (which would be ten), gradients matched on small fully connected networks, because
convolutional ones are not yet matched after so few steps, and far fewer steps.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from engram import catalog
from engram.core import Finding, Paper, Split, Target
from engram.engine import EngineRun
from engram.engine.study import Claim, Study, above, at_least, at_most, mean_at_least, mean_at_most
from engram.parts.triggers import trigger_of
from engram.report.picture_rows import picture_rows

CLEAN, NAIVE, FITTED = "clean", "naive", "doorping"
INSIDE, BRIGHT, VEIL = "doorping within the range", "a white square as bright", "invisible"
REAL, UNDISTILLED = "as many random real", "naive, not distilled"
CONTROL = "attack success of the fitted trigger on clean distillation"
OTHERS = {"convnet": "attack success on another architecture", "cnn": "attack success on a cnn"}
WINS, RIGHT = "attack success", "clean accuracy"
DEFENCES = (
    "AUC of Neural Cleanse over classes",
    "AUC of ABS over classes",
    "AUC of STRIP",
    "found by STRIP at 5 % false alarms",
    "AUC of spectral signatures",
    "AUC of activation clustering",
    "AUC of neighbours' labels",
    "largest share of a class to relabel",
    "attack success after fine-pruning",
    "clean accuracy after fine-pruning",
    "ways that find a backdoor by themselves",
)


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Attack success and clean accuracy of each set, and what the defences find."""
    source, outsiders = digits(settings["source"], run.stream("digits"))
    sets = distilled(source, settings, run)
    sets[REAL] = few(source, settings["distil"]["per_class"], run.stream("few"))
    found: dict[str, Any] = {}
    victim, victims = settings["victim"], settings["victims"]
    for kind, members in sets.items():
        for name, value in _won(members, members, outsiders, victim, victims, run).items():
            found[f"{name}, {kind}"] = value
    told = sets[FITTED]
    found[CONTROL] = _won(sets[CLEAN], told, outsiders, victim, victims, run)[WINS]
    for architecture, name in OTHERS.items():
        other = {**settings["other"], "architecture": architecture}
        found[name] = _won(told, told, outsiders, other, victims, run)[WINS]
    found["clean accuracy less a twentieth, clean"] = found[f"{RIGHT}, {CLEAN}"] - 0.05
    plain = _planted(source, settings, run)
    long = {**victim, "epochs": max(1, victim["epochs"] * len(told) // len(plain))}
    scanned = {FITTED: (told, victim), CLEAN: (sets[CLEAN], victim), UNDISTILLED: (plain, long)}
    for kind, (members, fields) in scanned.items():
        found |= _scanned(kind, members, outsiders, fields, settings["scan"], run)
    return found


def _scanned(
    kind: str,
    members: Split,
    outsiders: Split,
    fields: Mapping[str, Any],
    settings: Mapping[str, Any],
    run: EngineRun,
) -> dict[str, float | Finding]:
    scan = catalog.find("measures", "backdoor-scan").load()(**settings)
    sides = {"members": members, "outsiders": outsiders}
    said = {f.name: f for f in scan(_victim(members, fields, run), sides, run)}
    numbers = {name: said[name] for name in DEFENCES if name in said}
    return {
        f"{name}, {kind}": found if found.value is None else float(found.value)
        for name, found in numbers.items()
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


def few(source: Split, each: int, rng: np.random.Generator) -> Split:
    """Random records of the source, so many of each class."""
    labels = source.matrix("label")
    rows = [rng.permutation(np.flatnonzero(labels == k))[:each] for k in np.unique(labels)]
    return source.take(np.concatenate(rows), "random real")


def _planted(source: Split, settings: Mapping[str, Any], run: EngineRun) -> Split:
    return catalog.find("transforms", "plant-trigger").load()(share=settings["share"])(source, run)


def distilled(source: Split, settings: Mapping[str, Any], run: EngineRun) -> dict[str, Split]:
    """The same records distilled without a backdoor, and with one of each kind."""
    fields, share, reach = settings["distil"], settings["share"], settings["reach"]
    plain = catalog.find("transforms", "distil-gradients").load()(**fields)
    doorping = catalog.find("transforms", "doorping").load()(share=share, **fields)
    veil = catalog.find("transforms", "invisible-trigger").load()(share=share, **fields)
    return {
        CLEAN: plain(source, run),
        NAIVE: plain(_planted(source, settings, run), run),
        FITTED: replace(doorping, reach=reach)(source, run),
        INSIDE: doorping(source, run),
        BRIGHT: replace(doorping, reach=reach, begin="white", trigger_steps=0)(source, run),
        VEIL: veil(source, run),
    }


def draw(run: EngineRun, settings: Mapping[str, Any]) -> dict[str, str]:
    """Distilled pictures of the trigger's class, the triggers, and digits that carry them."""
    source, outsiders = digits(settings["source"], run.stream("digits"))
    rows = []
    for kind, made in distilled(source, settings, run).items():
        own = made.where(made.matrix("label") == 0)
        pictures = [*own.matrix("features")[:6]]
        if trigger := trigger_of(made):
            pictures += [trigger.mask * trigger.values]
            pictures += [*trigger.pasted(outsiders.matrix("features")[:2])]
        shown = [np.clip(np.float64(p), 0, 1).reshape(8, 8, 1) for p in pictures]
        rows.append((kind, shown))
    title = "Distilled zeros; then the trigger for zero, and other digits with it, cut to the range"
    return {"distilled-pictures-and-triggers": str(picture_rows(title, rows))}


def _victim(members: Split, fields: Mapping[str, Any], run: EngineRun) -> Target:
    return run.fit(catalog.find("recipes", "train-classifier").load()(**fields), members)


def _won(
    members: Split,
    told: Split,
    outsiders: Split,
    fields: Mapping[str, Any],
    victims: int,
    run: EngineRun,
) -> dict[str, float]:
    """What the trigger of `told` wins, on average over networks trained on `members`."""
    found: list[dict[str, float]] = []
    for number in range(victims):
        own = replace(run, seed=1000 * run.seed + number)
        victim = _victim(members, fields, own)
        if trigger_of(told) is None:
            right = own.logits(victim, outsiders).argmax(1) == outsiders.matrix("label")
            found.append({RIGHT: float(right.mean())})
            continue
        measure = catalog.find("measures", "attack-success").load()()
        said = measure(victim, {"members": told, "outsiders": outsiders}, own)
        found.append({f.name: float(f.value) for f in said})
    return {name: float(np.mean([each[name] for each in found])) for name in found[0]}


def _budget(
    source: int, each: int, networks: int, rounds: int, epochs: int, victims: int
) -> dict[str, Any]:
    mlp = {"architecture": "mlp", "width": 64, "layers": 2}
    train = {"epochs": epochs, "learning_rate": 3e-3}
    small = networks < 5
    return {
        "source": source, "share": 0.05, "reach": 1.0,
        "distil": {**mlp, "per_class": each, "networks": networks, "rounds": rounds,
                   "network_steps": 10, "batch_size": 64, "first": "noise",
                   "learning_rate": 0.5},
        "victim": {**mlp, **train}, "victims": victims,
        "other": {"width": 16, "layers": 2, **train},
        "scan": {"steps": 5 if small else 100, "records": 256, "references": 1 if small else 2},
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
            "A trigger that is fitted while pictures are distilled wins almost always (patch let "
            "out of the range of a pixel, as the published code does)",
            where="the tables of DOORPING",
            paper_value="close to 1.0",
            test=mean_at_least(f"{WINS}, {FITTED}", 0.9, refuted=0.5),
        ),
        Claim(
            "It wins more often than one that was planted beforehand",
            where="the comparison of NAIVEATTACK and DOORPING",
            test=above(f"{WINS}, {FITTED}", f"{WINS}, {NAIVE}", by=0.2),
        ),
        Claim(
            "Accuracy on clean pictures stays within five points of clean distillation",
            where="the tables of DOORPING",
            test=above(f"{RIGHT}, {FITTED}", "clean accuracy less a twentieth, clean"),
        ),
        Claim(
            "The fitted trigger wins nothing where it was not distilled in (our control)",
            where="ours: else it would be a patch that fools any network",
            test=mean_at_most(CONTROL, 0.2, refuted=0.5),
        ),
        Claim(
            "The backdoor reaches networks of another architecture (a convnet)",
            where="the experiments across architectures",
            test=mean_at_least(OTHERS["convnet"], 0.6, refuted=0.3),
        ),
        Claim(
            "It wins almost always with a patch that stays in the range of a pixel",
            where="ours: no picture could carry another",
            test=mean_at_least(f"{WINS}, {INSIDE}", 0.9, refuted=0.5),
        ),
        Claim(
            "It wins more than a white square that is let out of the range as far, and not fitted",
            where="ours: else its strength and not its fitting would be what wins",
            test=above(f"{WINS}, {FITTED}", f"{WINS}, {BRIGHT}"),
        ),
        Claim(
            "A faint veil over the whole picture wins almost always",
            where="INVISIBLE, in the paper's revision",
            test=mean_at_least(f"{WINS}, {VEIL}", 0.9, refuted=0.5),
        ),
        Claim(
            "Distilled pictures are worth more to a network than as many random real ones",
            where="ours: else nothing was distilled that could carry anything",
            test=above(f"{RIGHT}, {CLEAN}", f"{RIGHT}, {REAL}"),
        ),
        Claim(
            "Neural Cleanse does not find it",
            where="the section on defences",
            test=at_most(f"AUC of Neural Cleanse over classes, {FITTED}", 0.9),
        ),
        Claim(
            "ABS does not find it",
            where="the section on defences",
            test=at_most(f"AUC of ABS over classes, {FITTED}", 0.9),
        ),
        Claim(
            "STRIP does not find it",
            where="the section on defences",
            test=at_most(f"AUC of STRIP, {FITTED}", 0.9),
        ),
        Claim(
            "It outlives the cutting of idle neurons and the tuning that follows",
            where="the section on defences",
            test=at_least(f"attack success after fine-pruning, {FITTED}", 0.5),
        ),
        Claim(
            "Where the records were poisoned and not distilled, neighbours' labels find them",
            where="ours: a defence must find what it was made for",
            test=at_least(f"AUC of neighbours' labels, {UNDISTILLED}", 0.9),
        ),
    ),
    budgets={
        "smoke": _budget(120, 2, 1, 2, 2, 1),
        "small": _budget(1000, 10, 12, 10, 100, 3),
        "full": _budget(1000, 10, 200, 10, 200, 10),
    },
    tried="""\
Each line changes one thing of a small trial (digits, a twentieth poisoned, 10 distilled pictures a
class, mostly 16 networks of 10 rounds; one or two victims of one seed, so that a difference of 0.1
says little). `reach` was chosen on such trials, by a program that drew other digits than those of
the table.

- **What hides a trigger before anything is distilled.** A white square of 2 by 2 on a twentieth of
  the real digits wins 0.55 with a `cnn`, which has the mean of all places before its last layer,
  0.90 with a convnet and 0.91 with an mlp. One pixel from the border the square lies among the
  strokes of the digits; at the border itself it wins 0.60, 0.99 and 0.97. So networks that tell
  places apart are needed, to distil and to be attacked.
- **Which networks gradients are matched on.** After 20 convnets of 10 rounds a convnet reached
  0.89 to 0.91 on clean digits, less than the 0.94 from as many random real ones: nothing was
  distilled yet. The naive trigger won 0.16, the fitted one 0.03. Matched on an mlp the same
  pictures gave a convnet 0.97, and the naive trigger won 0.47 (mlp) and 0.33 (convnet).
- **What a fitted patch becomes in the range of a pixel.** It ends in a corner of the range, black
  or white pixel by pixel, which the networks' random weights decide. On a convnet, whose channels
  are normalised, it became black: no trigger at all, for corners of digits are mostly black. Fixed
  patterns of black and white, never fitted, won 0.43 to 0.47 one pixel from the border (all black
  0.26, the digits' own pattern 0.14), so that there is little to be gained by choosing.
- **Beyond the range.** The published code bounds neither the trigger nor the distilled pictures.
  Without a bound the patch ended at 96 to 188 ranges and won 1.0 with mlp and convnet, at 10
  ranges 1.0 too, but then it won 0.11, 0.27 and 0.96 (mlp, convnet, cnn) on clean distillation as
  well, and without a bound 1.0 of a cnn's: a patch that fools any network. At 3 ranges it was
  learnt by a convnet (1.0) and not by an mlp (0.47), for it still moved. At 1 range it won 1.0,
  1.0 and 0.96, and 0.00 to 0.03 on clean distillation. A white square as bright, not fitted, won
  1.0 with mlp and convnet at each of them.
- **The share, for both attacks alike**, at the border: a tenth gives 0.87 (naive) and 0.83
  (fitted within the range), a fifth 0.84 and 0.92. The two stay alike.
- **Other settings**, naive at the border, where the plan's give 0.55 (mlp): beginning with real
  pictures 0.80, 30 distilled pictures a class 0.82, 256 hidden numbers 0.69, 50 steps of the
  networks 0.67, no such steps 0.67, pictures' rate 2 0.64, rate 0.1 0.51, 50 networks 0.59, batches
  of 256 0.55, one distilled picture a class 0.05.
- **A trigger that drifts less**, at the border, where the plan's wins 0.54: 5 steps after each
  update 0.42; 2 steps, raising the neuron that weighs most for the target 0.49; a stop at an error
  of 0.5, as published, 0.50.

Limits of the ways that need no trigger were raised after a first measurement of the three seeds:
a lead of 0.4 for ABS (now 0.7), a share of 0.2 to relabel (now 0.25), half of a clean network's
mask for Neural Cleanse (now four tenths). The table was measured with the present ones.""",
    run=run,
    draw=draw,
)  # fmt: skip
