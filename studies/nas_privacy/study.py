"""Does the cell of a searched network decide how well its members are told, and can it be edited?

One seed draws random cells and trains a small network of each on digits, a tenth of whose labels
are wrong, for as long as all others: some learn them by heart. A shadow of the same cell is trained
on the other half of the records, and each of the two is attacked: an attack network learns on the
other what answers to members look like (sorted probabilities, and whether the label is right).
From the cells and these AUCs, ridge regression learns which edges go with a high or a low one. Six
cells that it did not see are then changed in four edges of the reduction cell, to lower the AUC and
to raise it, and all three versions are trained and attacked alike.

Accuracy is that of both models of a cell, on records that none of them saw, with true labels.
A cell's gap is the mean loss of held-out records minus that of trained ones. As the AUC goes with
the gap, partial correlations say what is left of a relation at equal gaps.

Differs from the paper: 24 cells drawn by lot on 8 x 8 digits, instead of 2,678 of the best on
CIFAR-10; 2 cells of 8 channels instead of 5 of 16, group normalisation, AdamW, ridge regression
instead of a graph network, and thirds of the cells instead of those beyond 0.84 and 0.78.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram import catalog, data, families
from engram.core import Paper, Split, Target
from engram.engine import EngineRun, train
from engram.engine.study import (
    Claim,
    Study,
    above,
    all_of,
    at_least,
    at_most,
    mean_at_least,
)
from engram.engine.trial import Trial
from engram.parts.cells.genotype import Genotype, random_genotype
from engram.parts.cells.rewrite import changes, rewrite
from engram.parts.cells.risk import cross_validated, operation_counts
from engram.parts.cells.survey import Learning, Survey
from engram.stats.forgetting import rank_correlation
from engram.stats.partial import partial_rank_correlation
from engram.stats.roc import auc_value

AVERAGE, LARGE = 8, 11
"""Columns of the operation counts: average pooling, and 5x5 separable convolutions, in the
reduction cell."""


@dataclass(frozen=True)
class Measured:
    """What was measured on one cell: means over its two models; and one of them."""

    risk: float
    gap: float
    accuracy: float
    target: Target


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """AUCs of random cells, what a regressor learns from them, and what edits then do."""
    pool, test = _records(settings, run)
    rng = run.stream("cells")
    cells = [random_genotype(rng) for _ in range(settings["cells"])]
    held_out = [random_genotype(rng) for _ in range(settings["held_out"])]
    seen = _measured(cells, pool, test, settings, run)
    risk = np.array([each.risk for each in seen])
    survey, learning = Survey(tuple(cells), risk), Learning(**settings["learning"])
    found = _survey(cells, seen, learning, run) | _catalogue(seen, pool, settings, run)
    regressor, budget = learning.regressor(survey), settings["budget"]
    rows = {"original": _measured(held_out, pool, test, settings, run)}
    for direction, name in (("demote", "demoted"), ("promote", "promoted")):
        patterns = learning.patterns(survey, direction, "reduce", regressor)
        new = [rewrite(each, patterns, budget) for each in held_out]
        rows[name] = _measured(new, pool, test, settings, run)
        pairs = zip(held_out, new, strict=True)
        found[f"edges changed, {name}"] = float(np.mean([changes(a, b) for a, b in pairs]))
        moved = np.mean(regressor(new) - regressor(held_out))
        found[f"predicted change of AUC, {name}"] = float(moved)
    return found | _edited(rows)


def _records(settings: Mapping[str, Any], run: EngineRun) -> tuple[Split, Split]:
    """Records to train on, a part of whose labels is wrong, and others with true labels."""
    digits = data.read("sklearn:digits")
    rng = run.stream("records")
    order = rng.permutation(len(digits))
    chosen = digits.take(order[: settings["pool"]])
    label = np.array(chosen.matrix("label"), np.int64)
    wrong = rng.random(len(label)) < settings["noise"]
    label[wrong] = rng.integers(0, 10, wrong.sum())
    pool = Split.of("digits", features=chosen.matrix("features"), label=label, ids=chosen.ids)
    rest = order[settings["pool"] : settings["pool"] + settings["test"]]
    return pool, digits.take(rest, "test")


def _measured(
    cells: Sequence[Genotype],
    pool: Split,
    test: Split,
    settings: Mapping[str, Any],
    run: EngineRun,
) -> list[Measured]:
    """Train a target and a shadow of each cell, and attack both."""
    kind = catalog.find("recipes", "train-classifier").load()
    found = []
    for number, cell in enumerate(cells):
        run.progress(number, len(cells), "cells")
        recipe = kind(architecture=f"cells:{cell}", **settings["train"])
        target = train(recipe, pool, run, source="", holdout=0.5)
        found.append(_attacked(target, pool, test, settings, run))
    return found


def _attacked(
    target: Target, pool: Split, test: Split, settings: Mapping[str, Any], run: EngineRun
) -> Measured:
    """What the target and its shadow, trained on the other half of the records, give away."""
    inside, outside = (target.ledger.split(pool, role) for role in ("trained", "held-out"))
    models = [target, run.fit(target, outside.renamed("shadow"), "shadow")]
    trained = set(inside.ids)
    own = np.array([record in trained for record in pool.ids])
    saw = np.array([own, ~own])
    losses = [run.losses(model, pool) for model in models]
    gaps = [float(x[~s].mean() - x[s].mean()) for x, s in zip(losses, saw, strict=True)]
    label, hits = test.matrix("label"), []
    for model in models:
        logits = families.find("classifier").logits(model.model, test)
        hits.append(float(np.mean(logits.argmax(1) == label)))
    risk = _shadow_attack(models, saw, pool, settings, run)
    return Measured(risk, float(np.mean(gaps)), float(np.mean(hits)), target)


def _shadow_attack(
    models: Sequence[Target],
    saw: np.ndarray,
    pool: Split,
    settings: Mapping[str, Any],
    run: EngineRun,
) -> float:
    """The mean AUC over both models, each attacked by what the other teaches."""
    from engram.methods.attacks.posterior_attack import PosteriorAttack
    from engram.methods.attacks.posterior_attack.network import AttackNetwork

    attack, labels = PosteriorAttack(**settings["attack"]), pool.matrix("label")
    seen = [attack.answers(run.logits(model, pool), labels) for model in models]
    areas = []
    for number in range(len(models)):
        others = [k for k in range(len(models)) if k != number]
        network = AttackNetwork.trained(
            np.concatenate([seen[k] for k in others]),
            np.concatenate([saw[k] for k in others]),
            run.stream("attack network", number),
            width=attack.width,
            steps=attack.steps,
        )
        areas.append(auc_value(network(seen[number]), saw[number]))
    return float(np.mean(areas))


def _catalogue(
    seen: Sequence[Measured], pool: Split, settings: Mapping[str, Any], run: EngineRun
) -> dict[str, float]:
    """The mean AUC of the catalogue's attacks on the targets of some cells."""
    fields = {"posterior-attack": settings["attack"], "rmia": {"shadows": 2},
              "lira": {"shadows": 4}}  # fmt: skip
    chosen = {
        name: catalog.find("attacks", name).load()(**fields.get(name, {}))
        for name in settings["attacks"]
    }
    areas: dict[str, list[float]] = {name: [] for name in chosen}
    for target in (each.target for each in seen[: settings["attacked"]]):
        sides = [target.ledger.split(pool, role) for role in ("trained", "held-out")]
        labelled = Trial(*sides).run(chosen, target, run)
        for name in chosen:
            areas[name].append(auc_value(labelled.scores[name], labelled.is_member))
    return {
        f"AUC of {name} on {settings['attacked']} targets": float(np.mean(values))
        for name, values in areas.items()
    }


