"""A summary that pastes into a model card.

A card is public, so no record's text is in it, and a story's owner is not named.
"""

import re
from collections.abc import Sequence

from engram.core.finding import Finding
from engram.report import wording
from engram.report.document import AuditDocument, Document, StoryDocument
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
    lines = _audit(document) if isinstance(document, AuditDocument) else _story(document)
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
    header = ("what", *(escaped(column, 40) for column in doc.columns), "better")
    rows = [
        (escaped(_discreet(row.name, doc), 80), *(_shown(cell) for cell in row.cells), row.better)
        for row in doc.rows[:40]
    ]
    lines = [
        f"## {escaped(_discreet(doc.title, doc), 120)}",
        "",
        f"**{TITLES[doc.verdict.level]}.** {escaped(_discreet(doc.verdict.sentence, doc))}",
    ]
    if rows:
        cells = [cell for row in doc.rows[:40] for cell in row.cells]
        lines += ["", *table(header, rows), *_reasons(cells)]
    if doc.steps:
        steps = enumerate(doc.steps[:20], 1)
        lines += ["", *(f"{n}. {escaped(_discreet(step.title, doc), 120)}" for n, step in steps)]
    for audit in doc.audits[:6]:
        lines += ["", f"### {escaped(_discreet(audit.title, doc), 120)}", ""]
        lines += [_deeper(_discreet(line, doc)) for line in _audit(audit.document)]
    return [*lines, "", _signature(doc)]


def _discreet(text: str, doc: StoryDocument) -> str:
    """The text without the owner and the secret that the story names."""
    if doc.leak is None:
        return text
    for secret, instead in ((doc.leak.truth, "(removed)"), (doc.leak.owner, "one owner")):
        for written in {secret.strip(), escaped(secret, len(secret))} - {""}:
            text = text.replace(written, instead)
    return text


def _deeper(line: str) -> str:
    """A heading two levels down."""
    return f"##{line}" if line.startswith("## ") else line
