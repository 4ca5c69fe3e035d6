"""A made-up comparison, as the engine writes it: for tests of the report, and to look at.

`python tests/unit/comparison_document.py FOLDER` writes its page.
"""

import json
import sys
from pathlib import Path

QUESTIONS = (
    ("validation perplexity", "validation_perplexity", ""),
    ("AUC", "auc", ""),
    ("TPR@1%FPR", "", ""),
    ("exposure", "exposure", "bits"),
    ("verbatim rate", "verbatim", ""),
)
TARGETS = (
    ("none", "finetune-lm", "", 12.4, 0.93, 0.41, 9.8, 0.22),
    ("ngram-regularised", "ngram-regularised-lm", "", 12.1, 0.81, 0.20, 6.1, 0.06),
    ("goldfish", "goldfish-lm", "", 13.0, 0.84, 0.25, 7.0, 0.02),
    ("weight-decay", "finetune-lm", "", 12.3, 0.92, 0.39, 9.5, 0.20),
    ("dp-epsilon-8", "dp-finetune-lm", "(7.98, 0.001)-DP per record", 19.5, 0.53, 0.02, 1.6, 0.0),
)
WIDTHS = (0.8, 0.04, 0.08, 1.1, 0.05)


def finding(name, value, width, unit, split, n=150):
    low = max(value - width, 0.0)
    return {
        "name": name, "value": value, "low": low, "high": value + width, "n": n, "unit": unit,
        "method": "", "split": split, "note": "", "better": "lower",
    }  # fmt: skip


def course(end):
    """From an untrained model to these numbers, past a better perplexity."""
    found = []
    for epoch in range(9):
        share = epoch / 8
        dip = end[0] - 1.5 * (1 - share) * (end[0] > 12.2)
        found.append({
            "step": epoch * 20, "epoch": float(epoch),
            "validation_perplexity": 40.0 * (1 - share) ** 3 + dip,
            "auc": 0.5 + (end[1] - 0.5) * share**1.5,
            "exposure": 1.5 + (end[3] - 1.5) * share, "verbatim": end[4] * share**3,
        })  # fmt: skip
    return found


def target(name, method, guarantee, *numbers):
    cells = [
        finding(q, value, width, unit, name)
        for (q, _, unit), value, width in zip(QUESTIONS, numbers, WIDTHS, strict=True)
    ]
    at = [19.5, 0.5 + (numbers[1] - 0.5) / 2, numbers[3] / 2 + 0.7, numbers[4] / 4]
    asked = [(q, w) for q, w in zip(QUESTIONS, WIDTHS, strict=True) if q[1]]
    matched = [
        finding(q, value, width, unit, f"{name}, matched", 40)
        for ((q, _, unit), width), value in zip(asked, at, strict=True)
    ]
    lineage = {"method": method, "kind": "recipes", "config": {"epochs": 8}}
    return {
        "name": name,
        "target": {"name": name, "family": "causal-lm", "fingerprint": "ab12", "lineage": lineage,
                   "facts": {}},
        "guarantee": guarantee,
        "cells": cells,
        "matched": matched,
        "epoch": 2.4,
        "trace": course(numbers),
        "audit": f"audit-{name}",
        "verdict": {"level": "leak", "sentence": "Leak found."},
    }  # fmt: skip


def comparison():
    """Five defences, one of them private and slow."""
    return {
        "engram": "0.1.0",
        "kind": "comparison",
        "method": "compare",
        "id": "compare-0123456789",
        "created": "2026-01-31T12:00:00Z",
        "seconds": 93.0,
        "title": "5 models compared",
        "lead": "Every model was asked about the same 150 records that it was trained on and the "
        "same 105 that it never saw (letters.jsonl). The validation perplexity is that of the "
        "latter: how useful the model is. The other numbers say what it gives away. Lower is "
        "better everywhere.",
        "questions": [{"name": n, "key": k, "unit": u} for n, k, u in QUESTIONS],
        "targets": [target(*row) for row in TARGETS],
        "matched": {
            "at": 19.5,
            "reason": "the best that every training reached; dp-epsilon-8 got no lower",
        },
        "verdict": {
            "level": "unknown",
            "sentence": "At a validation perplexity of 19.5, dp-epsilon-8 gives least away (AUC "
            "0.515) and none most (0.715).",
        },
        "warnings": [],
    }


if __name__ == "__main__":
    from engram import report

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(comparison()), "utf-8")
    report.write(folder)
