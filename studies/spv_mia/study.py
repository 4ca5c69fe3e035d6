"""Does a model that the target taught itself help to tell the target's members from outsiders?

A public base is trained on news and fine-tuned on 500 abstracts of medical papers, for so few
epochs that its losses alone tell members from outsiders with an AUC of about 0.7. The attack of
the paper asks the target to write on from the beginnings of 500 other abstracts, tunes the base
on what it wrote, and compares both models: how much likelier is a text than its paraphrases?
Beside it stand all parts of the attack on their own, other references, and the attacks that need
no reference at all.

One seed draws anew which abstracts are members, outsiders, prompts and candidates, and trains its
own models from one base, which all seeds share. Abstracts are cut to their first 62 tokens, and no
two of them share eight words in a row.

Differs from the paper: models of 1.3 million weights instead of 0.1 to 7 billion; 500 texts to
learn from instead of 10,000; all weights are tuned instead of low-rank changes; spans are filled
by a small masked model trained on the news instead of T5.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from engram import catalog, data
from engram.core import EngramError, Finding, Paper, Split, Target
from engram.engine import EngineRun
from engram.engine.study import Claim, Study, above, all_of, mean_at_least, mean_at_most
from engram.stats.roc import auc_value, tpr_at_fpr

FREE = ("loss", "zlib", "min-k", "min-k-plus-plus", "neighbourhood")
"""Attacks that need no other model."""
BEST = "AUC of the best attack without a reference"
SPV, LOG = "AUC of spv-mia", "AUC of spv-mia in log space"
RATIO = "AUC of the log-ratio without variation"
PLAIN = "AUC of the probabilities without variation"


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> dict[str, float | Finding]:
    """The AUC of every attack on one target."""
    base, filler = public_models(replace(run, seed=0), settings)
    parts = private_parts(base, settings, run)
    recipe = _made("recipes", "finetune-lm", base=str(base.folder), **settings["tune"])
    target = run.fit(recipe, parts["members"], "target").sealed()
    half = {**settings["tune"], **settings["candidate"]}
    candidate = run.fit(
        _made("recipes", "finetune-lm", base=str(base.folder), **half), parts["candidates"], "other"
    )
    prompts = run.scratch / "prompts.parquet"
    run.scratch.mkdir(parents=True, exist_ok=True)
    pq.write_table(parts["prompts"].records, prompts)
    common = {"prompts": str(prompts), "model": str(filler.folder), "paraphraser": "mlm"}
    plans = attacks({**common, **settings["spv"]}, str(candidate.folder), settings["public"])
    found = areas(plans, target, parts["members"], parts["outsiders"], settings, run)
    return {**found, BEST: max(found[f"AUC of {name}"] for name in FREE)}


def public_models(run: EngineRun, settings: Mapping[str, Any]) -> tuple[Target, Target]:
    """The base and the masked model that fills spans: trained once for all seeds."""
    news = data.read(settings["public"])
    base = run.fit(_made("recipes", "pretrain-lm", **settings["base"]), news)
    return base, run.fit(_made("recipes", "pretrain-mlm", **settings["filler"]), news)


def private_parts(base: Target, settings: Mapping[str, Any], run: EngineRun) -> dict[str, Split]:
    """Four disjoint parts of the private texts, of `each` records."""
    texts = chunks(data.read(settings["private"]), base, settings["tokens"], settings["gram"])
    order, each = run.stream("parts").permutation(len(texts)), settings["each"]
    names = ("members", "outsiders", "prompts", "candidates")
    if len(texts) < 4 * each:
        raise EngramError(
            f"{settings['private']} gives {len(texts)} texts that are long and unlike enough",
            hint=f"4 times {each} are needed",
        )
    rows = {name: order[k * each : (k + 1) * each] for k, name in enumerate(names)}
    return {name: Split.of(name, text=[texts[i] for i in rows[name]]) for name in names}


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


def with_paraphrases_kept(method: type[Any]) -> type[Any]:
    """The same attack, which makes its paraphrases once for all its variants."""
    made: dict[str, Any] = {}

    class Kept(method):
        def paraphrased(self, target: Target, split: Split, run: EngineRun) -> Any:
            key = f"{self.paraphraser} {split.fingerprint}"
            if key not in made:
                made[key] = super().paraphrased(target, split, run)
            return made[key]

    return Kept


def attacks(spv: Mapping[str, Any], candidate: str, public: str) -> dict[str, Any]:
    """Every attack by the name of its measurement."""
    method = with_paraphrases_kept(catalog.find("attacks", "spv-mia").load())

    def ours(**fields: Any) -> Any:
        return method(**{**spv, **fields})

    log, plain = {"space": "log"}, {"variation": False}
    named = {
        SPV: ours(),
        LOG: ours(**log),
        RATIO: ours(**log, **plain),
        PLAIN: ours(**plain),
        "AUC of spv-mia with the base as reference": ours(reference="base"),
        "AUC of spv-mia in log space with the base as reference": ours(reference="base", **log),
        "AUC of the variation alone": ours(reference="none"),
        "AUC of the variation alone in log space": ours(reference="none", **log),
        "AUC of spv-mia with noise": ours(paraphraser="embedding"),
        "AUC of spv-mia with noise in log space": ours(paraphraser="embedding", **log),
        "AUC of the log-ratio to the base": ours(reference="base", **log, **plain),
        "AUC of the log-ratio to a candidate": ours(reference=candidate, **log, **plain),
        "AUC of the log-ratio without prompts": ours(prompts="none", **log, **plain),
        "AUC of the log-ratio with unrelated prompts": ours(prompts=public, **log, **plain),
    }
    return {**{f"AUC of {name}": _made("attacks", name) for name in FREE}, **named}


def areas(
    plans: Mapping[str, Any],
    target: Target,
    members: Split,
    outsiders: Split,
    settings: Mapping[str, Any],
    run: EngineRun,
) -> dict[str, float | Finding]:
    """The AUC of each attack on the same records, in an order that tells nothing."""
    some = settings["audited"]
    chosen = [part.take(range(some)).texts for part in (members, outsiders)]
    order = run.stream("order").permutation(2 * some)
    records = Split.of("audited", text=[[*chosen[0], *chosen[1]][i] for i in order])
    found: dict[str, float | Finding] = {}
    for done, (name, attack) in enumerate(plans.items()):
        run.progress(done, len(plans), "attacks")
        scores = np.asarray(attack(target, records, run).values, np.float64)
        found[name] = float(auc_value(scores, order < some))
        if name in (SPV, RATIO, "AUC of loss"):
            at = tpr_at_fpr(scores, order < some, 0.01)
            found[name.replace("AUC", "TPR at 1 % FPR")] = at
    return found


def _made(kind: str, name: str, **fields: Any) -> Any:
    return catalog.find(kind, name).load()(**fields)


TINY = {"layers": 1, "width": 32, "heads": 2, "context": 64, "vocabulary": 300, "epochs": 1}
SMALL = {"vocabulary": 4096, "context": 64, "batch_size": 32}

STUDY = Study(
    name="spv-mia",
    methods=("spv-mia", "loss", "zlib", "min-k", "min-k-plus-plus", "neighbourhood"),
    paper=Paper(
        title="Membership Inference Attacks against Fine-tuned Large Language Models via "
        "Self-prompt Calibration",
        authors="Fu et al.",
        year=2024,
        url="https://arxiv.org/abs/2311.06062",
    ),
    claims=(
        Claim(
            "The regime is the paper's: the loss alone has an AUC of about 0.7",
            where="the results of the loss attack",
            test=all_of(
                mean_at_least("AUC of loss", 0.65, refuted=0.5),
                mean_at_most("AUC of loss", 0.75, refuted=0.85),
            ),
            paper_value="about 0.7",
        ),
        Claim(
            "SPV-MIA tells members from outsiders where they are not overfitted",
            where="abstract: AUC raised from 0.7 to 0.9",
            test=mean_at_least(SPV, 0.85, refuted=0.7),
            paper_value="about 0.9",
        ),
        Claim(
            "SPV-MIA is far ahead of every attack that needs no reference",
            where="the main results",
            test=above(SPV, BEST, by=0.15),
        ),
        Claim(
            "A reference that the target taught is better than the base itself",
            where="the ablation of the reference",
            test=above(SPV, "AUC of spv-mia with the base as reference", by=0.05),
        ),
        Claim(
            "Without variation (probabilities compared as they are) the attack is worse",
            where="the ablation of the variation",
            test=above(SPV, PLAIN),
        ),
        Claim(
            "Without calibration the variation alone is worse",
            where="the ablation of the calibration",
            test=above(SPV, "AUC of the variation alone"),
        ),
        Claim(
            "Prompts of another domain still teach a better reference than the base is",
            where="the study of prompt sources",
            test=above(
                "AUC of the log-ratio with unrelated prompts", "AUC of the log-ratio to the base"
            ),
        ),
        Claim(
            "Noise in the embeddings serves better than paraphrases in words (our question)",
            where="ours",
            test=above("AUC of spv-mia with noise", SPV),
        ),
        Claim(
            "The plain log-ratio of target and self-prompt reference, without any paraphrase, "
            "beats the paper's score (our question)",
            where="ours",
            test=above(RATIO, SPV),
        ),
        Claim(
            "That log-ratio tells members from outsiders where they are not overfitted",
            where="ours",
            test=mean_at_least(RATIO, 0.85, refuted=0.7),
        ),
        Claim(
            "That log-ratio is far ahead of every attack that needs no reference",
            where="ours",
            test=above(RATIO, BEST, by=0.15),
        ),
    ),
    budgets={
        "smoke": {
            "public": "demo:letters?n=40&seed=1", "private": "demo:letters?n=120&seed=2",
            "base": TINY, "filler": TINY, "tokens": 40, "gram": 6, "each": 12, "audited": 10,
            "tune": {"epochs": 1, "learning_rate": 1e-3}, "candidate": {"learning_rate": 5e-4},
            "spv": {"prompt_count": 6, "length": 20, "paraphrases": 2},
        },
        "small": {
            "public": "ag-news", "private": "medical-abstracts",
            "base": {**SMALL, "epochs": 8, "learning_rate": 1e-3},
            "filler": {**SMALL, "epochs": 4, "learning_rate": 1e-3},
            "tokens": 62, "gram": 8, "each": 500, "audited": 300,
            "tune": {"epochs": 2, "batch_size": 16, "learning_rate": 5e-4},
            "candidate": {"epochs": 2, "batch_size": 4, "learning_rate": 2.5e-4},
            "spv": {"prompt_count": 500, "length": 62, "paraphrases": 10},
        },
    },
    tried="""\
