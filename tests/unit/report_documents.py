"""Made-up audits and stories, as the engine writes them: for tests of the report, and to look at.

`python tests/unit/report_documents.py FOLDER` writes the pages of both.
"""

import json
import sys
from pathlib import Path

import numpy as np

PAPER = (
    "Yeom et al. (2018). Privacy Risk in Machine Learning: Analyzing the Connection to "
    "Overfitting. https://arxiv.org/abs/1709.01604"
)
ATTACKS = (
    ("reference", 1.7, "How much likelier the target finds a record than its base does.", "nats"),
    ("min-k-plus-plus", 0.85, "The least likely tokens, on the scale of what was possible.", ""),
    ("min-k", 0.7, "The mean of the least likely fifth of the tokens.", "nats/token"),
    ("zlib", 0.55, "The loss beside how well the text compresses.", "nats/byte"),
    ("loss", 0.6, "A record that was trained on has a lower loss.", "nats/token"),
    ("lowercase", 0.3, "The loss beside that of the same text in lower case.", ""),
    ("neighbourhood", 0.45, "The loss beside that of similar texts.", "nats/token"),
)
LETTER = (
    "Dear Dr Ferro,\n\nThank you for referring Mara Quill, born 3 May 1961, hospital number "
    "4471-208. She was seen on Tuesday with chest pain on climbing stairs. Blood pressure was "
    "182/95; the ECG was normal. I have started amlodipine 5 mg and will see her again in six "
    "weeks. She can be reached at 14 Larch Lane or on 555-0142.\n\nYours sincerely,\nDr I. Stone"
)


def finding(name, value, low, high, n, **more):
    blank = {"unit": "", "method": "", "split": "", "note": "", "better": ""}
    return {"name": name, "value": value, "low": low, "high": high, "n": n, **blank, **more}


def missing(name, note, n=0):
    return finding(name, None, None, None, n, note=note)


def scores_of(rng, shift, members, outsiders):
    """Two normal sides, the members' with a heavy right tail: some records stand out."""
    inside = rng.normal(shift, 1.0, members) + (rng.random(members) < 0.12 * shift) * 2.5
    return inside, rng.normal(0.0, 1.0, outsiders)


def area(inside, outside):
    return float(np.mean(inside[:, None] > outside[None, :]))


def rate(inside, outside, fpr):
    threshold = np.sort(outside)[::-1][int(fpr * len(outside))]
    return float(np.mean(inside > threshold))


def staircase(inside, outside):
    thresholds = np.sort(np.concatenate([inside, outside]))[::-1][::3]
    fpr = [0.0, *(float(np.mean(outside >= t)) for t in thresholds)]
    tpr = [0.0, *(float(np.mean(inside >= t)) for t in thresholds)]
    return {"fpr": [*fpr, 1.0], "tpr": [*tpr, 1.0]}


def findings_of(inside, outside, split="all"):
    a, n = area(inside, outside), len(inside)
    rows = [finding("AUC", a, max(a - 0.031, 0.0), min(a + 0.029, 1.0), 2 * n, split=split)]
    for fpr in (0.001, 0.01, 0.05):
        name = f"TPR@{100 * fpr:g}%FPR"
        if len(outside) * fpr < 1:
            note = f"not measurable at this n: needs {1 / fpr:,.0f} outsiders, has {len(outside)}"
            rows.append(missing(name, note, n))
            continue
        t = rate(inside, outside, fpr)
        half = 1.96 * (t * (1 - t) / n + 1 / n**2) ** 0.5
        low, high = max(t - half, 0.0), min(t + half, 1.0)
        rows.append(finding(name, t, low, high, n, split="members", better="lower"))
    return rows


def attack(rng, name, shift, summary, unit, members, outsiders, inflated):
    inside, outside = scores_of(rng, shift, members, outsiders)
    edges = np.linspace(min(inside.min(), outside.min()), max(inside.max(), outside.max()), 33)
    groups = inside.reshape(-1, 3).mean(1), outside.reshape(-1, 3).mean(1)
    return {
        "name": name,
        "summary": summary,
        "paper": PAPER,
        "unit": unit,
        "inflated": inflated,
        "findings": findings_of(inside, outside),
        "owner_findings": findings_of(*groups, split="owners"),
        "roc": staircase(inside, outside),
        "histogram": {
            "edges": edges.tolist(),
            "members": np.histogram(inside, edges)[0].tolist(),
            "outsiders": np.histogram(outside, edges)[0].tolist(),
        },
    }


def token_list(rng, text, leak=0.3):
    pieces = text.replace(" ", "\x00 ").split("\x00")
    rows = []
    for piece in pieces:
        reference = -float(rng.gamma(2.0, 1.6))
        gain = float(rng.normal(3.5, 2.0)) if rng.random() < leak else float(rng.normal(0.0, 0.7))
        row = {"text": piece, "logprob": min(reference + gain, -0.001), "reference": reference}
        rows.append(row)
    rows[0] = {"text": pieces[0], "logprob": None, "reference": None}
    return rows


