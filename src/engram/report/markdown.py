"""A summary that pastes into a model card.

A card is public, so no record's text is in it, and a story's owner is not named.
"""

import re
from collections.abc import Mapping, Sequence

from engram.core.finding import Finding
from engram.report import wording
from engram.report.comparison import ComparisonDocument
from engram.report.document import AuditDocument, Document, StoryDocument
from engram.report.measured import MeasurementDocument
from engram.report.page import auc_of, ordered

_SPECIAL = re.compile(r"([\\`*_\[\]{}<>#|~!&$])")
TITLES = {
    "leak": "Leak found",
    "no leak found": "No leak found",
    "inflated": "Numbers are inflated",
    "unknown": "Undecided",
}


def render(document: Document) -> str:
    """GitHub-flavoured Markdown, a screen long."""
    if isinstance(document, AuditDocument):
        lines = _audit(document)
    elif isinstance(document, ComparisonDocument):
        lines = _comparison(document)
    elif isinstance(document, MeasurementDocument):
        lines = _measurement(document)
    else:
        lines = _story(document)
    return "\n".join(lines) + "\n"


def escaped(text: str, limit: int = 400) -> str:
    """Text that Markdown shows as it is, in one line: no markup, no table cell broken."""
    line = " ".join(wording.clip(text, limit).split())
    return _SPECIAL.sub(r"\\\1", line).replace("://", ":\u200b//")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; its cells must be escaped already."""
    rule = ["---"] * len(header)
    return [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]


def _shown(finding: Finding | None) -> str:
    if finding is None:
        return ""
    if finding.value is None:
        return wording.NOTHING
    unit = escaped(wording.unit_of(finding), 40)
    return " ".join(
        filter(None, (wording.value_of(finding), wording.interval_of(finding), unit))
    ).replace("[", r"\[").replace("]", r"\]")  # fmt: skip


def _measurement(doc: MeasurementDocument) -> list[str]:
    rows = [
        [escaped(wording.name_of(one.name), 80), escaped(one.split, 80), _shown(one), f"{one.n:,}"]
        for one in doc.findings[:60]
    ]
    return [
        f"### {escaped(doc.method, 80)} of {escaped(doc.target.name, 80)}",
        "",
        escaped(doc.summary),
        "",
        *table(["what", "on", "value, 95 % interval", "n"], rows),
        "",
        f"Engram {escaped(doc.engram, 20)}, run {escaped(doc.id, 80)}.",
    ]


def _audit(doc: AuditDocument) -> list[str]:
    setup = doc.setup
    owners = "" if setup.owners is None else f", {setup.owners:,} owners"
    lines = [
        f"## What {escaped(doc.target.name, 80)} has memorised",
        "",
        f"**{TITLES[doc.verdict.level]}.** {escaped(doc.verdict.sentence)}",
        "",
        f"{setup.members:,} members and {setup.outsiders:,} outsiders{owners}; 95 % intervals "
        "in brackets; an AUC of 0.5 is chance.",
        "",
        f"**The split**, audited without the model: {escaped(doc.split_audit.sentence)}",
        "",
        *_near_pairs(doc),
        *_headline(doc),
        *_attack_table(doc),
    ]
    if doc.measures:
        rows = [
            (_name(f.name), escaped(f.split, 40), _shown(f), f"{f.n:,}") for f in doc.measures[:40]
        ]
        lines += ["", *table(("measure", "on", "value", "n"), rows), *_reasons(doc.measures[:40])]
    for title, entries in (("Not measured", doc.not_measured), ("Warnings", doc.warnings)):
        if entries:
            lines += ["", f"**{title}**", "", *(f"- {escaped(one)}" for one in entries[:20])]
    lines += ["", _signature(doc)]
    return lines


def _near_pairs(doc: AuditDocument) -> list[str]:
    """How alike the sides are where they are; ids are left to `report.html` and `report.json`."""
    split = doc.split_audit
    if not split.pairs:
        return []
    shares = ", ".join(f"{pair.share:.0%}" for pair in split.pairs)
    return [
        f"{split.pairs_total:,} outsiders nearly repeat a member; of their text the most alike "
        f"share {shares}.",
        "",
    ]


def _headline(doc: AuditDocument) -> list[str]:
    measured = [f for f in doc.headline.findings if f.value is not None]
    if not measured:
        return []
    shown = "; ".join(f"{_name(finding.name)} {_shown(finding)}" for finding in measured[:8])
    how = f", {escaped(doc.headline.how, 200)}" if doc.headline.how else ""
    return [f"**Headline attack**: {escaped(doc.headline.attack, 60)}{how}: {shown}.", ""]


def _attack_table(doc: AuditDocument) -> list[str]:
    shown = ordered(doc)[:40]
    if not shown:
        return ["No attack was run."]
    names: dict[str, None] = {}
    for attack in shown:
        names |= {f.name: None for f in attack.findings if f is not auc_of(attack.findings)}
    columns = list(names)[:8]
    rows = []
    for attack in shown:
        by_name = {finding.name: finding for finding in attack.findings}
        marks = " (headline)" if attack.name == doc.headline.attack else ""
        marks += " (inflated)" if attack.inflated else ""
        cells = [_shown(by_name.get(column)) for column in columns]
        owners = _shown(auc_of(attack.owner_findings))
        rows.append((escaped(attack.name, 40) + marks, _shown(auc_of(attack.findings)),
                     owners, *cells))  # fmt: skip
    header = ("attack", "AUC", "AUC by owner", *map(_name, columns))
    if not any(row[2] for row in rows):
        header = (*header[:2], *header[3:])
        rows = [(*row[:2], *row[3:]) for row in rows]
    return [*table(header, rows), *_reasons([f for attack in shown for f in attack.findings])]


def _name(name: str) -> str:
    return escaped(wording.name_of(name), 60)


def _reasons(findings: Sequence[Finding]) -> list[str]:
    """Why numbers are missing from a table, each reason once."""
    missing = [f for f in findings if f.value is None]
    said = dict.fromkeys(
        f"{wording.NOTHING} {escaped(f'{wording.name_of(f.name)}: {f.note}', 300)}" for f in missing
    )
    return [line for reason in list(said)[:8] for line in ("", reason)]


def _signature(doc: Document) -> str:
    made = escaped(wording.moment(doc.created), 40)
    run = re.sub("[^A-Za-z0-9._-]", "", doc.id)[:80]
    return f"Engram {escaped(doc.engram, 20)}, run `{run}`, {made}."


def _story(doc: StoryDocument) -> list[str]:
    hidden = _hidden(doc)

    def said(text: str, limit: int) -> str:
        return escaped(_without(text, hidden), limit)

    shown = doc.rows[:40]
    lines = [
        f"## {said(doc.title, 120)}",
        "",
        f"**{TITLES[doc.verdict.level]}.** {said(doc.verdict.sentence, 400)}",
    ]
    if shown:
        header = ("what", *(said(column, 60) for column in doc.columns), "better")
        rows = [(said(row.name, 80), *map(_shown, row.cells), row.better) for row in shown]
        reasons = _reasons([cell for row in shown for cell in row.cells])
        lines += ["", *table(header, rows), *reasons]
    if doc.steps:
        steps = enumerate(doc.steps[:20], 1)
        lines += ["", *(f"{place}. {said(step.title, 120)}" for place, step in steps)]
    for audit in doc.audits[:6]:
        lines += ["", f"### {said(audit.title, 120)}", ""]
        lines += [_deeper(_without(line, hidden)) for line in _audit(audit.document)]
    return [*lines, "", _signature(doc)]


def _comparison(doc: ComparisonDocument) -> list[str]:
    lines = [f"## {escaped(doc.title, 120)}", "", escaped(doc.verdict.sentence, 400), ""]
    for title, questions, matched in (
        ("As trained", doc.questions, False),
        (f"At a validation perplexity of {wording.number(doc.at or 0)}", doc.observed, True),
    ):
        if matched and doc.at is None:
            lines += ["", f"Not compared at matched perplexity: {escaped(doc.reason)}."]
            continue
        header = ("model", *(_name(question.name) for question in questions), "guarantee")
        shown = [(t, t.matched if matched else t.cells) for t in doc.targets[:40]]
        rows = [
            (escaped(t.name, 80), *map(_shown, cells), escaped(t.guarantee, 60))
            for t, cells in shown
        ]
        if not any(t.guarantee for t in doc.targets):
            header, rows = header[:-1], [row[:-1] for row in rows]
        reasons = _reasons([cell for _, cells in shown for cell in cells])
        lines += ["", f"**{title}**", "", *table(header, rows), *reasons]
    lines += [line for warning in doc.warnings[:20] for line in ("", f"- {escaped(warning)}")]
    return [*lines, "", "95 % intervals in brackets; lower is better.", "", _signature(doc)]


def _hidden(doc: StoryDocument) -> dict[str, str]:
    """What must not be in a public text, plain and escaped, and what stands there instead."""
    if doc.leak is None:
        return {}
    secrets = {doc.leak.truth.strip(): "(removed)", doc.leak.owner.strip(): "one owner"}
    both = secrets | {escaped(secret, len(secret)): word for secret, word in secrets.items()}
    return {secret: word for secret, word in both.items() if secret}


def _without(text: str, hidden: Mapping[str, str]) -> str:
    for secret, instead in hidden.items():
        text = text.replace(secret, instead)
    return text


def _deeper(line: str) -> str:
    """A heading two levels down."""
    return f"##{line}" if line.startswith("## ") else line
