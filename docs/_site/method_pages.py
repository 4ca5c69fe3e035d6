"""A page for each method, and a table of each kind: the data of `engram explain` as Markdown."""

import re
from html import escape

from engram import catalog
from engram.explained import Explained, explained, packages, paragraphs

TITLES = {
    "transforms": ("Transforms", "Split -> Split: records are made, changed, hidden or protected."),
    "recipes": ("Recipes", "Split -> Target: models are trained, fine-tuned, prepared."),
    "edits": ("Edits", "Target -> Target: models are made to forget, or changed otherwise."),
    "attacks": ("Attacks", "Target x Split -> Scores: one number a record; higher always means "
                "more likely memorised."),
    "measures": ("Measures", "Target x Split -> Findings: numbers about the target as a whole."),
}  # fmt: skip


def nav() -> list[object]:
    """The methods by kind."""
    kinds = [
        {
            title: [
                f"methods/{kind}/index.md",
                *({name: f"methods/{kind}/{name}.md"} for name in catalog.entries(kind)),
            ]
        }
        for kind, (title, _) in TITLES.items()
    ]
    return ["methods/index.md", *kinds]


def pages() -> dict[str, str]:
    """All pages by their paths."""
    known = {kind: [explained(e) for e in catalog.entries(kind).values()] for kind in TITLES}
    made = {"methods/index.md": _overview(known)}
    for kind, methods in known.items():
        made[f"methods/{kind}/index.md"] = _table_of(kind, methods)
        made |= {f"methods/{kind}/{method.name}.md": page(method) for method in methods}
    return made


def page(method: Explained) -> str:
    """One method's page."""
    kind = TITLES[method.kind][0]
    parts = [
        f"# {method.name}",
        f'<p class="kind">One of the <a href="index.html">{kind.lower()}</a></p>',
        *_text(method.text),
        "## Example",
        f"```\n{method.example}\n```",
        "## Fields",
        _fields(method),
        "## What it needs",
        _needs(method),
        "## Paper",
        _paper(method),
        "## Verdicts",
        _verdicts(method),
    ]
    return "\n\n".join(parts) + "\n"


def inline(text: str) -> str:
    """Prose as HTML: signs are shown as they are, words in backticks as code."""
    pieces = re.split(r"`([^`]+)`", text)
    return "".join(
        f"<code>{escape(piece, quote=False)}</code>" if i % 2 else escape(piece, quote=False)
        for i, piece in enumerate(pieces)
    )


def _text(text: str) -> list[str]:
    """A docstring; formulas are HTML, since they may hold any sign that Markdown knows."""
    made = []
    for part in paragraphs(text):
        if part.style == "formula":
            made.append(f'<pre class="formula"><code>{escape(part.text, quote=False)}</code></pre>')
            continue
        head, prose = "Differs from the paper", part.text
        if prose.startswith(head):
            made.append(f"## {head}")
            prose = prose.partition(":")[2].strip()
        if prose:
            made.append(f"<p>{inline(prose)}</p>")
        if part.items:
            items = "".join(f"<li>{inline(item)}</li>" for item in part.items)
            made.append(f"<ol>{items}</ol>")
    return made


def _fields(method: Explained) -> str:
    if not method.fields:
        return "None: there is nothing to set."
    rows = "".join(
        f'<dt id="field-{field.name}"><code>{field.name}</code> '
        f"<span>{escape(field.type, quote=False)}, {_default(field.default)}</span></dt>"
        f"<dd>{inline(field.help)}</dd>"
        for field in method.fields
    )
    return f'<dl class="fields">{rows}</dl>'


def _default(text: str) -> str:
    return f"by default {escape(text, quote=False)}" if text else "must be given"


def _needs(method: Explained) -> str:
    lines = [*method.needs, *packages(method, here=False)]
    return "\n".join(f"- {inline(line)}" for line in lines) or "Nothing beside its arguments."


def _paper(method: Explained) -> str:
    paper = method.paper
    if paper is None:
        return "None."
    return f"{inline(paper.authors)} ({paper.year}). [{inline(paper.title)}]({paper.url})."


def _verdicts(method: Explained) -> str:
    if not method.studies:
        return "No study tests it yet."
    parts = []
    for study in method.studies:
        link = f"[{study.name}](../../evidence/{study.name}.md)"
        parts.append(f"{link}: {inline(study.asks)} ({study.evidence})")
        parts.append(
            "\n".join(
                f"- {badge(claim.verdict)} {inline(claim.text)}: {inline(claim.ours)}"
                for claim in study.claims
            )
        )
    return "\n\n".join(parts)


def badge(verdict: str) -> str:
    """A verdict by a sign, a word and a colour."""
    signs = {"holds": "✓", "fails": "✗", "undecided": "?", "not run": "·"}
    style = verdict.replace(" ", "-")
    return f'<span class="verdict verdict-{style}">{signs[verdict]} {verdict}</span>'


def _overview(known: dict[str, list[Explained]]) -> str:
    count = sum(len(methods) for methods in known.values())
    parts = [
        "# Methods",
        f"{count} methods behind five arrows. Each is one file; its page here, the options of the "
        "command line and what `engram explain NAME` prints are made from that file.",
    ]
    for kind, methods in known.items():
        title, what = TITLES[kind]
        parts += [f"## [{title}]({kind}/index.md)", escape(what), _rows(methods, f"{kind}/")]
    return "\n\n".join(parts) + "\n"


def _table_of(kind: str, methods: list[Explained]) -> str:
    title, what = TITLES[kind]
    return f"# {title}\n\n{escape(what)}\n\n{_rows(methods, '')}\n"


def _rows(methods: list[Explained], folder: str) -> str:
    lines = ["| method | what it does |", "| --- | --- |"]
    for method in methods:
        groups = [(method.extra, "")] if method.extra else []
        needs = "; ".join(
            f"{f'{setting} needs' if setting else 'needs'} `engram[{group}]`"
            for group, setting in (*groups, *method.extra_for)
        )
        told = inline(method.summary).replace("|", "&#124;")
        told += f"<br>{needs[:1].upper()}{needs[1:]}." if needs else ""
        lines.append(f"| [{method.name}]({folder}{method.name}.md) | {told} |")
    return "\n".join(lines)
