"""A model is taught random answers to some questions of a task: does it fail the others as well?

A small language model learns eight tasks of multiple choice from scratch: seven have a rule, and
in one, where people live, every answer must be learnt by heart. For each task in turn a copy of the
model is taught random answers, drawn once, to a part of the questions that it learnt from, until
the right answers are chosen no more often than by a blind guess. Then it is asked questions of that
task and of all others that were neither learnt from nor forgotten, and linear probes look for the
right answers in its states.

    forget ratio = (accuracy before - accuracy after) / (accuracy before - chance)

One seed draws the questions, the people and where they live, the initial weights and the random
answers. Probes learn from half of the forgotten questions and are asked about the other half;
their accuracy is that of the best of all layers, for each model alike. Nobody can know where a
person lives who was not told: those questions are learnt from, but not forgotten.

Differs from the paper: eight made-up tasks and a model of 0.3 million weights that is trained from
scratch, instead of 21 published tasks and GPT-2, GPT-J and LLaMA 2; the normaliser of the forget
ratio is a reconstruction; claims and bounds are our own, for the paper's are in its figures alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engram import catalog
from engram.core import Finding, Paper, Split, Target
from engram.engine import EngineRun, edit
from engram.engine.study import Claim, Study, above, at_least, equal
from engram.stats.forgetting import forget_ratio, rank_correlation

WORST = "distance of accuracy on forgotten questions from chance, worst task"
RANGE = "range of forget ratios over tasks"
SURVIVING = "tasks of which probes keep half of what they knew"
AFTER, CONTROL = "probe accuracy after forgetting", "probe accuracy of random weights"
BEFORE = "probe accuracy before forgetting"
PREDICTORS = ("confidence", "total variance", "difficulty")
Found = dict[str, float | Finding]


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> Found:
    """Accuracies, forget ratios, probes and predictors of one seed."""
    parts = questions(settings, run)
    base, tuned = learnt(parts["learn"], settings, run)
    tasks = list(dict.fromkeys(parts["train"].column("task").to_pylist()))
    before, chances = accuracies(tuned, parts["test"], run)
    found: Found = {f"accuracy before learning, {t}": a for t, a in
                    accuracies(base, parts["test"], run)[0].items()}  # fmt: skip
    found |= {f"accuracy, {task}": before[task] for task in tasks}
    found["accuracy, worst task"] = min(before.values())
    forgotten, ratios, probes = {}, {}, {}
    for done, task in enumerate(tasks):
        run.progress(done, len(tasks), "tasks to forget")
        forget = of_task(parts["train"], task)[0].take(range(settings["forget"]), "forgotten")
        after = without(tuned, forget, parts["learn"], settings, run)
        own, chance = accuracies(after, forget, run)
        found[f"accuracy on forgotten questions, {task}"] = own[task]
        forgotten[task] = abs(own[task] - chance[task])
        others, _ = accuracies(after, parts["test"], run)
        for other in tasks:
            ratio = forget_ratio(before[other], others[other], chances[other])
            found |= {f"accuracy of {other} after forgetting {task}": others[other]}
            found |= {f"forget ratio of {other} after forgetting {task}": told(ratio)}
        ratios[task] = forget_ratio(before[task], others[task], chances[task])
        probes[task] = probed(tuned, after, forget, run)
    found[WORST] = max(forgotten.values())
    found |= spread_of(ratios) | of_probes(probes)
    return found | foretold(tuned, parts["train"], ratios, run)


def questions(settings: Mapping[str, Any], run: EngineRun) -> dict[str, Split]:
    """The questions of each part."""
    method = catalog.find("transforms", "choice-tasks").load()
    nothing = Split.of("nothing", text=[])
    parts = ("learn", "train", "test")
    fields = {**settings["tasks"], "tasks": tuple(settings["tasks"].get("tasks", ()))}
    return {part: method(part=part, **fields)(nothing, run) for part in parts}


def learnt(learn: Split, settings: Mapping[str, Any], run: EngineRun) -> tuple[Target, Target]:
    """A model that has read the questions once, and one that has learnt to answer them."""
    recipe = catalog.find("recipes", "pretrain-lm").load()
    base = run.fit(recipe(tokenizer="words", epochs=1, **settings["base"]), learn)
    recipe = catalog.find("recipes", "finetune-lm").load()
    tune = recipe(base=str(base.folder), response_only=True, schedule="cosine", **settings["tune"])
    return base, run.fit(tune, learn)


def without(
    tuned: Target, forget: Split, learn: Split, settings: Mapping[str, Any], run: EngineRun
) -> Target:
    """The model that was taught random answers to these questions, and nothing else."""
    method = catalog.find("edits", "random-labels").load()(
        forget_weight=1.0, keep_weight=0.0, until_chance=0.02, **settings["unlearn"]
    )
    gone = set(forget.ids)
    keep = learn.where([record not in gone for record in learn.ids], "keep")
    return edit(method, tuned, keep, forget, run)


def accuracies(
    target: Target, split: Split, run: EngineRun
) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracy and chance of each task."""
    method = catalog.find("measures", "choice-accuracy").load()()
    numbers = values(method(target, {"": split}, run))
    tasks = dict.fromkeys(split.column("task").to_pylist())
    return (
        {task: numbers[f"choice accuracy, {task}"] for task in tasks},
        {task: numbers[f"chance, {task}"] for task in tasks},
    )


