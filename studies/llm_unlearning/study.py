"""Do unlearners remove what a language model knows, or only keep it from saying so?

Made-up people have four facts each, and each fact is told in several wordings. A base model learns
the wordings from other people; the target is fine-tuned on all the people's facts, each in some of
the wordings. A tenth of the people ask to be forgotten. Every unlearner is given their records and
those of all others, told where to stop by people whom no model saw, and judged beside a model that
was fine-tuned without the forgotten from the beginning: is the question still answered; are the
others' still; and what does the battery of `residual-knowledge` find that the answers do not show?

The control is a model trained again with the target's own seed. "retrain" as a method is trained
with another one, so that what it differs from the control by is what training itself varies by.

Differs from the paper: it has no experiment of its own; the claims are those that follow from its
distinction of removal and suppression, at the size of a model that can be trained many times.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from engram import catalog
from engram.core import Finding, Paper, Split, Target
from engram.engine import EngineRun
from engram.engine.study import Claim, Study, above, equal
from engram.engine.train import edit
from engram.families.causal_lm import FAMILY
from engram.parts.biographies.people import people
from engram.parts.biographies.sentences import limited_templates, spoken
from engram.parts.unlearning import mean_loss

FIELDS = ("birth_city", "university", "major", "employer")
ENDING = "{value}."
TRIO = ("gradient-ascent", "npo", "rmu")
GRADIENT = (*TRIO, "gradient-difference", "kl-ascent", "simnpo", "undial", "wga", "satimp")
"""The gradient methods that the claims on relearning are about."""
RELEARNING = tuple(f"relearning from {what}" for what in ("a few", "kept records", "all"))
GUARD, WHP, AGAIN = "guardrail", "whp", "retrain"
BEHAVED = 0.8
"""Least behavioural forgetting, and least share of the original's accuracy on the kept."""


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> dict[str, float | Finding]:
    """Forgetting, utility, index and relearning of every unlearner, for one seed."""
    world = told(settings, run)
    base = run.fit(pretraining(settings, world, run), world["others"])
    recipe = catalog.find("recipes", "finetune-lm").load()(
        base=str(base.folder), response_only=True, **settings["tune"]
    )
    sides = Sides(world, recipe, run)
    found: dict[str, float | Finding] = {
        "accuracy on the forgotten, before": right(sides.before, world["forget"], run),
        "accuracy on the forgotten, never seen": right(sides.never, world["forget"], run),
        "accuracy on the kept, before": right(sides.before, sides.sample, run),
    }
    known = found["accuracy on the forgotten, before"].value or float("nan")
    rows: dict[str, dict[str, float | None]] = {}
    for name, fields in settings["methods"].items():
        run.progress(len(rows), len(settings["methods"]), "unlearners")
        file = run.scratch / f"{name}.json"
        if file.is_file():  # a killed seed does not do it again
            made = {k: Finding(**v) for k, v in json.loads(file.read_text("utf-8")).items()}
        else:
            made = judged(name, fields, sides, settings, run)
            run.scratch.mkdir(parents=True, exist_ok=True)
            plain = json.dumps({k: v.to_json() for k, v in made.items()})
            file.write_text(plain, "utf-8")
        rows[name] = {what: finding.value for what, finding in made.items()}
        found |= {f"{what} of {name}": finding for what, finding in made.items()}
    found |= summed(rows, known)
    reason = "this budget has not got that unlearner"
    return {**{name: Finding.missing(name, reason) for name in STUDY.names}, **found}


