"""Does a model that was pre-trained on protected records forget well, and at what price?

A classifier is trained at length on k-anonymous (or noisy) records and then, in brief, on the
original ones. A request to forget repeats the brief part without the forgotten records. One seed
takes four tables, sets a quarter of each aside, and trains: one network the plain way, one in five
shards, and two on protected records (k-anonymity; differential privacy). It then asks each of them
to forget a twentieth of the records, several times over, each time from the beginning, and looks at
what is left: accuracy on the records set aside, how well the forgotten ones can be told from those,
and the seconds of the processor that it took. The same is done with boosted trees on the tables of
two classes.

Membership is asked by three attacks: loss, modified entropy, and the largest probability. Scores of
all requests of a seed are pooled, so that each AUC is of 200 forgotten records or more.

Differs from the paper: its tables are larger (all of Adult, a heart table of 70,000 patients, a
table of credits) and its attacks learnt ones as well; a twentieth is forgotten here as there. Its
trees are XGBoost's; ours have its leaves (a shrinkage of 1) and its learning rate. Adult is cut
down to a sample, so that a seed takes minutes.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from engram import catalog, data, families
from engram.core import Paper, Split, Target
from engram.engine import EngineRun, edit
from engram.engine.study import Claim, Study, all_of, at_least, at_most, equal
from engram.parts.microaggregation import sizes_of_equals
from engram.stats.roc import auc_value

BOUNDS = {
    "breast_cancer": (
        "*radius*=0:60", "*texture*=0:60", "*perimeter*=0:400", "*area*=0:6000",
        "*smoothness*=0:0.4", "*compactness*=0:2", "*concavity*=0:2", "*concave points*=0:0.6",
        "*symmetry*=0:1", "*fractal dimension*=0:0.4",
    ),
    "adult-census": (
        "age=16:100", "fnlwgt=0:2000000", "education-num=1:16", "capital-gain=0:100000",
        "capital-loss=0:10000", "hours-per-week=0:168",
    ),
    "heart-cleveland": (
        "age=18:100", "sex=0:1", "cp=1:4", "trestbps=60:250", "chol=50:700", "fbs=0:1",
        "restecg=0:2", "thalach=40:230", "exang=0:1", "oldpeak=0:10", "slope=1:3", "ca=0:4",
        "thal=3:7",
    ),
    "wine": ("proline=0:3000", "magnesium=0:300", "*=0:50"),
}  # fmt: skip
"""What such numbers can be, known without the tables; pixels lie between 0 and 1."""
PLAIN, SHARDS, K, EPSILON = "retrain", "5 shards", "k = 10", "epsilon = 2.5"
TREES, TREES_K = "trees, retrain", "trees, k = 10"


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Everything about one seed, table by table."""
    found: dict[str, float] = {}
    for name, source in settings["tables"].items():
        found |= _on_table(name, source, settings, run)
    return found


def _on_table(
    name: str, source: str, settings: Mapping[str, Any], run: EngineRun
) -> dict[str, float]:
    records, aside = _parts(name, source, settings["most"], run)
    requests = _requests(len(records), settings["pooled"], run, name)
    look = _Look(records, aside, requests, run)
    train, tune = settings["train"], settings["tune_epochs"]
    plain = _made("train-classifier", **train)
    known = _made("eupg", **train, tune_epochs=tune, k=settings["k"])
    noisy = replace(
        known, protection="microaggregated", epsilon=settings["epsilon"],
        bounds=BOUNDS.get(source.rpartition(":")[2], ("*=0:1",)),
    )  # fmt: skip
    sisa = _made("sisa", **train, shards=5, slices=1)
    found = {
        PLAIN: look.asked(plain, lambda target, keep, gone: run.fit(plain, keep)),
        K: look.asked(known, look.edited("eupg-redo")),
        EPSILON: look.asked(noisy, look.edited("eupg-redo")),
        SHARDS: look.asked(sisa, look.edited("retrain-shards"), settings["few"]),
    }
    if name in settings["trees"]:
        rounds = settings["rounds"]
        given = {"learning_rate": 0.5, "max_depth": 3, "shrinkage": 1.0}  # as the paper's XGBoost
        fields = tuple(f"{name}={value}" for name, value in given.items())
        whole = _made(
            "fit-estimator", estimator="newton-boosting",
            parameters=(*fields, f"n_estimators={rounds}"),
        )  # fmt: skip
        grown = _made(
            "eupg-boosting", estimators=rounds, tune_estimators=settings["tune_rounds"],
            k=settings["k"], **given,
        )  # fmt: skip
        found[TREES] = look.asked(whole, lambda target, keep, gone: run.fit(whole, keep))
        found[TREES_K] = look.asked(grown, look.edited("eupg-redo"))
    table = {f"{k}, {way}, {name}": v for way, each in found.items() for k, v in each.items()}
    table |= _against(found, K, PLAIN, name)
    if TREES in found:
        table |= _against(found, TREES_K, TREES, name)
    return table | _structure(known, records, requests, name, run)


