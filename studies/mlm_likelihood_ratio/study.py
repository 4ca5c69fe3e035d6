"""Do masked language models leak more than their loss shows?

A masked language model that went on learning from private texts was thought to keep them to
itself, for its loss hardly tells those texts from others of their kind. The paper compares the
loss with that of a reference, and finds that most of what hides the members is how easy or hard
each text is by itself.

Two kinds of evidence stand here side by side. The authors published the losses of ClinicalBERT
and of their reference on sentences of clinical notes: from these the paper's numbers are computed
again, exactly. And a small model is trained from nothing: a base learns from news and from
abstracts of medical papers; a target goes on from there with other abstracts, each cut into five
records; and both are asked about those records and about records of abstracts that neither saw.
A person is played by an abstract, so results by owner join five records.

All seeds share the base. A seed draws the private and the fresh abstracts, the order and the
masks of the target's training, and the masks of the attack.

Differs from the paper: models of two layers and texts that are not clinical; the reference is the
target's own base and has seen the private domain, though none of the private records.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from engram import catalog, data
from engram.core import EngramError, Finding, Paper, Split, stream
from engram.data.scores import read_scores
from engram.engine import EngineRun
from engram.engine.study import (
    Claim,
    Study,
    above,
    all_of,
    equal,
    mean_at_least,
    mean_at_most,
)
from engram.stats import auc, by_owner, tpr_at_fpr

PARTS = 5
"""Records that a document is cut into."""
RATES = {"10 %": 0.1, "1 %": 0.01, "0.1 %": 0.001}
TIMES = "times the loss attack's TPR at 1 % FPR"

Found = dict[str, float | Finding]


def run(run: EngineRun, settings: Mapping[str, Any], seed: int) -> Found:
    """One seed: the authors' losses, and a target of our own."""
    return {**of_the_authors(run), **of_our_own(run, settings, seed)}


def of_the_authors(run: EngineRun) -> Found:
    """The published losses of ClinicalBERT and its reference, against two kinds of outsiders."""
    found: Found = {}
    for outsiders in ("out", "i2b2"):
        try:
            table = read_scores(f"mlm-clinicalbert-losses?outsiders={outsiders}")
            columns, member = table.columns, table.member
        except EngramError:
            columns, member = {}, np.zeros(0, bool)
        for attack in ("loss", "ratio"):
            name = f"authors' {attack} against {outsiders}"
            found |= rates(name, columns.get(attack), member, run)
    return found


def rates(name: str, scores: Any, member: np.ndarray, run: EngineRun) -> Found:
    """AUC and TPR at the three rates."""
    names = [f"{name}: AUC", *(f"{name}: TPR at {rate} FPR" for rate in RATES)]
    if scores is None:
        reason = "the authors' losses are not here: ENGRAM_DATA has no mlm_clinicalbert_losses"
        return {each: Finding.missing(each, reason) for each in names}
    found = [auc(scores, member, run.stream("auc", name), resamples=100)]
    found += [tpr_at_fpr(scores, member, fpr) for fpr in RATES.values()]
    return {
        each: number if number.value is None else float(number.value)
        for each, number in zip(names, found, strict=True)
    }


def of_our_own(run: EngineRun, settings: Mapping[str, Any], seed: int) -> Found:
    """Train base and target, and attack the target with and without the base."""
    public, documents = texts(settings)
    shared = replace(run, seed=0)  # all seeds go on from the same base
    pretrain = catalog.find("recipes", "pretrain-mlm").load()(**settings["base"])
    base = shared.fit(pretrain, Split.of("public", text=public))
    drawn = stream(seed, "private documents").permutation(len(documents))
    members = records("member", documents, drawn[: settings["members"]])
    rest = drawn[settings["members"] :][: settings["fresh"]]
    outsiders = records("fresh", documents, rest)
    tune = catalog.find("recipes", "finetune-mlm").load()
    target = run.fit(tune(base=str(base.folder), **settings["tune"]), members).sealed()
    both = members.joined(outsiders)
    is_member = np.arange(len(both)) < len(members)
    attack = catalog.find("attacks", "likelihood-ratio").load()(draws=settings["draws"])
    scores = {
        "ratio": attack(target, both, run).values,
        "loss": -attack.energies(target, both, run),
    }
    found: Found = {}
    for name, values in scores.items():
        found |= rates(name, values, is_member, run)
        people = by_owner(values, is_member, both.owners)
        area = auc(people.values, people.is_member, run.stream("auc", name), resamples=100)
        found[f"{name}: AUC by owner"] = float(area.value)
    return {**found, TIMES: times(found)}


