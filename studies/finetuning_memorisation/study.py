"""Does it matter for memorisation which weights are fine-tuned, at equal usefulness?

A small base is trained on news and on abstracts of medical papers. Each method tunes it on other
abstracts and on two made-up secrets, each planted 25 times; the three that are compared, at two
learning rates each. After every epoch two attacks look at it: how many members a likelihood ratio
against the base recalls where it accuses one outsider in ten, and how exposed the secrets are.
Beside them stands the perplexity on abstracts that the model never saw.

A method is never compared at equal epochs or at an equal learning rate (adapters learn slowly), but
at equal perplexity: of each method the learning rate that reaches the lowest perplexity is taken,
and its curve is read where it comes down to the perplexity that all of head, full and adapter-16
reach. The curve is read a second time where it passes that perplexity again, on the way up, or at
its last epoch where it does not.

One seed draws anew which abstracts are members, outsiders and validation records, the secrets and
all new weights. All seeds share one base. Abstracts are cut to their first 48 tokens, and no two
of them share eight words in a row.

Differs from the paper: a model of two layers instead of GPT-2; 200 texts instead of Wikipedia,
Penn Treebank and Enron; texts are not packed into blocks; the secret's exposure is the mean of
two; the threshold of the attack is set on outsiders that are not the validation records.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from engram import catalog, data
from engram.core import EngramError, Paper, Split, Target
from engram.engine import EngineRun
from engram.engine.study import Claim, Study, above, all_of
from engram.families.causal_lm import FAMILY
from engram.parts.lm_tuning import tune
from engram.parts.observation import observations

GATED = ("full", "head", "adapter-16")
"""Methods that are compared at one perplexity."""
FPR = 0.1
RECALL, EXPOSURE, PERPLEXITY = "recall", "exposure", "perplexity"
MATCHED = "at the matched perplexity"
WORSE = "of the worse of head and full"

Curve = Sequence[Mapping[str, float]]


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Perplexity, recall and exposure of every method, at its best, at its last, and matched."""
    base = public_base(replace(run, seed=0), settings)
    parts = private_parts(base, settings, run)
    plant = catalog.find("transforms", "plant-canaries").load()
    secrets = {"count": settings["secrets"], "repeats": (settings["copies"],), "digits": 6}
    members = plant(**secrets)(parts["members"], run)
    curves: dict[str, Curve] = {}
    for name, each in settings["methods"].items():
        tried = [
            trained(base, members, parts, {**each["fields"], "learning_rate": rate}, settings, run)
            for rate in each["rates"]
        ]
        curves[name] = min(tried, key=lambda c: min(e[PERPLEXITY] for e in c))
    return numbers(curves)


def public_base(run: EngineRun, settings: Mapping[str, Any]) -> Target:
    """The base: trained once for all seeds."""
    news = data.read(settings["public"])
    rows = run.stream("public").permutation(len(news))[: settings["public_records"]]
    field = public_rows(data.read(settings["private"]), settings)
    texts = [*news.take(np.sort(rows)).texts, *field.texts]
    recipe = catalog.find("recipes", "pretrain-lm").load()(**settings["base"])
    return run.fit(recipe, Split.of("public", text=texts))


def public_rows(private: Split, settings: Mapping[str, Any]) -> Split:
    """The texts of the private field that the base may know: the first ones, the same always."""
    return private.take(range(settings["same_field"]), "public")


def private_parts(base: Target, settings: Mapping[str, Any], run: EngineRun) -> dict[str, Split]:
    """Members, outsiders and validation records: disjoint, drawn from the private texts."""
    private = data.read(settings["private"])
    rest = private.take(range(settings["same_field"], len(private)), "private")
    texts = chunks(rest, base, settings["tokens"], settings["gram"])
    order, first, found = run.stream("parts").permutation(len(texts)), 0, {}
    if len(texts) < sum(settings["each"].values()):
        raise EngramError(
            f"{settings['private']} gives {len(texts)} texts that are long and unlike enough",
            hint=f"{sum(settings['each'].values())} are needed",
        )
    for name, count in settings["each"].items():
        rows = order[first : first + count]
        found[name] = Split.of(name, text=[texts[i] for i in rows])
        first += count
    return found


def chunks(split: Split, base: Target, tokens: int, gram: int) -> list[str]:
    """The first words of each text, of at most `tokens` tokens; none like an earlier one."""
    kept, seen = [], set[tuple[str, ...]]()
    for text in (" ".join(each.split()) for each in split.texts):
        spans = base.model.tokenizer(text, return_offsets_mapping=True, verbose=False)
        ends = [end for _, end in spans["offset_mapping"]]
        if len(ends) <= tokens:
            continue
        cut = text[: ends[tokens]].rpartition(" ")[0]
        words = cut.lower().split()
        grams = {tuple(words[i : i + gram]) for i in range(len(words) - gram + 1)}
        if grams and not grams & seen:
            seen |= grams
            kept.append(cut)
    return kept