def _parts(name: str, source: str, most: int, run: EngineRun) -> tuple[Split, Split]:
    """At most so many records to learn from and to set aside, three to one, by lot."""
    everything = data.read(source)
    rows = run.stream("parts", name).permutation(len(everything))[:most]
    cut = len(rows) // 4
    return everything.take(rows[cut:], "known"), everything.take(rows[:cut], "aside")


def _requests(n: int, pooled: int, run: EngineRun, name: str) -> list[np.ndarray]:
    """Rows of a twentieth each, so many times that they are `pooled` records or more."""
    size = max(n // 20, 1)
    rng = run.stream("requests", name)
    return [rng.permutation(n)[:size] for _ in range(-(-pooled // size))]


def _against(
    found: Mapping[str, Mapping[str, float]], ours: str, whole: str, name: str
) -> dict[str, float]:
    """One way of forgetting beside training again."""
    one, other = found[ours], found[whole]
    gaps = [abs(one[a] - other[a]) for a in ATTACKED]
    return {
        f"accuracy of {ours} less retrain's, {name}": one["accuracy after"]
        - other["accuracy after"],
        f"membership gap of {ours} to retrain, {name}": gaps[0],
        f"largest membership gap of {ours} to retrain, {name}": max(gaps),
        f"seconds of {ours} over retrain's, {name}": one["seconds"] / other["seconds"],
        f"accuracy of {ours} less the protected model's, {name}": one["accuracy after"]
        - one["accuracy of the protected model"],
        f"membership before, {ours} less plain, {name}": one["membership AUC before"]
        - other["membership AUC before"],
    }


ATTACKED = ("membership AUC of the forgotten (loss)", "membership AUC of the forgotten (entropy)",
            "membership AUC of the forgotten (confidence)")  # fmt: skip


class _Look:
    """One table: what is known, what was set aside, which requests come."""

    def __init__(
        self, records: Split, aside: Split, requests: list[np.ndarray], run: EngineRun
    ) -> None:
        self.records, self.aside, self.requests, self.run = records, aside, requests, run

    def edited(self, name: str) -> Callable[[Target, Split, Split], Target]:
        """Forgetting by this edit."""
        method = catalog.find("edits", name).load()()
        return lambda target, keep, gone: edit(method, target, keep, gone, self.run)

    def asked(
        self, recipe: Any, forget: Callable[[Target, Split, Split], Target], most: int | None = None
    ) -> dict[str, float]:
        """Train by the recipe, forget by the way given, once for each request."""
        before, beforehand = _timed(lambda: self.run.fit(recipe, self.records))
        hits, spent, said = [], [], []
        for rows in self.requests[:most]:
            left = np.ones(len(self.records), bool)
            left[rows] = False
            keep, gone = self.records.where(left, "keep"), self.records.where(~left, "forget")
            after, seconds = _timed(lambda k=keep, g=gone: forget(before, k, g))
            hits.append(_accuracy(after, self.aside))
            spent.append(seconds)
            said.append((_scores(after, gone), _scores(after, self.aside)))
        inside, outside = (np.concatenate([pair[i] for pair in said], 1) for i in (0, 1))
        found = {
            "accuracy before": _accuracy(before, self.aside),
            "accuracy after": float(np.mean(hits)),
            "membership AUC before": _auc(
                _scores(before, self.records), _scores(before, self.aside), 0
            ),
            **{a: _auc(inside, outside, i) for i, a in enumerate(ATTACKED)},
            "forgotten, pooled": float(inside.shape[1]),
            "seconds": float(np.mean(spent)),
            "seconds beforehand": beforehand,
        }
        if hasattr(before.model, "protected"):
            found["accuracy of the protected model"] = _accuracy(before, self.aside, protected=True)
        return found


def _structure(
    recipe: Any, records: Split, requests: list[np.ndarray], name: str, run: EngineRun
) -> dict[str, float]:
    """What must hold exactly: sizes of classes, the stored model, and that requests add up."""
    target, family = run.fit(recipe, records), families.find("classifier")
    method = catalog.find("edits", "eupg-redo").load()()
    protected = catalog.find("transforms", "k-anonymise").load()(k=recipe.k)(records, run)
    first, rest = np.array_split(requests[0], 2)
    left = np.ones(len(records), bool)
    left[first] = False
    one = edit(method, target, records.where(left), records.take(first), run)
    left[rest] = False
    keep = records.where(left)
    then = edit(method, one, keep, records.take(rest), run)
    both = edit(method, target, keep, records.take(requests[0]), run)
    prints = {family.fingerprint(t.model.protected) for t in (target, one, then, both)}
    ends = {family.fingerprint(t.model.deployed) for t in (then, both)}
    return {
        f"smallest equivalence class, {name}": float(
            sizes_of_equals(protected.matrix("features")).min()
        ),
        f"protected models after requests, {name}": float(len(prints)),
        f"models after both requests, {name}": float(len(ends)),
    }


def _made(recipe: str, **fields: Any) -> Any:
    return catalog.find("recipes", recipe).load()(**fields)


def _timed(work: Callable[[], Target]) -> tuple[Target, float]:
    """What was made, and the processor's seconds that it took."""
    begun = time.process_time()
    made = work()
    return made, time.process_time() - begun


def _logits(target: Target, split: Split, *, protected: bool = False) -> np.ndarray:
    model, family = target.model, families.find(target.family)
    return family.logits(replace(model, deployed=model.protected) if protected else model, split)


def _accuracy(target: Target, split: Split, *, protected: bool = False) -> float:
    hits = _logits(target, split, protected=protected).argmax(1) == split.matrix("label")
    return float(np.mean(hits))


def _scores(target: Target, split: Split) -> np.ndarray:
    """Three scores of each record, higher where it is likelier a member; (3, n)."""
    logits, label = _logits(target, split), split.matrix("label")
    chance = np.exp(logits - logits.max(1, keepdims=True))
    chance = np.clip(chance / chance.sum(1, keepdims=True), 1e-12, 1 - 1e-12)
    true = np.eye(chance.shape[1])[label].astype(bool)
    # Modified entropy (Song and Mittal, 2021): small where the model is sure, and right.
    terms = np.where(true, (1 - chance) * np.log(chance), chance * np.log1p(-chance))
    return np.stack([np.log(chance[true]), terms.sum(1), chance.max(1)])


def _auc(inside: np.ndarray, outside: np.ndarray, attack: int) -> float:
    values = np.concatenate([inside[attack], outside[attack]])
    return auc_value(values, np.arange(len(values)) < inside.shape[1])


TABLES = ("breast_cancer", "digits", "adult-census", "heart-cleveland")
BINARY = ("breast_cancer", "adult-census", "heart-cleveland")
SOURCES = {
    "breast_cancer": "sklearn:breast_cancer", "digits": "sklearn:digits",
    "adult-census": "adult-census", "heart-cleveland": "heart-cleveland",
}  # fmt: skip
STANDING_IN = {**SOURCES, "adult-census": "sklearn:wine", "heart-cleveland": "sklearn:wine"}
"""For the budget that only checks the path: nothing that has to be fetched."""
TRAIN = {"width": 128, "layers": 2, "epochs": 100, "learning_rate": 3e-3, "batch_size": 64}


def _each(
    test: Callable[..., Any], what: str, limit: float, tables: tuple[str, ...] = TABLES
) -> Any:
    return all_of(*(test(f"{what}, {name}", limit) for name in tables))


STUDY = Study(
    name="eupg",
    methods=("eupg", "eupg-boosting", "eupg-redo", "k-anonymise"),
    paper=Paper(
        title="Efficient Unlearning with Privacy Guarantees",
        authors="Domingo-Ferrer, Jebreel and Sánchez",
        year=2025,
        url="https://arxiv.org/abs/2507.04771",
    ),
    claims=(
        Claim(
            "In the protected records every equivalence class has k = 10 records or more",
            where="k-anonymity by microaggregation",
            test=_each(at_least, "smallest equivalence class", 10),
        ),
        Claim(
            "Requests leave the protected model as it was, bit by bit, and two requests one after "
            "another end where both in one go do",
            where="the method",
            test=all_of(
                *(equal(f"protected models after requests, {name}", 1, 0) for name in TABLES),
                *(equal(f"models after both requests, {name}", 1, 0) for name in TABLES),
            ),
        ),
        Claim(
            "After forgetting, a network pre-trained on k-anonymous records is at least as "
            "accurate as one trained again, less 2 points",
            where="tables of utility, k = 10",
            paper_value="Adult 85.40 % and 83.31 %, heart 73.87 % and 72.77 % (as its code gives "
            "them)",
            test=_each(at_least, "accuracy of k = 10 less retrain's", -0.02),
        ),
        Claim(
            "The forgotten records can be told no better than from a network trained again: the "
            "AUC of their loss differs by 0.05 at most",
            where="tables of membership inference, k = 10",
            paper_value="Adult 50.64 % and 50.12 %",
            test=_each(at_most, "membership gap of k = 10 to retrain", 0.05),
        ),
        Claim(
            "A request takes less than 0.15 of the time of training again",
            where="tables of run time",
            paper_value="Adult 4.65 s and 89.9 s (0.05), heart 4.7 s and 186.7 s (0.03)",
            test=_each(at_most, "seconds of k = 10 over retrain's", 0.15),
        ),
        Claim(
            "Fine-tuning on the original records makes the protected model better, not worse",
            where="tables of utility",
            test=_each(at_least, "accuracy of k = 10 less the protected model's", 0),
        ),
        Claim(
            "Before any request, a network pre-trained on k-anonymous records tells less of its "
            "members than one trained on the records throughout",
            where="tables of membership inference",
            test=_each(at_most, "membership before, k = 10 less plain", 0),
        ),
        Claim(
            "Boosted trees: as accurate as trees grown again, less 2 points",
            where="tables of XGBoost, k = 10",
            paper_value="Adult 86.51 % and 85.54 %",
            test=_each(at_least, "accuracy of trees, k = 10 less retrain's", -0.02, BINARY),
        ),
        Claim(
            "Boosted trees: the AUC of the forgotten records' loss is within 0.05 of trees grown "
            "again, and a request takes less than 0.15 of the time",
            where="tables of XGBoost, k = 10",
            test=all_of(
                _each(at_most, "membership gap of trees, k = 10 to retrain", 0.05, BINARY),
                _each(at_most, "seconds of trees, k = 10 over retrain's", 0.15, BINARY),
            ),
        ),
    ),
    budgets={
        "smoke": {"tables": STANDING_IN, "trees": list(BINARY), "most": 60, "pooled": 2, "few": 1,
                  "k": 10, "epsilon": 2.5, "tune_epochs": 1, "rounds": 2, "tune_rounds": 1,
                  "train": {**TRAIN, "epochs": 1, "width": 8}},
        "small": {"tables": SOURCES, "trees": list(BINARY), "most": 2400, "pooled": 200, "few": 2,
                  "k": 10, "epsilon": 2.5, "tune_epochs": 5, "rounds": 100, "tune_rounds": 5,
                  "train": TRAIN},
        "full": {"tables": SOURCES, "trees": list(BINARY), "most": 40000, "pooled": 1000, "few": 5,
                 "k": 10, "epsilon": 2.5, "tune_epochs": 5, "rounds": 300, "tune_rounds": 10,
                 "train": {**TRAIN, "batch_size": 512, "learning_rate": 1e-2}},
    },
    tried="""\
The bounds in the tests were set before anything was measured. Places in the paper are named by
subject. Three seeds were planned first; they left four claims about networks undecided by the width
of their intervals. Six in all were then settled on, before the others were looked at, and all six
are shown. What is still undecided is so on the heart table, of 227 records, and (members told
before any request) on digits, where both networks tell next to nothing.

The paper's table after forgetting 5 % (accuracy in per cent / membership AUC / seconds; from the
tables in its authors' repository, where a dash is what was not read there):

| table | retrain | SISA | EUPG, k = 10 | EUPG, epsilon = 0.5 |
| --- | --- | --- | --- | --- |
| Adult, network | 83.31/50.12/89.9 | 84.18/51.12/48.5 | 85.40/50.64/4.65 | 84.92/51.21/4.21 |
| heart, network | 72.77/-/186.7 | 71.76/-/- | 73.87/-/4.7 | 73.73/-/- |
| Adult, XGBoost | 85.54/-/- | 85.78/-/- | 86.51/-/- | 81.79/-/- |

Ours stand in the table of measurements as "accuracy after", "membership AUC of the forgotten" and
"seconds" (the processor's). Our epsilon is 2.5, by noise on means of 10 records, for the table of
all means: nearly nothing comes through it, and the fine-tuning on the original records does it all.

In the first runs boosted trees were scikit-learn's, and lost 0.191 of accuracy on heart with the
paper's learning rate of 0.5 (three seeds). XGBoost shrinks the values of leaves, which matters
where a model was sure and wrong; scikit-learn does not. On seeds 10 to 12 leaves that are shrunk as
XGBoost's mended that, in retraining as in the requests, and all six seeds were measured with them;
the study `eupg-boosting` sets both beside each other. The same code grows the trees of retraining
and of requests. It takes half of the time of scikit-learn's estimator on small tables, so that a
request on heart is 0.3 of growing 100 rounds again: about 15 thousandths of a second, of which the
five rounds are less than a fifth; the rest is reading, checking, asking and writing.
""",
    seeds={"small": 6},
    run=run,
)  # fmt: skip
