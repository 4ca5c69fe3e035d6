"""What boosted trees need, to go on from protected records to the original ones?

Trees that were grown on k-anonymous records are sure of things that are not so for the original
ones. Gradient boosting then sets a leaf to sum(y - p) / sum(p (1 - p)): where the model was sure,
and wrong, that is large. XGBoost, which the paper uses, adds 1 to the denominator; scikit-learn
adds nothing. So the paper's learning rate of 0.5 may need shrunk leaves, or be too much.

One seed takes tables of two classes, sets a quarter of each aside, and grows trees on the others in
three ways: with a learning rate of 0.5, with one of 0.1, and with one of 0.5 and shrunk leaves. In
each way all trees are grown on the original records, and 100 rounds on k-anonymous records with 10
rounds on the original ones on top. Both are asked to forget a twentieth of the records, so many
times that 200 records are forgotten, each time from the beginning.

Differs from the paper: tables, and the learning rate and leaves, which are the question.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from engram import catalog, data, families
from engram.core import Paper, Split, Target
from engram.engine import EngineRun, edit
from engram.engine.study import Claim, Study, above, all_of, at_least, at_most
from engram.stats.roc import auc_value

WAYS = {"rate 0.5": (0.5, 0.0), "rate 0.1": (0.1, 0.0), "rate 0.5, shrunk": (0.5, 1.0)}
"""Learning rate, and what is added to the denominator of a leaf."""


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> dict[str, float]:
    """All ways on every table, for one seed."""
    found: dict[str, float] = {}
    for name, source in settings["tables"].items():
        everything = data.read(source)
        order = run.stream("parts", name).permutation(len(everything))[: settings["most"]]
        aside = everything.take(order[: len(order) // 4], "aside")
        known = everything.take(order[len(order) // 4 :], "known")
        for way in WAYS:
            rows = _in(way, known, aside, settings, run)
            found |= {f"{what}, {way}, {name}": value for what, value in rows.items()}
    return found


def _in(
    way: str, known: Split, aside: Split, settings: Mapping[str, Any], run: EngineRun
) -> dict[str, float]:
    """One table and way: retraining and fine-tuning, request by request."""
    rounds, (rate, shrinkage) = settings["rounds"], WAYS[way]
    given = (f"n_estimators={rounds}", f"learning_rate={rate}", "max_depth=3",
             f"shrinkage={shrinkage}")  # fmt: skip
    recipes = catalog.entries("recipes")
    plain = recipes["fit-estimator"].load()("newton-boosting", given)
    grown = recipes["eupg-boosting"].load()(
        estimators=rounds, tune_estimators=settings["tune_rounds"], learning_rate=rate,
        shrinkage=shrinkage, max_depth=3, k=10,
    )  # fmt: skip
    target, redo = run.fit(grown, known), catalog.find("edits", "eupg-redo").load()()
    ways: dict[str, Callable[[Split, Split], Target]] = {
        "retrain": lambda keep, _: run.fit(plain, keep),
        "k = 10": lambda keep, gone: edit(redo, target, keep, gone, run),
    }
    size = max(len(known) // 20, 1)
    rng = run.stream("requests", len(known))
    requests = [rng.permutation(len(known))[:size] for _ in range(-(-settings["pooled"] // size))]
    asked = {name: _asked(way, requests, known, aside) for name, way in ways.items()}
    one, other = asked["k = 10"], asked["retrain"]
    protected = replace(target, model=replace(target.model, deployed=target.model.protected))
    return {
        **{f"{what}, {name}": v for name, each in asked.items() for what, v in each.items()},
        "accuracy of the protected model": _accuracy(protected, aside),
        "accuracy less retrain's": one["accuracy"] - other["accuracy"],
        "membership gap to retrain": abs(one["membership AUC"] - other["membership AUC"]),
        "seconds over retrain's": one["seconds"] / other["seconds"],
    }


def _asked(
    way: Callable[[Split, Split], Target], requests: list[np.ndarray], known: Split, aside: Split
) -> dict[str, float]:
    """Accuracy, membership of the forgotten by their loss (pooled), seconds of the processor."""
    hits, spent, inside, outside = [], [], [], []
    for rows in requests:
        left = np.ones(len(known), bool)
        left[rows] = False
        keep, gone = known.where(left, "keep"), known.where(~left, "forget")
        begun = time.process_time()
        after = way(keep, gone)
        spent.append(time.process_time() - begun)
        hits.append(_accuracy(after, aside))
        family = families.find(after.family)
        inside.append(-family.losses(after.model, gone))
        outside.append(-family.losses(after.model, aside))
    values = np.concatenate(inside + outside)
    members = np.arange(len(values)) < sum(map(len, inside))
    return {
        "accuracy": float(np.mean(hits)),
        "membership AUC": auc_value(values, members),
        "seconds": float(np.mean(spent)),
    }


def _accuracy(target: Target, split: Split) -> float:
    logits = families.find(target.family).logits(target.model, split)
    return float(np.mean(logits.argmax(1) == split.matrix("label")))


SOURCES = {
    "breast_cancer": "sklearn:breast_cancer", "adult-census": "adult-census",
    "heart-cleveland": "heart-cleveland",
}  # fmt: skip
STANDING_IN = {name: "sklearn:breast_cancer" for name in SOURCES}
"""For the budget that only checks the path: nothing that has to be fetched."""


def _everywhere(test: Callable[..., Any], what: str, limit: float) -> Any:
    return all_of(*(test(f"{what}, {name}", limit) for name in SOURCES))


STUDY = Study(
    name="eupg-boosting",
    methods=("eupg-boosting", "eupg-redo"),
    paper=Paper(
        title="Efficient Unlearning with Privacy Guarantees",
        authors="Domingo-Ferrer, Jebreel and Sánchez",
        year=2025,
        url="https://arxiv.org/abs/2507.04771",
    ),
    claims=(
        Claim(
            "With a learning rate of 0.5, as the paper's, and leaves that are not shrunk, trees "
            "that go on are at least as accurate as trees grown again, less 2 points",
            where="tables of XGBoost, k = 10",
            paper_value="Adult 86.51 % and 85.54 %",
            test=_everywhere(at_least, "accuracy less retrain's, rate 0.5", -0.02),
        ),
        Claim(
            "With a learning rate of 0.1 they are",
            where="not in the paper",
            test=_everywhere(at_least, "accuracy less retrain's, rate 0.1", -0.02),
        ),
        Claim(
            "With a learning rate of 0.5 and shrunk leaves, as XGBoost's, they are",
            where="tables of XGBoost, k = 10",
            paper_value="Adult 86.51 % and 85.54 %",
            test=_everywhere(at_least, "accuracy less retrain's, rate 0.5, shrunk", -0.02),
        ),
        Claim(
            "Shrunk leaves are what a learning rate of 0.5 lacks on the heart table: with them "
            "less accuracy is lost to trees grown again",
            where="not in the paper",
            test=above("accuracy less retrain's, rate 0.5, shrunk, heart-cleveland",
                       "accuracy less retrain's, rate 0.5, heart-cleveland"),
        ),
        Claim(
            "With a learning rate of 0.1 forgotten records can be told no better than from trees "
            "grown again: the AUC of their loss differs by 0.05 at most",
            where="tables of membership inference",
            test=_everywhere(at_most, "membership gap to retrain, rate 0.1", 0.05),
        ),
        Claim(
            "With a learning rate of 0.5 and shrunk leaves they can be told no better either",
            where="tables of membership inference",
            test=_everywhere(at_most, "membership gap to retrain, rate 0.5, shrunk", 0.05),
        ),
    ),
    budgets={
        "smoke": {"tables": STANDING_IN, "most": 60, "pooled": 2, "rounds": 3, "tune_rounds": 1},
        "small": {"tables": SOURCES, "most": 1600, "pooled": 200, "rounds": 100,
                  "tune_rounds": 10},
        "full": {"tables": SOURCES, "most": 40000, "pooled": 1000, "rounds": 300,
                 "tune_rounds": 20},
    },
    tried="""\
That 0.1 might do was seen beforehand, on two cuts of the heart table with 5 rounds on the original
records (accuracy 0.82 as against 0.67 at 0.5, and 0.82 for trees grown again). That shrunk leaves
might do was seen on seeds 10 to 12 (accuracy less retrain's on heart -0.014 as against -0.151 with
10 rounds). Six seeds were settled on before they were measured; earlier ones, three seeds of
scikit-learn's trees, said the same of the first two claims.
""",
    seeds={"small": 6},
    run=run,
)  # fmt: skip