The bounds of the claims about SPV-MIA (0.85, 0.15, 0.05) were set before anything was measured.
That a masked model fills the spans, as in the paper, was settled after the base had filled them on
another seed (see the table). The number of epochs was chosen by the loss attack alone, which was to
have an AUC of 0.65 to 0.75: with 3 epochs it had 0.77, 0.75 and 0.74 on the three seeds, with 2
epochs 0.70, 0.68 and 0.68. At 3 epochs one seed was measured whole before that: spv-mia 0.860, its
log space 0.799, the best attack without a reference 0.778, the base as reference 0.777, the
log-ratio without variation 0.934. The claims that are called ours were written after other seeds
were seen; the two on the log-ratio's own strength after two of the seeds below.

How spans are filled was tried on another seed (3 epochs, 150 members and 150 outsiders, so that
differences of 0.03 may be chance); the AUC in probability space, and in log space:

| what varies | probability | log |
| --- | --- | --- |
| no variation | 0.866 | 0.928 |
| the base fills spans, share 0.3 | 0.846 | 0.831 |
| the same, share 0.6 | 0.864 | 0.907 |
| the same, share 1, no buffer | 0.865 | 0.917 |
| random tokens, share 0.3 | 0.861 | 0.865 |
| noise of scale 0.1 | 0.902 | 0.890 |
| noise of scale 0.4 | 0.892 | 0.912 |
| noise of scale 1 | 0.874 | 0.935 |

The stronger the paraphrase, the more the variation is like no variation. What we make of it: at the
paper's share most words of a text are in its paraphrases too, and the difference takes away
most of what the target remembers. A better filler than ours may change that; it was not tried.

Beside a pilot of one seed, in which the paper's score had 0.890 (and log space 0.942) at a loss
AUC of 0.669, the learning rates, the reference's epochs, prompts, share of spans and number of
paraphrases are the same. What differs is the text: there the base learnt docstrings of Python's
standard library and the target those of scientific packages, for 3 epochs; the ratio to the base
alone had 0.832, where ours has 0.719; and the filler was weaker. That corpus was built again
(6,298 public and 6,928 private texts), but the training of its base was broken off after 213 of
2,592 steps for want of a free processor, so whether the text is the reason is not known.

The seconds below are those of the clock, on two cores that were busy with other work, and say
little: seed 0 shared the cores with many others, and of seed 2, whose run was broken off once, most
answers were found in the store. A seed takes about 5 minutes of one core. The base (about 20
minutes of one core) and the masked model (about 5) are trained once and kept in the store; they are
not in the seconds.
""",
    run=run,
)  # fmt: skip
