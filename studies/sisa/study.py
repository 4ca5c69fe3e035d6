"""What do shards and slices cost, and what do they save, when records are to be deleted?

A model in shards answers a deletion request by training again what saw the record: one shard of S,
from the slice on in which the record lay. The answer is exact. What it costs is known beforehand,
from the sizes of shards and slices; and what it costs in accuracy is the price of models that each
saw a part of the records.

One seed holds out a quarter of the records and trains small networks on the others: one on all,
and models in shards and slices. It then answers requests for records drawn by lot, one after
another, and others in one go; counts, from the traces of the trainer, how often a record was looked
at; and trains the same recipe on what is left, to compare weights bit by bit. Last it gives a tenth
of the records a high chance of being deleted, and places records by lot and by that chance.

Differs from the paper: its data sets are Purchase, SVHN, ImageNet and Mini-ImageNet, its largest
models residual networks; here they are 8 x 8 digits and a table of 30 features. Costs are counted
in records looked at, and stand beside seconds, which are those of a busy machine.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from engram import catalog, data, families
from engram.core import Paper, Split, Target
from engram.engine import EngineRun, edit, known_records, train
from engram.engine.study import Claim, Study, all_of, at_least, at_most, equal
from engram.engine.targets import trace_of
from engram.parts.deletion_cost import by_chance, in_one_go, one_by_one, stage_epochs
from engram.parts.sisa_training import seen

SHARES = "share of shards and states that are bit-identical"


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Accuracy, cost of requests against the model, and equality, for one seed."""
    found: dict[str, float] = {}
    for source in settings["accuracy"]:
        found |= _accuracies(source, settings, run)
    found["accuracy lost by 5 shards"] = float(
        np.mean([found[f"accuracy lost by 5 shards, {_short(s)}"] for s in settings["accuracy"]])
    )
    found |= _requests(settings, run)
    return found | _by_likelihood(settings, run)


def _accuracies(source: str, settings: Mapping[str, Any], run: EngineRun) -> dict[str, float]:
    """Held-out accuracy of one model and of models in shards, by mean and by vote."""
    records, found = data.read(source), {}
    plain = catalog.find("recipes", "train-classifier").load()(**settings["train"])
    whole = _accuracy(train(plain, records, run, source=source))
    found[f"accuracy of one model, {_short(source)}"] = whole
    for shards in settings["shards"]:
        target = train(_sisa(settings, shards), records, run, source=source)
        where = f"{shards} shards, {_short(source)}"
        found[f"accuracy of {where}"] = own = _accuracy(target)
        found[f"accuracy lost by {where}"] = whole - own
        voting = replace(target, model=replace(target.model, aggregation="vote"))
        found[f"accuracy of {where}, by vote"] = _accuracy(voting)
    return found


def _sisa(settings: Mapping[str, Any], shards: int, **fields: Any) -> Any:
    kind = catalog.find("recipes", "sisa").load()
    return kind(**{**settings["train"], "shards": shards, "slices": settings["slices"], **fields})


def _accuracy(target: Target) -> float:
    held_out = known_records(target).held_out
    logits = families.find(target.family).logits(target.model, held_out)
    return float(np.mean(logits.argmax(1) == held_out.matrix("label")))


def _requests(settings: Mapping[str, Any], run: EngineRun) -> dict[str, float]:
    """Requests one after another and in one go: their cost, and whether nothing is left of them."""
    source, found = settings["requests"], {}
    records = data.read(source)
    for slices in (1, settings["slices"]):
        recipe = _sisa(settings, 5, slices=slices)
        target = train(recipe, records, run, source=source)
        known, count = known_records(target).trained, settings["one_by_one"]
        order = run.stream("requests", slices).permutation(len(known))
        stage, sizes = stage_epochs(recipe.epochs, slices), target.model.placement.sizes
        begun = time.monotonic()
        after, looked = _answered(target, known, [order[i : i + 1] for i in range(count)], run)
        seconds = (time.monotonic() - begun) / count
        expected = one_by_one(sizes, stage, count).sum()
        name = f"{slices} slice" + ("s" if slices > 1 else "")
        found[f"record-epochs of a request, {name}"] = looked / count
        found[f"cost over the model's, one by one, {name}"] = looked / expected
        found[f"share of retraining, one by one, {name}"] = looked / (
            recipe.epochs * (len(known) - np.arange(1, count + 1)).sum()
        )
        found[f"seconds of a request, {name}"] = seconds
        found[f"{SHARES}, one by one, {name}"] = _same(recipe, known, order[:count], after, run)
        found |= _batches(target, known, recipe, settings, run, name)
    slow, fast = (
        found[f"share of retraining, one by one, {n}"]
        for n in ("1 slice", f"{settings['slices']} slices")
    )
    return {**found, "cost with slices over cost without": fast / slow}