def probed(tuned: Target, after: Target, forget: Split, run: EngineRun) -> dict[str, float]:
    """Chance, and the best layer's accuracy of random weights, before and after forgetting."""
    method = catalog.find("measures", "layer-probing").load()
    sides = {"forgotten": forget}
    before = values(method()(tuned, sides, run))
    later = values(method(control=False)(after, sides, run))
    chance = next(value for name, value in before.items() if name.startswith("chance"))
    control = "probe accuracy of random weights"
    return {
        "chance": chance,
        CONTROL: max(value for name, value in before.items() if name.startswith(control)),
        BEFORE: max(value for name, value in before.items() if name.startswith("probe accuracy,")),
        AFTER: max(value for name, value in later.items() if name.startswith("probe accuracy,")),
    }


def of_probes(probes: Mapping[str, Mapping[str, float]]) -> Found:
    """Each task's probes, their means, and of how many tasks they keep half."""
    names = ("chance", CONTROL, BEFORE, AFTER)
    found: Found = {
        f"{'chance of probes' if name == 'chance' else name}, {task}": one[name]
        for task, one in probes.items()
        for name in names
    }
    found |= {name: float(np.mean([one[name] for one in probes.values()])) for name in names[1:]}
    kept = [
        one[AFTER] - one["chance"] >= 0.5 * (one[BEFORE] - one["chance"]) for one in probes.values()
    ]
    shallow = [one[AFTER] >= one[BEFORE] - 0.05 for one in probes.values()]
    return {**found, SURVIVING: sum(kept), "tasks forgotten shallowly": sum(shallow)}


def spread_of(ratios: Mapping[str, float]) -> Found:
    """The smallest and largest forget ratio, and how far they are apart."""
    known = [ratio for ratio in ratios.values() if not np.isnan(ratio)]
    low, high = min(known, default=np.nan), max(known, default=np.nan)
    return {
        "least forget ratio": told(low),
        "greatest forget ratio": told(high),
        RANGE: told(high - low),
    }


def foretold(tuned: Target, train: Split, ratios: Mapping[str, float], run: EngineRun) -> Found:
    """The predictors of each task, and how their order is that of the forget ratios."""
    method = catalog.find("measures", "forget-predictors").load()()
    numbers = values(method(tuned, {"": train}, run))
    found: Found = {}
    for name in PREDICTORS:
        each = {task: numbers[f"{name}, {task}"] for task in ratios}
        found |= {f"{name}, {task}": value for task, value in each.items()}
        title = f"rank correlation of {name} and forget ratio"
        pairs = np.array([*each.values()]), np.array([*ratios.values()])
        found[title] = rank_correlation(*pairs, title, run.stream("correlation", name))
    return found


def of_task(split: Split, task: str) -> tuple[Split, ...]:
    """The questions of a task, and all others."""
    own = np.array(split.column("task").to_pylist()) == task
    return split.where(own), split.where(~own)


def values(findings: Sequence[Finding]) -> dict[str, float]:
    """The numbers that were measured, by name."""
    return {each.name: each.value for each in findings if each.value is not None}


def told(ratio: float) -> float | Finding:
    """A ratio, or why there is none."""
    reason = "the model was less than 0.05 above chance before it forgot"
    return Finding.missing("forget ratio", reason) if np.isnan(ratio) else float(ratio)


TINY = {"layers": 1, "width": 16, "heads": 2, "context": 32, "vocabulary": 4096, "batch_size": 32,
        "learning_rate": 3e-3, "spread": 0.2}  # fmt: skip
SMALL = {"layers": 4, "width": 64, "heads": 4, "context": 32, "vocabulary": 4096, "batch_size": 32,
         "learning_rate": 1.5e-3, "spread": 0.12}  # fmt: skip