@dataclass(frozen=True, eq=False)
class Watch:
    """Attacks a model while it trains, and never stops it."""

    parts: Mapping[str, Split]
    canaries: Split
    reference: Mapping[str, np.ndarray]
    samples: int
    run: EngineRun
    name: str

    def look(self, lm: Any, step: int, epoch: float) -> Mapping[str, float]:
        """Perplexity of what it never saw, recall at one false alarm in ten, exposure."""
        nll, counts = FAMILY.totals(lm, self.parts["validation"])
        loss = {name: FAMILY.losses(lm, self.parts[name]) for name in self.reference}
        ratio = {name: loss[name] - self.reference[name] for name in loss}
        return {
            PERPLEXITY: float(np.exp(nll.sum() / counts.sum())),
            RECALL: recall(ratio["members"], ratio["outsiders"]),
            "recall without the base": recall(loss["members"], loss["outsiders"]),
            EXPOSURE: self.exposure(lm, step),
        }

    def exposure(self, lm: Any, step: int) -> float:
        """Mean over the secrets, in bits."""
        measure = catalog.find("measures", "exposure").load()(samples=self.samples)
        target = Target("watched", "causal-lm", lm, f"{self.name}-{step}")
        found = measure(target, {"members": self.canaries}, self.run)
        return float(next(f.value for f in found if f.name == "mean exposure"))

    def stop(self, trace: Curve) -> bool:
        """Never."""
        return False

    def best(self, trace: Curve) -> int | None:
        """The last weights are as good as any: nobody uses them."""
        return None


def recall(members: np.ndarray, outsiders: np.ndarray) -> float:
    """Share of members below the lowest tenth of outsiders; ties are not below."""
    threshold = np.sort(outsiders)[int(FPR * len(outsiders))]
    return float(np.mean(members < threshold))


def trained(
    base: Target,
    members: Split,
    parts: Mapping[str, Split],
    fields: Mapping[str, Any],
    settings: Mapping[str, Any],
    run: EngineRun,
) -> Curve:
    """The observations of one training, the base's own first."""
    name = "-".join(f"{k}={v}" for k, v in sorted(fields.items()))
    watch = Watch(
        parts,
        members.where(members.canaries),
        {part: FAMILY.losses(base.model, parts[part]) for part in ("members", "outsiders")},
        settings["samples"],
        run,
        f"{name}-{run.seed}-{members.fingerprint}",
    )

    class Watched(catalog.find("recipes", "finetune-lm").load()):
        def monitor(self, lm: Any, split: Split, run: EngineRun) -> Watch:
            return watch

    recipe = Watched(base=str(base.folder), **settings["tune"], **fields)
    draft = tune(recipe, members, replace(run, scratch=run.scratch / name))
    return observations(draft.trace)


def numbers(curves: Mapping[str, Curve]) -> dict[str, float]:
    """What the claims are about."""
    found: dict[str, float] = {}
    best = {name: int(np.argmin([e[PERPLEXITY] for e in c])) for name, c in curves.items()}
    for name, curve in curves.items():
        for what in (PERPLEXITY, RECALL, EXPOSURE):
            found[f"{what} of {name} at its best"] = curve[best[name]][what]
            found[f"{what} of {name} at its last epoch"] = curve[-1][what]
        found[f"best epoch of {name}"] = float(best[name])
    level = max(curves[name][best[name]][PERPLEXITY] for name in GATED if name in curves)
    found["matched perplexity"] = level
    for name, curve in curves.items():
        if curve[best[name]][PERPLEXITY] > 1.02 * level:
            continue
        for way, part in (
            ("coming down", curve[: best[name] + 1][::-1]),
            ("going up", curve[best[name] :]),
        ):
            for what in (RECALL, EXPOSURE):
                found[f"{what} of {name} at the matched perplexity, {way}"] = read(
                    part, level, what
                )
    for way in ("coming down", "going up"):
        for what in (RECALL, EXPOSURE):
            where = f"{MATCHED}, {way}"
            both = [found[f"{what} of {name} {where}"] for name in ("head", "full")]
            found[f"{what} {WORSE} {where}"] = max(both)
    return found


def read(curve: Curve, level: float, what: str) -> float:
    """A number where the perplexity first reaches `level`, from the best epoch; else the last."""
    for one, other in pairwise(curve):
        low, high = one[PERPLEXITY], other[PERPLEXITY]
        if low <= level <= high:
            share = 0.0 if high == low else (level - low) / (high - low)
            return float(one[what] + share * (other[what] - one[what]))
    return float(curve[0][what] if level <= curve[0][PERPLEXITY] else curve[-1][what])


def method(rates: Sequence[float], **fields: Any) -> dict[str, Any]:
    """One way to fine-tune, and its learning rates."""
    return {"fields": fields, "rates": list(rates)}