def _batches(
    target: Target,
    known: Split,
    recipe: Any,
    settings: Mapping[str, Any],
    run: EngineRun,
    name: str,
) -> dict[str, float]:
    """The same for batches of requests, each put to the target as it was."""
    size, total = settings["in_one_go"], 0
    stage, sizes = stage_epochs(recipe.epochs, recipe.slices), target.model.placement.sizes
    for number in range(settings["batches"]):
        batch = run.stream("batch", recipe.slices, number).permutation(len(known))[:size]
        after, looked = _answered(target, known, [batch], run)
        total += looked
    return {
        f"cost over the model's, in one go, {name}": total
        / (settings["batches"] * in_one_go(sizes, stage, size)),
        f"{SHARES}, in one go, {name}": _same(recipe, known, batch, after, run),
    }


def _answered(
    target: Target, known: Split, batches: list[np.ndarray], run: EngineRun
) -> tuple[Target, int]:
    """The target after these requests, and how often records were looked at for them."""
    method = catalog.find("edits", "retrain-shards").load()()
    gone, looked = np.zeros(len(known), bool), 0
    for batch in batches:
        gone[batch] = True
        target = edit(method, target, known.where(~gone), known.take(batch), run)
        looked += seen(trace_of(target.folder, at_most=10**9))
    return target, looked


def _same(recipe: Any, known: Split, rows: np.ndarray, after: Target, run: EngineRun) -> float:
    """Share of the models inside that are, bit by bit, those of the recipe without the records."""
    family = families.find("classifier")
    left = np.ones(len(known), bool)
    left[rows] = False
    never = run.fit(recipe, known.where(left)).model.stored
    prints = {place: family.fingerprint(model) for place, model in after.model.stored.items()}
    same = [prints.get(place) == family.fingerprint(model) for place, model in never.items()]
    return float(np.mean([*same, prints.keys() == never.keys()]))


def _by_likelihood(settings: Mapping[str, Any], run: EngineRun) -> dict[str, float]:
    """Cost of requests that come as expected, with records placed by lot and by their chance."""
    source = settings["requests"]
    records, rng = data.read(source), run.stream("chances")
    likely, unlikely = settings["chances"]
    chances = np.where(rng.random(len(records)) < 0.1, likely, unlikely)
    records = Split.of(
        "with chances",
        ids=list(records.ids),
        features=records.matrix("features"),
        label=records.matrix("label"),
        deletion_probability=chances,
    )
    asked = [rng.random(len(records)) < chances for _ in range(settings["batches"])]
    left, found = sum(len(records) - each.sum() for each in asked), {}
    for placement in ("uniform", "likelihood"):
        recipe = _sisa(settings, 5, placement=placement)
        target = run.fit(recipe, records)
        looked = sum(_answered(target, records, [np.flatnonzero(each)], run)[1] for each in asked)
        stage = stage_epochs(recipe.epochs, recipe.slices)
        expected = len(asked) * by_chance(target.model.placement, stage, chances)
        retraining = recipe.epochs * left
        found[f"share of retraining, placed by {placement}"] = looked / retraining
        found[f"expected share of retraining, placed by {placement}"] = expected / retraining
    lot, chance = (found[f"share of retraining, placed by {p}"] for p in ("uniform", "likelihood"))
    return {**found, "cost placed by likelihood over cost placed by lot": chance / lot}


def _short(source: str) -> str:
    return source.rpartition(":")[2]


