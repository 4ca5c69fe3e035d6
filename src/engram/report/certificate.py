"""The answer to a deletion request, on one page, for a reader who is no engineer.

The page holds no text of any record and no name of any owner: pseudonyms only, which whoever
knows the ids can check (`engram.core.ledger.pseudonym`).
"""

import base64
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from markupsafe import Markup

from engram.core.finding import Finding
from engram.report import page, wording
from engram.report.limits import Limits
from engram.store import disk_errors, write_json

HTML, JSON = "certificate.html", "certificate.json"
SHOWN = 50
"""The most pseudonyms that the page shows; the JSON has all."""
PROMISES = {
    "exact": "All of the model that had seen these records was trained again without them, from "
    "before it saw them. What it does cannot depend on them. This is a guarantee.",
    "approximate": "The model's weights were changed until the questions below could no longer "
    "tell that it had seen these records. That is evidence, not a guarantee: somebody may find a "
    "question that still tells.",
    "protection": "What the model learnt from these records themselves was thrown away and learnt "
    "again without them. It began from a model that had seen them in a protected form alone, made "
    "alike to others or put under noise, and what is left of them is what that protection lets "
    "through. This is a guarantee, but not that nothing is left.",
    "suppression": "The model was kept from talking about these records; what it learnt from them "
    "is still in it. This is not forgetting.",
}
LIMITS = (
    "Copies of the model from before, and what was made with them, still hold what it had learnt.",
    "The questions below are those that were asked. Others were not.",
    "Backups and logs of the records themselves are another matter, and not covered here.",
)
QUESTIONS = (
    ("AUC of forgotten records", "Can the records be told from ones that the model never saw?",
     "0.5: no better than by tossing a coin"),
    ("tokens of forgotten records that greedy decoding writes",
     "How much of them does the model write by itself, word for word?", "share of their tokens"),
    ("extraction strength of forgotten records",
     "How early in a record does the model go on by itself?", "0: never; 1: from the beginning"),
    ("ROUGE-L recall of forgotten records",
     "How much of the right answer does it give when it is asked?", "share of its words"),
    ("forget quality (p-value)",
     "Do its answers differ from those of a model that never saw the records?",
     "above 0.05: not more than by chance"),
    ("privacy gap to the model that never saw them",
     "How far is it from a model that never saw them?", "0: no difference"),
    ("suppression index",
     "Can it be brought back in other ways: by rewording, probing, rounding or tuning the model?",
     "0: no more than if it had never seen them; 1: as before"),
    ("model utility on kept records", "Is what was to stay still there?", "higher is better"),
    ("loss on kept records", "How well does it still know what was kept?", "lower is better"),
    ("loss on kept records most like the forgotten ones",
     "Did the records that are most like them survive?", "lower is better"),
)  # fmt: skip


def certificate(
    story: Mapping[str, Any], entry: Mapping[str, Any], facts: Mapping[str, Any], promise: str
) -> dict[str, Any]:
    """What `certificate.json` holds.

    Args:
        story: The evidence: `run.json` of the request.
        entry: Number and hash of the ledger's entry, and the one before it.
        facts: What the entry says.
        promise: "exact", "protection", "approximate" or "suppression".
    """
    rows = {row["name"]: row["cells"] for row in story["comparison"]["rows"]}
    checks = [
        {"question": question, "reading": reading, "answers": rows[name]}
        for name, question, reading in QUESTIONS
        if name in rows
    ]
    return {
        "engram": story["engram"],
        "kind": "certificate",
        "created": story["created"],
        "by": facts["by"],
        "records": facts["records"],
        "owners": facts["owners"],
        "method": facts["method"],
        "config": facts["config"],
        "promise": {"kind": promise, "sentence": PROMISES[promise]},
        "before": facts["before"],
        "after": facts["after"],
        "verdict": story["verdict"],
        "models": story["comparison"]["columns"],
        "checks": checks,
        "limits": list(LIMITS),
        "entry": {**entry, "time": facts["time"]},
        "evidence": facts["evidence"],
    }


def hash_of(document: Mapping[str, Any]) -> str:
    """SHA-256 of all that a certificate says, but for the entry of the ledger, which holds it."""
    said = {key: value for key, value in document.items() if key != "entry"}
    return sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def render(document: Mapping[str, Any]) -> str:
    """The page."""
    style = (page.TEMPLATES / "style.css").read_text("utf-8")
    digest = base64.b64encode(sha256(style.encode()).digest()).decode()
    checks = [
        SimpleNamespace(
            question=check["question"],
            reading=check["reading"],
            answers=[_answer(cell) for cell in check["answers"]],
        )
        for check in document["checks"]
    ]
    template = page.environment().get_template("certificate.html.j2")
    return template.render(
        doc=SimpleNamespace(**document),
        checks=checks,
        names=_listed(document["records"]),
        owners=_listed(document["owners"]),
        style=Markup(style),
        digest=digest,
        limits=Limits(),
    )


def _answer(cell: Mapping[str, Any]) -> str:
    finding = Finding(**cell)
    if finding.value is None:
        return "not asked"
    value = wording.value_of(finding)
    if finding.low == finding.high:
        return value
    low, high = (wording.of_finding(finding, end) for end in (finding.low, finding.high))
    return f"{value} (between {low} and {high})"


def _listed(names: Sequence[str]) -> SimpleNamespace:
    return SimpleNamespace(shown=list(names[:SHOWN]), more=max(0, len(names) - SHOWN), n=len(names))


def write(folder: Path, document: Mapping[str, Any]) -> Path:
    """Write `certificate.json` and `certificate.html`; the page's path."""
    text = render(document)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / JSON, document)
        part = folder / (HTML + ".part")
        part.write_text(text, encoding="utf-8", newline="\n")
        return part.replace(folder / HTML)