def times(found: Found) -> float | Finding:
    """How much more often the ratio is right; guessing, where the loss does worse than that."""
    ratio, loss = (found[f"{name}: TPR at 1 % FPR"] for name in ("ratio", "loss"))
    if isinstance(ratio, Finding) or isinstance(loss, Finding):
        return Finding.missing(TIMES, "too few outsiders to measure a false-positive rate of 1 %")
    return ratio / max(loss, 0.01)


def texts(settings: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """What the base learns from, and the private domain's other documents, each in parts."""
    rng, words = stream(0, "public documents"), settings["words"]
    documents = list(cut(data.read(settings["private"]).texts, words))
    order = rng.permutation(len(documents))
    public = [part for row in order[: settings["public"]] for part in documents[row]]
    if settings["general"]:
        news = [parts[0] for parts in cut(data.read(settings["general"]).texts, words, 1)]
        public += [news[row] for row in rng.permutation(len(news))[: settings["news"]]]
    return public, [documents[row] for row in order[settings["public"] :]]


def cut(whole: tuple[str, ...], words: int, parts: int = PARTS) -> Iterator[list[str]]:
    """The beginning of each document that is long enough, in parts that stand nowhere else."""
    seen: set[str] = set()
    for text in whole:
        found = text.split()
        made = [" ".join(found[i * words : (i + 1) * words]) for i in range(parts)]
        if len(found) >= words * parts and not seen & set(made):
            seen |= set(made)
            yield made


def records(name: str, documents: list[list[str]], rows: np.ndarray) -> Split:
    """All parts of these documents, each with its document as owner."""
    parts = [(f"{name}-{row}", part) for row in rows for part in documents[row]]
    return Split.of(name, text=[part for _, part in parts], owners=[owner for owner, _ in parts])


TINY = {"vocabulary": 300, "layers": 1, "width": 16, "heads": 2, "context": 48, "epochs": 1}
SMALL = {"vocabulary": 1024, "layers": 2, "width": 64, "heads": 4, "context": 144, "epochs": 8,
         "learning_rate": 4e-3}  # fmt: skip
LARGE = {"vocabulary": 4096, "layers": 4, "width": 256, "heads": 4, "context": 128, "epochs": 60,
         "learning_rate": 1e-3}  # fmt: skip
TUNE = {"batch_size": 32, "learning_rate": 2e-3, "schedule": "constant"}
ABSTRACTS = {"private": "medical-abstracts", "general": "ag-news", "words": 40}

STUDY = Study(
    name="mlm-likelihood-ratio",
    methods=("likelihood-ratio", "loss"),
    paper=Paper(
        title="Quantifying Privacy Risks of Masked Language Models Using Membership Inference "
        "Attacks",
        authors="Mireshghallah et al.",
        year=2022,
        url="https://arxiv.org/abs/2203.03929",
    ),
    claims=(
        Claim(
            "The authors' losses: the loss attack tells ClinicalBERT's members from held-out "
            "sentences of the same hospital with an AUC of 0.66",
            where="abstract",
            test=equal("authors' loss against out: AUC", 0.6606, 1e-3),
            paper_value="0.66",
        ),
        Claim(
            "The authors' losses: the likelihood ratio does so with 0.93 where each sentence is "
            "paired with itself (the paper's 0.90 subtracts losses of different sentences, which "
            "their script draws apart)",
            where="abstract",
            test=equal("authors' ratio against out: AUC", 0.9280, 1e-3),
            paper_value="0.90",
        ),
        Claim(
            "The authors' losses: at 1 % false positives the ratio finds about 50 times as many "
            "members as the loss does",
            where="abstract",
            test=all_of(
                equal("authors' loss against out: TPR at 1 % FPR", 0.0122, 1e-3),
                equal("authors' ratio against out: TPR at 1 % FPR", 0.6045, 1e-3),
            ),
            paper_value="51 times",
        ),
        Claim(
            "The authors' losses: the ratio at 10 % and at 0.1 % false positives",
            where="follows from the published losses",
            test=all_of(
                equal("authors' loss against out: TPR at 10 % FPR", 0.1548, 1e-3),
                equal("authors' ratio against out: TPR at 10 % FPR", 0.8099, 1e-3),
                equal("authors' ratio against out: TPR at 0.1 % FPR", 0.3721, 1e-3),
            ),
        ),
        Claim(
            "The authors' losses: notes of other hospitals are told from members by the loss "
            "alone, so they are no fair outsiders",
            where="follows from the published losses",
            test=all_of(
                equal("authors' loss against i2b2: AUC", 0.8126, 1e-3),
                equal("authors' ratio against i2b2: AUC", 0.9040, 1e-3),
                equal("authors' loss against i2b2: TPR at 1 % FPR", 0.0626, 1e-3),
                equal("authors' ratio against i2b2: TPR at 1 % FPR", 0.3122, 1e-3),
            ),
        ),
        Claim(
            "Our own model is in the regime of the paper: its loss alone hardly tells",
            where="abstract: the prior attack",
            test=all_of(
                mean_at_least("loss: AUC", 0.6, refuted=0.5),
                mean_at_most("loss: AUC", 0.7, refuted=0.75),
            ),
            paper_value="0.66",
        ),
        Claim(
            "The likelihood ratio beats the loss by an AUC of 0.1 or more",
            where="abstract",
            test=above("ratio: AUC", "loss: AUC", by=0.1),
            paper_value="0.90 against 0.66",
        ),
        Claim(
            "At 1 % false positives the ratio finds at least three times as many members",
            where="abstract",
            test=mean_at_least(TIMES, 3.0, refuted=1.0),
            paper_value="51 times",
        ),
        Claim(
            "Whether a person was trained on is told better than whether a record was",
            where="results by patient",
            test=above("ratio: AUC by owner", "ratio: AUC"),
        ),
    ),
    budgets={
        "smoke": {"private": "demo:letters?n=60", "general": "", "news": 0, "words": 10,
                  "public": 20, "members": 15, "fresh": 15, "draws": 2, "base": TINY,
                  "tune": {**TUNE, "epochs": 1}},
        "small": {**ABSTRACTS, "news": 500, "public": 500, "members": 100, "fresh": 150,
                  "draws": 20, "base": SMALL, "tune": {**TUNE, "epochs": 10}},
        "full": {**ABSTRACTS, "news": 3000, "public": 600, "members": 100, "fresh": 400,
                 "draws": 20, "base": LARGE,
                 "tune": {**TUNE, "learning_rate": 5e-4, "epochs": 20}},
    },
    seeds={"small": 5},
    tried="""\
The margins of 0.1 and of 3 times were set before anything was measured; so was the regime, a loss
attack with an AUC of about 0.65, for which 0.6 to 0.7 stands in the test. The regime was then
looked for by hand, mostly on seed 0. All that was seen, as AUC and TPR at 1 % FPR of the loss,
then of the ratio:

| words, documents (members / fresh) | epochs | seed | loss | ratio |
|---|---|---|---|---|
| 30, 100 / 100; wider model, base barely trained | 4 | 0 | 0.63, 0.02 | 0.74, 0.05 |
| the same | 8 | 0 | 0.65, 0.04 | 0.76, 0.03 |
| the same | 16 | 0 | 0.71, 0.05 | 0.83, 0.09 |
| 20, 100 / 100 | 10 | 0 | 0.65, 0.05 | 0.81, 0.15 |
| the same | 20 | 0 | 0.75, 0.07 | 0.86, 0.14 |
| 20, 100 / 200 | 10 | 1 | 0.64, 0.04 | 0.79, 0.08 |
| the same | 10 | 2 | 0.63, 0.04 | 0.79, 0.08 |
| 20, 200 / 200; base with more abstracts | 8 | 0 | 0.59, 0.02 | 0.71, 0.04 |
| the same | 12 | 0 | 0.60, 0.02 | 0.73, 0.06 |
| the same, falling learning rate | 16 | 0 | 0.61, 0.02 | 0.75, 0.04 |
| the same, falling learning rate | 24 | 0 | 0.64, 0.04 | 0.79, 0.04 |
| 40, 100 / 150 | 10 | 0 | 0.58, 0.02 | 0.79, 0.14 |
| the same | 15 | 0 | 0.63, 0.02 | 0.85, 0.13 |

| as in the plan | 18 | 0 | 0.75, 0.05 | 0.90, 0.05 |
| as in the plan | 14 | 0 to 4 | 0.69 to 0.72, 0.05 | 0.86 to 0.89, 0.09 |

So the ratio beats the loss in every one of these, by 0.1 to 0.22. Three times as many members at
1 % false positives are found with some and not with others: in the last row 1.8 times, as a mean
over five seeds. Where the plan's 18 epochs were tried, the outsiders with the highest ratios were
looked at: they share no text with members, but are full of numbers ("9.8 +/- 5.7 versus 8.3 +/-
3.5 days; p less than"). The small base has not learnt to read such passages, the target has from
its members, and what it learnt of the domain looks like membership. A better base would take that
away; on two cores there was no time for one: after 768 steps the base is hardly better than the
frequencies of tokens. Wider initial weights and twice as many masked tokens did not get it
further in 350 steps.

The plan takes 10 epochs, because at 14 the loss alone had an AUC of 0.705 and not 0.65. As the
plan was changed on results, five seeds are taken and not three. The base and its energies were
found in the store, where earlier runs had left them: 85 seconds of CPU for the base, and 25 a
seed, are not in the seconds below. Those are of the clock, on two cores busy with other work.
""",
    run=run,
)  # fmt: skip