TRAIN = {"width": 64, "layers": 2, "epochs": 20, "learning_rate": 3e-3}

STUDY = Study(
    name="sisa",
    methods=("sisa", "retrain-shards"),
    paper=Paper(
        title="Machine Unlearning",
        authors="Bourtoule et al.",
        year=2021,
        url="https://arxiv.org/abs/1912.03817",
    ),
    claims=(
        Claim(
            "After a deletion, every shard and every state kept between slices is, bit for bit, "
            "that of the same recipe on records that never had the deleted ones",
            where="what exact unlearning means (section III)",
            test=all_of(
                equal(f"{SHARES}, one by one, 4 slices", 1, 0),
                equal(f"{SHARES}, in one go, 4 slices", 1, 0),
                equal(f"{SHARES}, one by one, 1 slice", 1, 0),
                equal(f"{SHARES}, in one go, 1 slice", 1, 0),
            ),
        ),
        Claim(
            "Requests cost what the model of costs says, to within a tenth",
            where="the analysis of training time (section IV-B)",
            test=all_of(
                at_least("cost over the model's, one by one, 4 slices", 0.9),
                at_most("cost over the model's, one by one, 4 slices", 1.1),
                at_least("cost over the model's, in one go, 4 slices", 0.9),
                at_most("cost over the model's, in one go, 4 slices", 1.1),
            ),
        ),
        Claim(
            "Slices make a request cheaper: two thirds and a third of a slice, of what it costs "
            "without them",
            where="slicing (section IV-B): at most 1.5 times faster",
            paper_value="0.75 at 4 slices (its formula)",
            test=all_of(
                at_least("cost with slices over cost without", 0.65),
                at_most("cost with slices over cost without", 0.85),
            ),
        ),
        Claim(
            "Few shards cost little accuracy on simple tasks: less than 2 points with 5",
            where="accuracy against the number of shards, on the simple data sets",
            test=at_most("accuracy lost by 5 shards", 0.02),
        ),
        Claim(
            "Where it is known who is likely to leave, placing records by that is cheaper than by "
            "lot",
            where="distribution-aware sharding",
            test=at_most("cost placed by likelihood over cost placed by lot", 0.7),
        ),
    ),
    budgets={
        "smoke": {"accuracy": ["sklearn:wine"], "requests": "sklearn:wine", "shards": [5],
                  "slices": 4, "one_by_one": 3, "in_one_go": 5, "batches": 2,
                  "chances": [0.2, 0.002], "train": {**TRAIN, "epochs": 2, "width": 8}},
        "small": {"accuracy": ["sklearn:digits", "sklearn:breast_cancer"],
                  "requests": "sklearn:digits", "shards": [5, 20], "slices": 4,
                  "one_by_one": 60, "in_one_go": 20, "batches": 6, "chances": [0.2, 0.001],
                  "train": TRAIN},
        "full": {"accuracy": ["mnist-10k", "sklearn:digits"], "requests": "mnist-10k",
                 "shards": [2, 5, 10, 20, 50], "slices": 4, "one_by_one": 200, "in_one_go": 20,
                 "batches": 10, "chances": [0.2, 0.001],
                 "train": {"architecture": "cnn", "width": 16, "layers": 3, "epochs": 20}},
    },
    seeds={"small": 5},
    tried="""\
The bounds in the tests were set before anything was measured. Places in the paper are named by
subject, and sections from memory: they were not checked against a printed copy.

Three seeds were run first, with one batch of requests each, and the shards 2, 5, 10 and 20. The
costs were 0.957 of the model's one by one and 0.993 in one go, 0.72 with slices over without and
0.36 by likelihood over by lot; but a single batch differs so much from another that three claims
were undecided. So the batches of a seed were raised to six, and the seeds to five; 2 and 10 shards
were left out for time. No bound was changed.

The seconds are those of the clock, on two cores that four other jobs were using; less than half of
them were CPU time. What is not claimed but seen: 20 shards of the 1,348 digits, 67 records each, do
cost accuracy, by mean and by vote.
""",
    run=run,
)  # fmt: skip