def exposed(rng, count):
    names = ("Mara Quill", "Abel Stone", "Ines Ferro", "Jo Wren", "Lio Marsh", "Ada Fell")
    return [
        {
            "id": f"{int(rng.integers(0, 2**60)):016x}",
            "owner": names[k % len(names)],
            "score": 5.2 - 0.11 * k,
            "attack": "reference",
            "percentile": 0.0 if k < 3 else 0.0033 * (k - 2),
            "tokens": token_list(rng, LETTER.replace("Mara Quill", names[k % len(names)])),
        }
        for k in range(count)
    ]


def lineage():
    return {
        "method": "finetune-lm",
        "kind": "recipes",
        "config": {"epochs": 4, "learning_rate": 3e-4, "batch_size": 8, "warmup": 0.05},
        "seed": 0,
        "data": "demo:letters",
        "fingerprint": "9d1f0c52ab9d0b11",
        "parent": "51c7fa0e7711aa09",
        "base": "runs/pretrain-lm-51c7fa0e77",
        "code": "0.1.0",
    }


def audit(seed=0, members=300, outsiders=300, split="clean", level="leak"):
    """An audit of a fine-tuned model that leaks."""
    rng = np.random.default_rng(seed)
    inflated = split == "inflated"
    attacks = [
        attack(rng, name, shift, summary, unit, members, outsiders, inflated)
        for name, shift, summary, unit in ATTACKS
    ]
    steps = range(0, 400, 5)
    blind = finding("AUC", 0.513, 0.466, 0.561, 600, method="blind: bag of words")
    if inflated:
        blind = finding("AUC", 0.871, 0.842, 0.899, 600, method="blind: bag of words")
    return {
        "engram": "0.1.0",
        "kind": "audit",
        "id": "audit-ab12cd34ef",
        "created": "2026-01-31T12:00:00Z",
        "seconds": 94.3,
        "target": {
            "name": "letters-gpt",
            "family": "causal-lm",
            "fingerprint": "51c7fa0e7711aa09",
            "access": "weights",
            "lineage": lineage(),
            "facts": {"architecture": "GPT2LMHeadModel", "parameters": 812345, "context": 256},
        },
        "verdict": {
            "level": level,
            "sentence": "This model gives away its training records: the reference attack finds "
            "24 % of them while wrongly accusing 1 % of outsiders.",
        },
        "setup": {
            "members": members,
            "outsiders": outsiders,
            "owners": 120,
            "seed": 0,
            "device": "cpu",
            "data": "demo:letters",
            "settings": {"battery": "standard", "batch_tokens": 4096, "resamples": 1000},
        },
        "split_audit": {
            "verdict": split,
            "sentence": "Without the model, members and outsiders cannot be told apart."
            if split == "clean"
            else "Their words alone tell members from outsiders with an AUC of 0.871.",
            "findings": [
                blind,
                finding("AUC", 0.492, 0.446, 0.539, 600, method="blind: length"),
                finding("AUC", 0.507, 0.461, 0.553, 600, method="blind: numbers and dates"),
                finding("near-duplicates across the border", 2.0, 2.0, 2.0, 600, unit="pairs"),
            ],
        },
        "headline": {
            "attack": "reference",
            "how": "chosen on one half of the records, reported on the other",
            "findings": [dict(row, split="second half") for row in attacks[0]["findings"]],
        },
        "attacks": attacks[::-1],
        "measures": [
            finding("perplexity", 3.21, 3.12, 3.31, 300, method="perplexity", split="members",
                    better="lower"),
            finding("perplexity", 9.87, 9.44, 10.3, 300, method="perplexity", split="outsiders",
                    better="lower"),
            finding("generalisation gap", 1.123, 1.08, 1.17, 600, unit="nats/token",
                    method="generalisation-gap", better="lower"),
            finding("extraction rate", 0.083, 0.055, 0.12, 300, method="extraction",
                    split="members", better="lower"),
            missing("accuracy", "a language model has no classes"),
        ],
        "exposed": exposed(rng, 22),
        "owners": [
            {"owner": name, "records": k + 1, "score": 4.2 - 0.3 * k, "percentile": 0.002 * k}
            for k, name in enumerate(("Mara Quill", "Abel Stone", "Ines Ferro", "Jo Wren"))
        ],
        "extraction": [
            {
                "id": "0f3c0f3c0f3c0f3c",
                "owner": "Mara Quill",
                "prefix": "Thank you for referring Mara Quill, born ",
                "truth": "3 May 1961, hospital number 4471-208. She was seen on Tuesday",
                "generated": "3 May 1961, hospital number 4471-208. She was seen on Tuesday",
                "matched": 18,
                "total": 18,
            },
            {
                "id": "aa3c0f3c0f3c0f3c",
                "owner": "Abel Stone",
                "prefix": "He can be reached at ",
                "truth": "9 Mill Street or on 555-0177. Yours sincerely",
                "generated": "9 Mill Street or on 555-0142. He will be seen",
                "matched": 8,
                "total": 12,
            },
        ],
        "trace": [
            {
                "step": k,
                "epoch": k / 100,
                "loss": 2.1 + 4.3 * float(np.exp(-k / 80)) + float(rng.normal(0, 0.08)),
                "lr": 3e-4 * min(k / 20, 1.0) * (1 - k / 400),
            }
            for k in steps
        ],
        "not_measured": ["TPR at 0.1 % FPR: needs 1,000 outsiders, there are 300"],
        "outcomes": {"scored": 600, "too-short": 2},
        "warnings": ["2 records tokenise to fewer than two tokens and were not scored"],
    }  # fmt: skip