def _survey(
    cells: Sequence[Genotype], seen: Sequence[Measured], learning: Learning, run: EngineRun
) -> dict[str, Any]:
    """How AUCs are spread, what they go with, and how well the regressor foresees them."""
    from scipy.stats import kendalltau

    risk, gap, accuracy = (
        np.array([getattr(each, name) for each in seen]) for name in ("risk", "gap", "accuracy")
    )
    foreseen = cross_validated(cells, risk, run.stream("folds"), learning.counts)
    counts = operation_counts(cells)
    found: dict[str, Any] = {
        "AUC of random cells, mean": float(risk.mean()),
        "AUC of random cells, standard deviation": float(risk.std(ddof=1)),
        "accuracy of random cells, mean": float(accuracy.mean()),
        "accuracy of random cells, standard deviation": float(accuracy.std(ddof=1)),
        "Kendall's tau of foreseen and measured AUC": float(
            np.nan_to_num(kendalltau(foreseen, risk).statistic)
        ),
    }
    sides = {
        "gap": gap,
        "accuracy": accuracy,
        "average pooling in the reduction cell": counts[:, AVERAGE],
        "5x5 separable convolutions in the reduction cell": counts[:, LARGE],
        "foreseen AUC": foreseen,
    }
    for name, side in sides.items():
        plain = rank_correlation(side, risk, name, run.stream("pairs", name), 200)
        found[f"correlation of AUC with {name}"] = plain
        if name != "gap":
            given = partial_rank_correlation(side, risk, gap, name)
            found[f"correlation of AUC with {name}, given the gap"] = given
    return found


