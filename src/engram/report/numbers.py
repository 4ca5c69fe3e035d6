"""`report.json`: every number of a report, for programs."""

from collections.abc import Iterable
from typing import Any

from engram.core.finding import Finding
from engram.report.comparison import ComparisonDocument
from engram.report.document import AuditDocument, Document, StoryDocument
from engram.report.measured import MeasurementDocument

RECORDS = "scores.parquet"
_KEYS = ("method", "name", "value", "low", "high", "n", "unit", "split")


def of_document(document: Document) -> dict[str, Any]:
    """`{"engram", "target", "findings", "records", "warnings"}`, and a story's `audits`."""
    if isinstance(document, AuditDocument):
        return _audit(document) | _near_duplicates(document)
    if isinstance(document, ComparisonDocument):
        return _comparison(document)
    if isinstance(document, MeasurementDocument):
        return _measurement(document)
    return _story(document)


def _comparison(doc: ComparisonDocument) -> dict[str, Any]:
    """Every answer of every target, as trained and matched; `split` names the target."""
    found = [_row(cell) for t in doc.targets for cell in (*t.cells, *t.matched)]
    targets = [
        {
            "name": t.name,
            "guarantee": t.guarantee,
            "matched_at_epoch": t.epoch,
            "audit": t.audit,
            "trace": [dict(entry) for entry in t.trace],
            "target": dict(t.raw),
        }
        for t in doc.targets
    ]
    return {
        "engram": doc.engram,
        "target": dict(doc.targets[0].raw) if doc.targets else {},
        "targets": targets,
        "matched": {"validation_perplexity": doc.at, "reason": doc.reason},
        "findings": found,
        "records": "",
        "warnings": list(doc.warnings),
    }


def _audit(doc: AuditDocument) -> dict[str, Any]:
    found = [_row(one, "split-audit") for one in doc.split_audit.findings]
    found += [_row(one, doc.headline.attack) for one in doc.headline.findings]
    for attack in doc.attacks:
        found += [_row(one, attack.name) for one in attack.findings]
        found += [_row(one, attack.name, "owners") for one in attack.owner_findings]
    found += [_row(one) for one in doc.measures]
    return {
        "engram": doc.engram,
        "target": dict(doc.target.raw),
        "findings": found,
        "records": RECORDS,
        "warnings": [*_about_the_split(doc), *_other_warnings(doc), *_missing(doc)],
    }


def _near_duplicates(doc: AuditDocument) -> dict[str, Any]:
    """Ids of outsiders and of the members that they nearly repeat, where there are such.

    A story says none: of what was forgotten it names nothing here.
    """
    split = doc.split_audit
    if not split.pairs:
        return {}
    return {
        "near_duplicates": {
            "total": split.pairs_total,
            "pairs": [
                {"outsider": each.outsider, "member": each.member, "share": each.share}
                for each in split.pairs
            ],
        }
    }


def _measurement(doc: MeasurementDocument) -> dict[str, Any]:
    return {
        "engram": doc.engram,
        "target": dict(doc.target.raw),
        "findings": [_row(one, doc.method) for one in doc.findings],
        "records": "",
        "warnings": [],
    }


def _row(finding: Finding, method: str = "", split: str = "") -> dict[str, Any]:
    row = {key: getattr(finding, key) for key in _KEYS}
    return {**row, "method": finding.method or method, "split": finding.split or split}


def _about_the_split(doc: AuditDocument) -> Iterable[str]:
    if doc.split_audit.verdict != "clean":
        yield f"split audit: {doc.split_audit.verdict}: {doc.split_audit.sentence}"


def _other_warnings(doc: AuditDocument) -> Iterable[str]:
    return (said for said in doc.warnings if said != doc.split_audit.sentence)


def _missing(doc: AuditDocument) -> Iterable[str]:
    return (f"not measured: {reason}" for reason in doc.not_measured)


def _story(doc: StoryDocument) -> dict[str, Any]:
    """The compared numbers, each on the model that its `split` names, then whole audits."""
    found = []
    for row in doc.rows:
        for column, cell in zip(doc.columns, row.cells, strict=True):
            found.append({**_row(cell), "name": row.name, "split": column})
    return {
        "engram": doc.engram,
        "target": dict(doc.audits[0].document.target.raw) if doc.audits else {},
        "findings": found,
        "records": RECORDS,
        "warnings": [],
        "audits": [{"title": one.title, **_audit(one.document)} for one in doc.audits],
    }
