"""Can nobody learn from pictures whose Bayes error was raised, not even beside clean ones?

Pictures of handwritten digits (scikit-learn's, 8 by 8 pixels) are protected by noise of one budget
that was made in four ways: by climbing the estimated Bayes error, by minimising a network's error,
by maximising it, and at random. Victims that no method has seen are trained on the protected
pictures, and on mixtures of protected and clean ones; what counts is their accuracy on clean test
pictures, beside that of training on the clean part alone. Two more victims know of the protection
and train on altered, or on adversarial, pictures.

One seed draws its own training and test pictures, mixtures and networks. All networks of a seed
have the same settings whatever they are trained on.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from engram import catalog, data
from engram.core import EngramError, Finding, Paper, Split
from engram.engine import EngineRun, measure
from engram.engine.study import (
    Claim,
    Study,
    above,
    equal,
    mean_at_least,
)
from engram.parts.kernel_error import KernelEstimate, grid_error, mixture_bound
from engram.parts.labelled import features_of, labels_of
from engram.parts.mixing import mixed
from engram.parts.protection import pictures_of
from engram.parts.victims import fields_of
from engram.report.picture_rows import amplified, picture_rows
from engram.stats.cover_hart import cover_hart, neighbour_errors

METHODS = {
    "bayes-error": {},
    "error-minimising": {},
    "error-maximising": {},
    "random-noise": {},
}
KNOWING = ("cnn, augmented", "cnn, adversarial")


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> dict[str, float | Finding]:
    """Accuracies of all victims, estimates and bounds, visibility, and the mixture bound."""
    train, test = _pictures(settings, run)
    protected, climbed = _protected(train, settings, run)
    found: dict[str, float | Finding] = {}
    found |= _estimates(train, protected, climbed, settings)
    found |= _accuracies(train, test, protected, settings, run)
    found |= _seen(train, protected, run)
    found["largest violation of the mixture bound"] = _violation(run)
    return found


def draw(run: EngineRun, settings: Mapping[str, Any]) -> dict[str, str]:
    """Some pictures, what each method changes in them, and what they then look like."""
    train, _ = _pictures(settings, run)
    protected, _ = _protected(train, settings, run)
    before = pictures_of(train)
    originals = before.shown(before.raw)[: settings["shown"]]
    rows: list[tuple[str, list[np.ndarray]]] = [("original", list(originals))]
    for name, split in protected.items():
        after = before.shown(features_of(split))[: settings["shown"]]
        changes = [amplified(a, b) for a, b in zip(originals, after, strict=True)]
        rows += [(f"{name}:", changes), ("protected", list(after))]
    title = (
        "Digits, what each method changes in them (amplified around grey), and what is published"
    )
    return {"pictures": str(picture_rows(title, rows))}


def _pictures(settings: Mapping[str, Any], run: EngineRun) -> tuple[Split, Split]:
    digits = data.read("sklearn:digits")
    order = run.stream("pictures").permutation(len(digits))
    count, tested = settings["train"], settings["test"]
    return digits.take(order[:count], "train"), digits.take(order[-tested:], "test")


def _protected(
    train: Split, settings: Mapping[str, Any], run: EngineRun
) -> tuple[dict[str, Split], list[float]]:
    """The training pictures by method, and the estimate after each step of the climb."""
    told: list[float] = []
    heard = replace(run, listen=lambda entry: told.append(entry["objective"])
                    if "objective" in entry else None)  # fmt: skip
    made = {}
    for name, fields in METHODS.items():
        method = catalog.find("transforms", name).load()
        fields = {"epsilon": settings["epsilon"], **fields, **settings["methods"].get(name, {})}
        made[name] = method(**fields)(train, heard)
    return made, told


def _estimates(
    train: Split, protected: Mapping[str, Split], climbed: list[float], settings: Mapping[str, Any]
) -> dict[str, float]:
    """The estimated Bayes error, and Cover and Hart's lower bound, of the pictures alone."""
    width = settings["methods"]["bayes-error"]["bandwidth"]
    labels = labels_of(train)
    found = {"steps at which the estimate fell": float(np.sum(np.diff(climbed) < 0))}
    for name, split in {"clean": train, **protected}.items():
        images = pictures_of(split).clean
        alone = KernelEstimate(images, torch.from_numpy(labels), 10, lambda x: x, width)
        error = float(neighbour_errors(features_of(split), labels).mean())
        found[f"{name}: estimated Bayes error"] = alone.error(images)
        found[f"{name}: least Bayes error (Cover-Hart)"] = cover_hart(error, 10)[0]
    return found