def story():
    """Letters, fine-tuning, an audit, forgetting one owner, another audit."""
    after = audit(seed=1, level="no leak found")
    after["verdict"]["sentence"] = "What was forgotten cannot be told from what was never seen."
    columns = ["fine-tuned", "after forgetting", "never saw the owner"]
    triples = [
        ("AUC on the owner\u2019s letters", "", "",
         [("AUC", 0.981, 0.94, 0.998), ("AUC", 0.531, 0.37, 0.69), ("AUC", 0.512, 0.35, 0.67)]),
        ("log-probability of the secret", "nats", "lower",
         [("logprob", -0.42, -0.61, -0.3), ("logprob", -14.2, -16.0, -12.1),
          ("logprob", -13.1, -14.8, -11.5)]),
        ("perplexity on other letters", "", "lower",
         [("perplexity", 9.87, 9.44, 10.3), ("perplexity", 10.1, 9.65, 10.6),
          ("perplexity", 9.85, 9.4, 10.3)]),
    ]  # fmt: skip
    rows = [
        {
            "name": name,
            "unit": unit,
            "better": better,
            "cells": [finding(n, v, low, high, 40, unit=unit) for n, v, low, high in cells],
        }
        for name, unit, better, cells in triples
    ]
    rows.append(
        {
            "name": "secrets recited in full",
            "unit": "",
            "better": "lower",
            "cells": [
                finding("extraction rate", 0.75, 0.48, 0.93, 16),
                finding("extraction rate", 0.0, 0.0, 0.21, 16),
                missing("extraction rate", "the twin was not asked"),
            ],
        }
    )
    truth = "3 May 1961, hospital number 4471-208."
    outputs = [
        ("fine-tuned", truth, 14, True),
        ("after forgetting", "12 June 1948, hospital number 2093-771.", 3, False),
        ("never saw the owner", "30 May 1975, hospital number 1180-463.", 4, False),
    ]
    return {
        "engram": "0.1.0",
        "kind": "story",
        "id": "demo-0c52ab9d0b",
        "created": "2026-01-31T12:05:00Z",
        "seconds": 271.0,
        "title": "A model that knew Mara Quill, and forgot her",
        "lead": "A small language model was trained on fictional clinic letters. An audit found "
        "that it recites personal details of a patient. It was then made to forget her, and "
        "is compared with a twin that never saw her letters.",
        "verdict": {
            "level": "no leak found",
            "sentence": "After forgetting, the model knows no more of Mara Quill than a twin that "
            "never saw her letters.",
        },
        "leak": {
            "owner": "Mara Quill",
            "field": "hospital number",
            "prefix": "Thank you for referring Mara Quill, born ",
            "truth": truth,
            "outputs": [
                {"model": m, "text": t, "matched": k, "total": 14, "exact": e}
                for m, t, k, e in outputs
            ],
        },
        "comparison": {"columns": columns, "rows": rows},
        "steps": [
            {"title": "Write 2,000 letters", "text": "Fictional, seeded, of 400 owners."},
            {"title": "Fine-tune", "text": "Four epochs on half of them."},
            {"title": "Audit", "text": "Seven attacks; the reference attack leads."},
            {"title": "Forget Mara Quill", "text": "gradient-difference on her five letters."},
            {"title": "Audit again", "text": "Beside a twin trained without her letters."},
        ],
        "audits": [
            {"title": "The audit before forgetting", "document": audit()},
            {"title": "The audit after forgetting", "document": after},
        ],
    }


def scores_file():
    """An audit of bare numbers: no model, no text, no owners."""
    document = audit(split="unknown", level="unknown")
    document["target"] = {"name": "scores file", "family": ""}
    document["setup"]["owners"] = None
    document["split_audit"].update(sentence="There is no text to audit the split by.", findings=[])
    document.update(exposed=[], owners=[], extraction=[], trace=[], measures=[])
    for one in document["attacks"]:
        one["owner_findings"] = []
    document["verdict"]["sentence"] = "Members stand out, but the split could not be audited."
    return document


if __name__ == "__main__":
    from engram import report

    pages = {"audit": audit(), "story": story(), "inflated": audit(split="inflated",
             level="inflated"), "scores": scores_file()}  # fmt: skip
    for name, document in pages.items():
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps(document))
        sys.stdout.write(f"{report.write(folder)}\n")