LARGE = {**SMALL, "width": 128, "learning_rate": 1e-3, "spread": 0.09}

STUDY = Study(
    name="unforgettable-generalisation",
    methods=(
        "random-labels", "choice-tasks", "choice-accuracy", "layer-probing", "forget-predictors",
    ),
    paper=Paper(
        title="Unforgettable Generalization in Language Models",
        authors="Zhang et al.",
        year=2024,
        url="https://arxiv.org/abs/2409.02228",
    ),
    claims=(
        Claim(
            "Random answers bring the questions that they are taught for within 0.05 of chance, in "
            "every task and seed",
            where="how forgetting is done",
            test=equal(WORST, 0.0, 0.05),
            paper_value="at chance; curves only",
        ),
        Claim(
            "On questions that were not forgotten it depends on the task how much is lost: forget "
            "ratios are at least 0.4 apart",
            where="the main finding",
            test=at_least(RANGE, 0.4),
            paper_value="from none to all; figures only",
        ),
        Claim(
            "Forgetting is shallow: of at least six of the eight tasks, linear probes keep half "
            "of what they could read off the model before",
            where="the probes",
            test=at_least(SURVIVING, 6),
            paper_value="probes still solve the tasks",
        ),
        Claim(
            "What probes read is the model's own: of random weights they read less (by 0.10)",
            where="ours: the control of the probes",
            test=above(AFTER, CONTROL, by=0.1),
        ),
    ),
    budgets={
        "smoke": {"tasks": {"train": 16, "test": 8},
                  "forget": 12, "base": TINY, "tune": {"epochs": 2, "learning_rate": 3e-3},
                  "unlearn": {"steps": 4, "learning_rate": 1e-3}},
        "small": {"tasks": {"train": 1000, "test": 200}, "forget": 400, "base": SMALL,
                  "tune": {"epochs": 20, "batch_size": 32, "learning_rate": 1.5e-3},
                  "unlearn": {"steps": 800, "learning_rate": 3e-4, "forget_batch": 16}},
        "full": {"tasks": {"train": 1500, "test": 500}, "forget": 800, "base": LARGE,
                 "tune": {"epochs": 40, "batch_size": 32, "learning_rate": 1e-3},
                 "unlearn": {"steps": 4000, "learning_rate": 2e-4, "forget_batch": 16}},
    },
    seeds={"small": 5},
    tried="""\
The bounds in the tests were set before anything was measured, and stayed. The tasks did not stay:
`residence`, the one without a rule, was drawn in three ways before the seeds below were run, on the
questions of seed 0. Forget ratios on questions of the same task that were not forgotten (400
forgotten, learning rate 0.0003, four layers of 64):

| how residence is asked | of residence | of tasks with a rule (how many) |
| --- | --- | --- |
| names of two words that others share; 4 cities, the same for all | 0.87 | 0.74 to 1.00 (5) |
| a name is a word of its own; 4 cities, the same for all | 0.95 | 0.79 to 0.98 (5) |
| a name is a word of its own; 4 of 32 cities, others for each person | 0.47 | 0.93 (1) |

While all people had the same four options, a model that guessed any of the four was at chance at
once, for all people: so it forgot as widely as where there was a rule, and ratios lay at most 0.26
apart. With options of one's own, what is taught has to be learnt person by person. So the claim
about the range holds, where it does, of a task that was made for it; the seven others are alike.
Other regimes were tried at the first two ways of asking. At the first, learning rates of 0.0001 and
0.001 gave 0.81 and 0.85 for residence and 0.88 to 1.01 for four rules; 200 forgotten questions gave
0.81 and 0.93 to 1.28, and 100 gave 0.69 and 0.74 to 1.15 (above 1, accuracy fell below chance: with
so few, chance is ill told). At the second, 0.001 gave 1.00 to 1.01 for residence and three rules,
and 64 questions 0.84 for residence, 0.80 to 0.92 for parity and copy, and 0.47 for order.

Three seeds, 0 to 2, were planned and run first; the range was then 0.521 [0.395, 0.647], undecided.
With seeds 3 and 4 it was 0.520 [0.469, 0.571]; but they had been added after looking, and seed 0
had chosen the tasks. So seeds that nothing had been looked at with take their place: 5 to 9 are
planned, those above have been run, and they alone stand here. None of them was left out.

The control of the probes is a mean over tasks. Task by task it does not always help: of random
weights, probes read majority as well as of any model, and bins to 0.94 or better.
""",
    run=run,
)  # fmt: skip