class Sides:
    """The models that everything is compared with, and the records of all sides."""

    def __init__(self, world: Mapping[str, Split], recipe: Any, run: EngineRun) -> None:
        self.world = world
        self.before = run.fit(recipe, world["kept"].joined(world["forget"], "all"))
        self.never = run.fit(recipe, world["kept"])
        self.again = run.fit(recipe, world["kept"], "again")
        names = sorted(set(world["kept"].owners or ()))
        some = set(names[:: max(1, len(names) // 40)])
        self.sample = world["kept"].where([o in some for o in world["kept"].owners or ()], "kept")


def told(settings: Mapping[str, Any], run: EngineRun) -> dict[str, Split]:
    """Facts of four groups of people: others (for the base), kept, forget, outsiders."""
    counts = settings["people"]
    made = people(sum(counts.values()), run.stream("people"), values=settings["values"])
    wordings = {
        field: [t for t in limited_templates(field, 0) if t.endswith(ENDING)] for field in FIELDS
    }
    rng = run.stream("wordings")
    wordings = {
        field: [found[i] for i in rng.permutation(len(found))[: settings["wordings"]]]
        for field, found in wordings.items()
    }
    groups, first = {}, 0
    for group, count in counts.items():
        group_of = made[first : first + count]
        rows = [row for one in group_of for row in facts(one, wordings, settings["told"], rng)]
        names = ("prompt", "response", "text", "owner", "field")
        columns = {name: pa.array([row[name] for row in rows], pa.string()) for name in names}
        columns["rephrased"] = pa.array([row["rephrased"] for row in rows], pa.list_(pa.string()))
        columns["id"] = pa.array([row["id"] for row in rows], pa.string())
        groups[group] = Split.from_table(group, pa.table(columns))
        first += count
    return groups


def facts(
    person: Any,
    wordings: Mapping[str, list[str]],
    told: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """One record a field and wording that is told; the others are what it is reworded as."""
    rows = []
    for field, templates in wordings.items():
        order = rng.permutation(len(templates)).tolist()
        prompts = [prompt_of(template, person) for template in templates]
        shown, hidden = order[:told], order[told:]
        for number in shown:
            rows.append(
                {
                    "id": f"{person.owner}-{field}-{number}",
                    "owner": person.owner,
                    "field": field,
                    "prompt": prompts[number],
                    "response": f" {person.values[field]}",
                    "text": f"{prompts[number]} {person.values[field]}",
                    "rephrased": [prompts[other] for other in hidden],
                }
            )
    return rows


def prompt_of(template: str, person: Any) -> str:
    """A wording up to the value, with the full name wherever the person is mentioned."""
    return spoken(template.removesuffix(ENDING), person, "", full=9).rstrip()


def pretraining(settings: Mapping[str, Any], world: Mapping[str, Split], run: EngineRun) -> Any:
    """The base's recipe; its tokenizer knows everybody's words, which the base never reads."""
    lexicon = run.scratch / "lexicon.jsonl"
    run.scratch.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"text": text}) for side in world.values() for text in side.texts]
    lexicon.write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = catalog.find("recipes", "pretrain-lm").load()
    return recipe(tokenizer="words", lexicon=str(lexicon), **settings["base"])


def right(target: Target, split: Split, run: EngineRun) -> Finding:
    """Share of questions that are answered whole."""
    measure = catalog.find("measures", "residual-knowledge").load()()
    return measure.answered(target, split, run)


def judged(
    name: str,
    fields: Mapping[str, Any],
    sides: Sides,
    settings: Mapping[str, Any],
    run: EngineRun,
) -> dict[str, Finding]:
    """What one unlearner leaves."""
    world = sides.world
    if name == AGAIN:
        target = sides.again
    else:
        method = catalog.find("edits", name).load()(**fields)
        if getattr(method, "stop_at", 0.0) is None:
            unseen = mean_loss(sides.before, FAMILY, world["outsiders"], run)
            method = replace(method, stop_at=unseen)
        target = edit(method, sides.before, world["kept"], world["forget"], run)
    measure = catalog.find("measures", "residual-knowledge").load()(
        original=str(sides.before.folder), retrained=str(sides.never.folder), **settings["battery"]
    )
    splits = {"forgotten": world["forget"], "members": world["kept"]}
    made = {finding.name: finding for finding in measure(target, splits, run)}
    known = right(sides.before, sides.sample, run).value or 1.0
    kept = right(target, sides.sample, run)
    privacy = catalog.find("measures", "forgotten-privacy").load()(
        retrained=str(sides.never.folder)
    )
    gap = privacy(target, {**splits, "outsiders": world["outsiders"]}, run)[0]
    return {
        **made,
        "accuracy on the forgotten": right(target, world["forget"], run),
        "utility": Finding.exact("utility", (kept.value or 0.0) / known, kept.n),
        "privacy gap": gap,
    }


def summed(rows: Mapping[str, Mapping[str, float | None]], before: float) -> dict[str, float]:
    """What the claims are about, over all unlearners of one seed.

    Behaviour is judged by 1 - a_m / a_o: the share of questions answered, beside the original's.
    """

    def number(name: str, what: str) -> float:
        value = rows.get(name, {}).get(what)
        return float("nan") if value is None else float(value)

    def forgotten(name: str) -> float:
        return 1 - number(name, "accuracy on the forgotten") / before

    both = [
        name
        for name in rows
        if name != AGAIN and forgotten(name) >= BEHAVED and number(name, "utility") >= BEHAVED
    ]
    soon = [
        name
        for name in GRADIENT
        if forgotten(name) >= BEHAVED and max(number(name, way) for way in RELEARNING) >= 0.5
    ]
    index = "suppression index"
    return {
        EIGHT: float(len(both) >= 8),
        COUNT: float(len(both)),
        REMOVED: float(forgotten(AGAIN) >= BEHAVED and number(AGAIN, index) <= 0.1),
        **{
            f"{name} suppresses": float(forgotten(name) >= BEHAVED and number(name, index) > 0.2)
            for name in (GUARD, WHP)
            if name in rows
        },
        SOON: float(len(soon) >= 2),
        SOON_TRIO: float(len(set(soon) & set(TRIO)) >= 2),
        "gradient methods that relearn in half the steps": float(len(soon)),
    }


EIGHT = "eight unlearners forget and stay useful"
COUNT = "unlearners that forget and stay useful"
REMOVED = "retraining removes, with an index of at most 0.1"
SOON = "two gradient methods relearn in half the steps"
SOON_TRIO = "two of gradient ascent, NPO and RMU do"
INDEX = "suppression index of {}"
BATTERY = {"most": 160, "most_kept": 800, "steps": 90, "every": 2, "learning_rate": 2e-4}
KEPT = {"keep_weight": 1.0, "forget_batch": 16, "keep_batch": 32, "steps": 300}
PUSHED = {**KEPT, "forget_weight": 5.0, "learning_rate": 5e-4}

STUDY = Study(
    name="llm-unlearning",
    methods=(
        "gradient-ascent", "gradient-difference", "kl-ascent", "npo", "simnpo", "rmu", "wga",
        "satimp", "undial", "whp", "idk", "random-labels", "guardrail", "retrain",
        "residual-knowledge",
    ),
    paper=Paper(
        title="SoK: Machine Unlearning for Large Language Models",
        authors="Ren et al.",
        year=2025,
        url="https://arxiv.org/abs/2506.09227",
    ),
    claims=(
        Claim(
            "At least eight unlearners forget (0.8) and keep 0.8 of the usefulness",
            where="presupposed: behaviour alone does not tell removal from suppression",
            test=equal(EIGHT, 1, 0),
        ),
        Claim(
            "Training again without the records removes them, for every seed",
            where="the distinction of removal and suppression",
            test=equal(REMOVED, 1, 0),
        ),
        Claim(
            "A guardrail suppresses, for every seed",
            where="the same",
            test=equal(f"{GUARD} suppresses", 1, 0),
        ),
        Claim(
            "Logits of a reinforced model (WHP) suppress, for every seed",
            where="the same",
            test=equal(f"{WHP} suppresses", 1, 0),
        ),
        Claim(
            "At least two gradient methods that forgot relearn in half the steps that it takes a "
            "model that never knew",
            where="the discussion of relearning",
            test=equal(SOON, 1, 0),
        ),
        Claim(
            "Two of them are among gradient ascent, NPO and RMU",
            where="the same",
            test=equal(SOON_TRIO, 1, 0),
        ),
        Claim(
            "The guardrail leaves more than NPO does",
            where="the order of the index",
            test=above(INDEX.format(GUARD), INDEX.format("npo")),
        ),
        Claim(
            "The guardrail leaves more than RMU does",
            where="the order of the index",
            test=above(INDEX.format(GUARD), INDEX.format("rmu")),
        ),
        Claim(
            "NPO leaves more than training again",
            where="the order of the index",
            test=above(INDEX.format("npo"), INDEX.format(AGAIN)),
        ),
        Claim(
            "RMU leaves more than training again",
            where="the order of the index",
            test=above(INDEX.format("rmu"), INDEX.format(AGAIN)),
        ),
    ),
    budgets={
        "smoke": {
            "people": {"others": 6, "kept": 8, "forget": 4, "outsiders": 4},
            "values": 4, "wordings": 2, "told": 1,
            "base": {"layers": 1, "width": 16, "heads": 2, "context": 32, "epochs": 1},
            "tune": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3},
            "battery": {"steps": 2, "most": 8, "most_kept": 16},
            "methods": {"npo": {"steps": 2}, "guardrail": {}, "retrain": {}},
        },
        "small": {
            "people": {"others": 200, "kept": 360, "forget": 40, "outsiders": 40},
            "values": 20, "wordings": 4, "told": 2,
            "base": {"layers": 4, "width": 96, "heads": 4, "context": 48, "spread": 0.1,
                     "epochs": 6, "batch_size": 16, "learning_rate": 3e-3},
            "tune": {"epochs": 20, "batch_size": 32, "learning_rate": 3e-3},
            "battery": BATTERY,
            "methods": {
                "gradient-ascent": {"learning_rate": 3e-4},
                "gradient-difference": {**KEPT, "forget_weight": 1.0, "learning_rate": 3e-4},
                "kl-ascent": {**KEPT, "steps": 400, "forget_weight": 3.0, "learning_rate": 3e-4},
                "npo": {**KEPT, "forget_weight": 1.5, "learning_rate": 3e-4},
                "simnpo": PUSHED,
                "idk": {**KEPT, "steps": 150},
                "rmu": {"forget_batch": 16, "keep_batch": 32, "steps": 500, "layer": 2,
                        "learning_rate": 3e-3, "coefficient": 50.0, "keep_weight": 130.0},
                "undial": PUSHED,
                "wga": PUSHED,
                "satimp": PUSHED,
                "whp": {**KEPT, "steps": 200, "forget_weight": 3.0, "learning_rate": 3e-4,
                        "reinforce_steps": 150, "alpha": 30.0},
                "random-labels": PUSHED,
                "guardrail": {},
                "retrain": {},
            },
        },
    },
    tried="""\
Every unlearner's strength was looked for by hand on seed 0, by two numbers alone: the share of
forgotten and of kept questions that are still answered. Its defaults, which suit records that were
seen a few times, are too weak here: each fact is known with certainty. DPO (weights to 20, beta to
0.5) and activation steering forgot nothing at all; rank-one editing took what was kept along (0.08
left); task vectors too (0.56 kept where 0.26 of the forgotten were left). They are not in the plan.

Gradient ascent at a learning rate of 1e-4, which it had in a first run of all three seeds, kept
0.96 of the kept answers, but 0.84 of the forgotten ones as well, and the first wording of the claim
on relearning counted it although there was nothing to relearn. Since then a method has to have
forgotten to be counted, and gradient ascent goes at 3e-4.

Relearning from all forgotten questions was a part of the index at first. Two models that were
trained without the records differ by a tenth or so in it (74 and 87 steps), by their seeds alone;
so it is told beside the index now, and the claims on relearning go by it.
""",
    run=run,
)  # fmt: skip