def _accuracies(
    train: Split,
    test: Split,
    protected: Mapping[str, Split],
    settings: Mapping[str, Any],
    run: EngineRun,
) -> dict[str, float | Finding]:
    """On clean test pictures, by what was trained on; "clean part" leaves out the protected."""
    found: dict[str, float | Finding] = {}
    victims = settings["victims"]
    for name, split in protected.items():
        for share in settings["mixes"][name]:
            both, clean = mixed(train, split, share, run.stream("mixture", f"{share}"))
            asked = victims + (list(KNOWING) if name in settings["knowing"] else [])
            found |= _by_victim(f"{share:.0%} {name}", both, test, asked, settings, run)
            if 0 < share < 1 and f"{share:.0%} clean part: mean" not in found:
                found |= _by_victim(f"{share:.0%} clean part", clean, test, victims, settings, run)
    found |= _by_victim("clean", train, test, [*victims, *KNOWING], settings, run)
    found["50% error-minimising over clean part"] = float(
        _value(found["50% error-minimising: mean"]) - _value(found["50% clean part: mean"])
    )
    return found


def _value(found: float | Finding) -> float:
    return float(found.value or 0.0) if isinstance(found, Finding) else found


def _by_victim(
    name: str,
    split: Split,
    test: Split,
    victims: list[str],
    settings: Mapping[str, Any],
    run: EngineRun,
) -> dict[str, float | Finding]:
    """The accuracy of each victim, and the mean over those that know of no protection."""
    found: dict[str, float | Finding] = {}
    accuracy = catalog.find("measures", "accuracy").load()()
    for victim in victims:
        recipe, fields = fields_of(victim, **settings["training"])
        method = catalog.find("recipes", recipe).load()(**fields)
        target = run.fit(method, split.renamed("train"))
        (found[f"{name}: {victim}"],) = measure(accuracy, target, {"test": test}, run)
    plain = [_value(found[f"{name}: {v}"]) for v in victims if v not in KNOWING]
    return {**found, f"{name}: mean": float(np.mean(plain))}


def _seen(train: Split, protected: Mapping[str, Split], run: EngineRun) -> dict[str, Any]:
    """How much each method can be seen."""
    from engram.methods.measures.visibility import psnr, ssim

    before = pictures_of(train)
    old = before.shown(before.raw)
    found: dict[str, Any] = {}
    for name, split in protected.items():
        new = before.shown(features_of(split))
        found[f"{name}: PSNR in dB"] = float(np.mean(psnr(old, new)))
        try:
            found[f"{name}: SSIM"] = float(np.mean(ssim(old, new)))
        except EngramError as problem:  # an extra that is not installed
            found[f"{name}: SSIM"] = Finding.missing("SSIM", str(problem))
    return found


def _violation(run: EngineRun) -> float:
    """The most that a mixture of known densities on a plane falls below its bound."""
    rng, worst = run.stream("densities"), -1.0
    axis = np.linspace(-8, 8, 321)
    x, y = np.meshgrid(axis, axis)
    cell = float(axis[1] - axis[0]) ** 2
    for _ in range(20):
        sides = []
        for _ in range(2):
            centres = rng.uniform(-2, 2, (3, 2))
            bumps = [np.exp(-((x - a) ** 2 + (y - b) ** 2) / 2) / (2 * np.pi) for a, b in centres]
            sides.append(np.stack(bumps).reshape(3, -1) / 3)
        share = float(rng.random())
        mixture = grid_error((1 - share) * sides[0] + share * sides[1], cell)
        parts = [grid_error(side, cell) for side in sides]
        worst = max(worst, mixture_bound(share, *parts) - mixture)
    return max(worst, 0.0)