METHODS = {
    "full": method((3e-4, 1e-3), method="full"),
    "head": method((1e-3, 3e-3), method="head"),
    "adapter-16": method((1e-3, 3e-3), method="adapter", reduction=16),
    "adapter-2": method((3e-3,), method="adapter", reduction=2),
    "lora": method((3e-3,), method="lora", rank=4),
    "block": method((1e-3,), method="block", block=-1),
}
EVERY = tuple(METHODS)
TINY = {"layers": 1, "width": 32, "heads": 2, "context": 64, "vocabulary": 300, "epochs": 1}
SMALL = {"layers": 2, "width": 96, "heads": 4, "context": 64, "vocabulary": 2048, "epochs": 5}

STUDY = Study(
    name="finetuning-memorisation",
    methods=("finetune-lm", "exposure"),
    paper=Paper(
        title="An Empirical Analysis of Memorization in Fine-tuned Autoregressive Language Models",
        authors="Mireshghallah et al.",
        year=2022,
        url="https://arxiv.org/abs/2205.12506",
    ),
    claims=(
        Claim(
            "Small adapters give fewer members away than head or full fine-tuning, at equal "
            "perplexity",
            where="the comparison of methods",
            test=above(
                f"recall {WORSE} {MATCHED}, coming down",
                f"recall of adapter-16 {MATCHED}, coming down",
                by=0.05,
            ),
            paper_value="full 0.405, head 0.418, adapter-16 0.565 (at other learning rates)",
        ),
        Claim(
            "Small adapters expose planted secrets less, by a bit at least",
            where="the comparison of methods",
            test=above(
                f"exposure {WORSE} {MATCHED}, coming down",
                f"exposure of adapter-16 {MATCHED}, coming down",
                by=1.0,
            ),
            paper_value="head 13.3, full 10.7, adapter-16 15.2 bits (from its logs, unmatched)",
        ),
        Claim(
            "The same of members, where the perplexity rises again",
            where="ours: the second reading of the curves",
            test=above(
                f"recall {WORSE} {MATCHED}, going up",
                f"recall of adapter-16 {MATCHED}, going up",
                by=0.05,
            ),
        ),
        Claim(
            "The same of secrets, where the perplexity rises again",
            where="ours: the second reading of the curves",
            test=above(
                f"exposure {WORSE} {MATCHED}, going up",
                f"exposure of adapter-16 {MATCHED}, going up",
                by=1.0,
            ),
        ),
        Claim(
            "Training on after the best perplexity gives more members away, by every method",
            where="the phases of training",
            test=all_of(
                *(
                    above(f"recall of {name} at its last epoch", f"recall of {name} at its best")
                    for name in EVERY
                )
            ),
        ),
        Claim(
            "Head fine-tuning gives more members away than full fine-tuning",
            where="the comparison of methods",
            test=above(
                f"recall of head {MATCHED}, coming down", f"recall of full {MATCHED}, coming down"
            ),
            paper_value="0.418 against 0.405",
        ),
    ),
    budgets={
        "smoke": {
            "public": "demo:letters?n=40&seed=1", "public_records": 40, "same_field": 40,
            "private": "demo:letters?n=120&seed=2", "base": TINY, "tokens": 40, "gram": 6,
            "each": {"members": 12, "outsiders": 12, "validation": 8},
            "secrets": 1, "copies": 3, "samples": 100,
            "methods": {k: {**m, "rates": m["rates"][:1]} for k, m in METHODS.items()},
            "tune": {"epochs": 1, "batch_size": 8},
        },
        "small": {
            "public": "ag-news", "public_records": 1000, "private": "medical-abstracts",
            "same_field": 300, "base": {**SMALL, "batch_size": 16, "learning_rate": 2e-3},
            "tokens": 48, "gram": 8,
            "each": {"members": 200, "outsiders": 200, "validation": 120},
            "secrets": 2, "copies": 25, "samples": 300, "methods": METHODS,
            "tune": {"epochs": 12, "batch_size": 16, "schedule": "constant"},
        },
    },
    tried="""\
The bounds of the claims were set before anything was measured. Three bases were looked at, with
seed 0, which is one of the study's seeds too; what follows was seen there.

A base of news alone (2,000 articles, 5 epochs) was too far from the field: adapter-16 came down to
a perplexity of 255 only, which full and head tuning passed within their first epoch (best 123 and
151), so that there was nothing to compare. A base that knew 1,700 abstracts of the field was too
near: its perplexity, 45, rose from the first epoch on with every method. The base of the small
budget knows 300 abstracts. There, at learning rates of 0.003 and 0.01, adapter-16 did not get
better than the base either (112), and smaller rates were chosen for it: 0.001 and 0.003.

How a curve is read matters as much as the regime. On the way down most methods have hardly seen
the secrets; on the way up full and head tuning have learnt them by heart while their perplexity is
still that of an adapter at its best. Both readings stand in the table.
""",
    run=run,
)  # fmt: skip