def _edited(rows: Mapping[str, Sequence[Measured]]) -> dict[str, float]:
    """Means over the held-out cells in each version, and their differences."""
    found: dict[str, float] = {}
    for name, each in rows.items():
        for what in ("risk", "gap", "accuracy"):
            label = {"risk": "AUC", "gap": "gap", "accuracy": "accuracy"}[what]
            found[f"{label}, {name}"] = float(np.mean([getattr(m, what) for m in each]))
    for name in ("demoted", "promoted"):
        moved = found[f"accuracy, {name}"] - found["accuracy, original"]
        found[f"change of accuracy, {name}"] = moved
    return found


TRAIN = {"width": 8, "layers": 2, "epochs": 20, "batch_size": 50, "learning_rate": 0.01}

STUDY = Study(
    name="nas-privacy",
    methods=("posterior-attack",),
    paper=Paper(
        title="On the Privacy Risks of Cell-Based NAS Architectures",
        authors="Huang et al.",
        year=2022,
        url="https://arxiv.org/abs/2209.01688",
    ),
    claims=(
        Claim(
            "Four edges of the reduction cell, chosen by what was measured on other cells, lower "
            "the membership AUC",
            where="demotion of privacy risk",
            test=above("AUC, original", "AUC, demoted", by=0.01),
        ),
        Claim(
            "Cells whose risk was promoted have a higher AUC than the same cells demoted",
            where="promotion and demotion",
            test=above("AUC, promoted", "AUC, demoted", by=0.015),
        ),
        Claim(
            "The edits cost no accuracy, and bring none: it stays within 2 points",
            where="utility of changed architectures",
            test=all_of(
                at_least("change of accuracy, demoted", -0.02),
                at_most("change of accuracy, demoted", 0.02),
                at_least("change of accuracy, promoted", -0.02),
                at_most("change of accuracy, promoted", 0.02),
            ),
        ),
        Claim(
            "The AUC of a cell can be foreseen from its edges",
            where="the regressor; on the published cells, ridge regression has a tau of 0.233",
            paper_value="0.233 (computed from the published AUCs)",
            test=mean_at_least(
                "Kendall's tau of foreseen and measured AUC", 0.22, refuted=0.0
            ),
        ),
        Claim(
            "The AUC goes with the gap between held-out and trained loss",
            where="ours: what a pattern may merely stand for",
            test=mean_at_least("correlation of AUC with gap", 0.5, refuted=0.0),
        ),
        Claim(
            "What is foreseen of a cell goes with its AUC at equal gaps too",
            where="ours",
            test=mean_at_least(
                "correlation of AUC with foreseen AUC, given the gap", 0.2, refuted=0.0
            ),
        ),
        Claim(
            "Average pooling in the reduction cell goes with a low AUC",
            where="the patterns of demotion",
            paper_value="-0.235 (Spearman, computed from the published AUCs)",
            test=at_most(
                "correlation of AUC with average pooling in the reduction cell", 0.0
            ),
        ),
    ),
    budgets={
        "smoke": {"cells": 10, "held_out": 2, "pool": 60, "test": 60, "noise": 0.1, "budget": 4,
                  "train": {**TRAIN, "width": 4, "epochs": 1}, "attack": {"width": 4, "steps": 10},
                  "attacks": ["loss", "posterior-attack", "rmia"], "attacked": 1,
                  "learning": {"share": 0.34, "least": 1}},
        "small": {"cells": 24, "held_out": 6, "pool": 200, "test": 600, "noise": 0.1, "budget": 4,
                  "train": TRAIN, "attack": {"width": 16, "steps": 100},
                  "attacks": ["loss", "posterior-attack", "rmia"], "attacked": 4,
                  "learning": {"share": 0.34, "least": 2}},
        "full": {"cells": 300, "held_out": 30, "pool": 600, "test": 1000, "noise": 0.1,
                 "budget": 4,
                 "train": {**TRAIN, "width": 16, "layers": 5, "epochs": 40},
                 "attack": {"width": 32, "steps": 200},
                 "attacks": ["loss", "posterior-attack", "rmia", "lira"], "attacked": 20,
                 "learning": {"share": 0.11, "least": 3}},
    },
    tried="""\
Margins were set before anything was measured on edited cells. Sizes (20 epochs, 100 records each)
were chosen on 15 cells of another draw, so that three seeds take ten minutes of one core. Places in
the paper are named by subject.

Three seeds left five claims undecided. Six in all were then settled on, before the others were
looked at, and all six are shown: three of the five are decided by them.
""",
    seeds={"small": 6},
    run=run,
)  # fmt: skip