SMALL_METHODS = {
    "bayes-error": {"mixture": 0.5, "bandwidth": 0.5, "steps": 60},
    "error-maximising": {"steps": 30},
}
STUDY = Study(
    name="bayes-error",
    methods=("bayes-error", "error-minimising", "error-maximising", "random-noise", "visibility"),
    paper=Paper(
        title="Towards Provably Unlearnable Examples via Bayes Error Optimisation",
        authors="Zhang et al.",
        year=2025,
        url="https://arxiv.org/abs/2511.08191",
    ),
    claims=(
        Claim(
            "Climbing never lowers the estimated Bayes error",
            where="the method; with a line search",
            test=equal("steps at which the estimate fell", 0.0, 0.0),
        ),
        Claim(
            "The Bayes error of a mixture is at least that of its parts, each by its share",
            where="the bound for mixtures; here on grids of known densities",
            test=equal("largest violation of the mixture bound", 0.0, 1e-3),
        ),
        Claim(
            "The pictures' Bayes error rises, by our own estimate",
            where="the method",
            test=above(
                "bayes-error: estimated Bayes error", "clean: estimated Bayes error", by=0.15
            ),
        ),
        Claim(
            "The pictures' Bayes error rises, by a bound that the method does not look at",
            where="ours: Cover and Hart",
            test=above(
                "bayes-error: least Bayes error (Cover-Hart)",
                "clean: least Bayes error (Cover-Hart)",
                by=0.15,
            ),
        ),
        Claim(
            "Half protected, half clean: victims do worse than on the clean half alone",
            where="project page, CIFAR-10",
            test=above("50% clean part: mean", "50% bayes-error: mean", by=0.05),
            paper_value="91.16 % against 69.68 %",
        ),
        *(
            Claim(
                f"So it is for this victim alone: {victim}",
                where="ours",
                test=above(f"50% clean part: {victim}", f"50% bayes-error: {victim}", by=0.05),
            )
            for victim in ("mlp", "cnn", "resnet", "rbf-svm", "1-nn")
        ),
        Claim(
            "Error-minimising noise does no harm beside clean pictures",
            where="project page: earlier methods",
            test=mean_at_least("50% error-minimising over clean part", -0.02, refuted=-0.05),
            paper_value="92.51 % against 91.16 %",
        ),
        Claim(
            "It is not the size of the noise: beside clean pictures, random noise of the same "
            "budget does less",
            where="ours",
            test=above("50% random-noise: mean", "50% bayes-error: mean", by=0.05),
        ),
        Claim(
            "With every picture protected, adversarial training does not bring the accuracy back",
            where="ours: an adaptive defence",
            test=above("clean: cnn, adversarial", "100% bayes-error: cnn, adversarial", by=0.05),
        ),
    ),
    budgets={
        "smoke": {
            "train": 60, "test": 40, "epsilon": 0.4, "knowing": ["bayes-error"], "shown": 2,
            "victims": ["mlp", "cnn", "resnet", "rbf-svm", "1-nn"],
            "mixes": {"bayes-error": [0.5, 1.0], "error-minimising": [0.5],
                      "error-maximising": [1.0], "random-noise": [0.5]},
            "training": {"epochs": 1, "width": 4},
            "methods": {"bayes-error": {"mixture": 0.5, "bandwidth": 0.5, "steps": 3},
                        "error-minimising": {"rounds": 1, "noise_steps": 2, "width": 4},
                        "error-maximising": {"steps": 2, "epochs": 1, "width": 4}},
        },
        "small": {
            "train": 800, "test": 500, "epsilon": 0.4,
            "victims": ["mlp", "cnn", "resnet", "rbf-svm", "1-nn"],
            "knowing": ["bayes-error"], "shown": 10,
            "mixes": {"bayes-error": [0.25, 0.5, 0.75, 1.0], "error-minimising": [0.5, 1.0],
                      "error-maximising": [0.5, 1.0], "random-noise": [0.5, 1.0]},
            "training": {"epochs": 20, "learning_rate": 3e-3},
            "methods": SMALL_METHODS,
        },
        "full": {
            "train": 1200, "test": 500, "epsilon": 0.4,
            "victims": ["mlp", "cnn", "resnet", "rbf-svm", "1-nn"],
            "knowing": list(METHODS), "shown": 10,
            "mixes": {name: [0.25, 0.5, 0.75, 1.0] for name in METHODS},
            "training": {"epochs": 60, "learning_rate": 3e-3},
            "methods": {**SMALL_METHODS, "error-maximising": {"steps": 250}},
        },
    },
    seeds={"full": 5},
    tried="""\
On seed 0, with 1,000 pictures of which half were protected, before this plan was written:

- With the records alone in the estimate (`mixture` 1), no width of the kernel hurt a mixture. At a
  budget of 0.4 and the likeliest width (0.38), the estimate rose from 0.02 to 0.89 and the nearest
  neighbours' error to 0.93, but the MLP lost 0.014 beside the clean half and the others nothing:
  moved records went where they lie among one another, and where no clean ones are. With
  `objective` label it was the same. So `mixture` was added to the method: the records' own
  originals stand for the clean ones of others.
- With that, at 0.4, widths of 0.4, 0.5, 0.6 and 1.0 took 0.07, 0.16, 0.18 and 0.07 from the MLP,
  and 0.20, 0.26, 0.17 and 0.02 from the nearest neighbour. 0.5 was chosen, because at 0.6 and
  beyond the error of the nearest neighbour of the protected pictures themselves rises less.
- A budget of 0.3 instead of 0.4 took 0.08 from the MLP beside the clean half. The card of this
  method plans 0.25; the budget was raised before anything else was, as it says.
- No setting took more than 0.02 from the support vector machine with a radial kernel: its claim is
  in the table because it is expected to fail.

After the first seed one thing was changed, in the two victims that know of the protection and not
in the plan: they standardised every pixel by its own spread, so that altered edges, black in nearly
all pictures, became enormous (0.36 on clean pictures with alterations). With one spread for all
pixels it was 0.80. All seeds were then measured with that; the other victims of the first seeds
were found in the store and not trained again, so the seconds below are too few: the first seed
took 308 as a whole.
""",
    run=run,
    draw=draw,
)  # fmt: skip
