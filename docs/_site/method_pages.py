"""A page for each method, and tables of them: the data of `engram explain` as Markdown.

Tables of methods and of claims are HTML: `site.js` filters their rows, and on a narrow screen
`site.css` stacks their cells.
"""

import json
import re
from collections.abc import Iterable, Sequence
from html import escape

from questions import Question, related

from engram import catalog
from engram.explained import ClaimRow, Explained, Field, explained, packages, paragraphs

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


def pages(questions: Sequence[Question]) -> dict[str, str]:
    """All pages by their paths."""
    known = {kind: [explained(e) for e in catalog.entries(kind).values()] for kind in TITLES}
    everything = [method for methods in known.values() for method in methods]
    made = {"methods/index.md": _overview(known, questions)}
    for kind, methods in known.items():
        made[f"methods/{kind}/index.md"] = _table_of(kind, methods)
        for method in methods:
            others = related(method, everything, questions)
            made[f"methods/{kind}/{method.name}.md"] = page(method, others)
    return made


def page(method: Explained, others: Sequence[Explained]) -> str:
    """One method's page; `others` are those to look at beside it."""
    kind = TITLES[method.kind][0]
    parts = [
        front(method.summary),
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
        *(("## Related methods", table(others, "../")) if others else ()),
    ]
    return "\n\n".join(parts) + "\n"


def front(description: str) -> str:
    """The front matter of a page; the theme puts the description between quotes as it is."""
    return f"---\ndescription: {json.dumps(escape(description))}\n---"


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
    name = method.fields[0].name
    how = f"--{name.replace('_', '-')} VALUE"
    if method.kind == "attacks":
        how = f"--set {method.name}.{name}=VALUE"
    return f"Each is an option of the command line: `{how}`.\n\n{fields_of(method.fields)}"


def fields_of(fields: Sequence[Field], prefix: str = "field-") -> str:
    """Names with type, default and meaning, as a list; `prefix` begins their anchors."""
    rows = "".join(
        f'<dt id="{prefix}{field.name}"><code>{field.name}</code> '
        f"<span>{escape(field.type, quote=False)}, {_default(field.default)}</span></dt>"
        f"<dd>{inline(field.help)}</dd>"
        for field in fields
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
    parts = [
        "Claims of the studies that are about this method; a claim may be about others as well."
    ]
    for study in method.studies:
        link = f"[{study.name}](../../evidence/{study.name}.md)"
        parts.append(f"{link}: {inline(study.asks)} ({study.evidence})")
        parts.append(claims(study.claims))
    return "\n\n".join(parts)


CELLS = ("claim", "where in the paper", "paper's number", "ours")


def claims(rows: Iterable[ClaimRow]) -> str:
    """Claims as a table, each with its verdict."""
    lines = []
    for row in rows:
        told = zip(CELLS, (row.text, row.where, row.paper_value or "-", row.ours), strict=True)
        cells = "\n".join(f'<td data-label="{label}">{_plain(text)}</td>' for label, text in told)
        lines.append(
            f'<tr data-verdict="{row.verdict}">\n<td>{badge(row.verdict)}</td>\n{cells}\n</tr>'
        )
    head = "".join(f"<th>{label}</th>" for label in ("verdict", *CELLS))
    return html_table("claims", head, lines)


def html_table(style: str, head: str, lines: Sequence[str]) -> str:
    """A table with a class of its own, from its head's cells and its rows."""
    return (
        f'<table class="{style}">\n<thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(lines)
        + "\n</tbody>\n</table>"
    )


def _plain(text: str) -> str:
    """One line of HTML that Markdown leaves alone."""
    return escape(" ".join(text.split()), quote=False)


def badge(verdict: str) -> str:
    """A verdict by a sign, a word and a colour."""
    signs = {"holds": "✓", "fails": "✗", "undecided": "?", "not run": "·"}
    style = verdict.replace(" ", "-")
    return f'<span class="verdict verdict-{style}">{signs[verdict]} {verdict}</span>'


def _overview(known: dict[str, list[Explained]], questions: Sequence[Question]) -> str:
    by_name = {method.name: method for methods in known.values() for method in methods}
    kinds = "\n".join(
        f"- [{title}]({kind}/index.md) ({len(known[kind])}): {what}"
        for kind, (title, what) in TITLES.items()
    )
    parts = [
        front("All methods, by what you want to do"),
        "# Methods",
        f"{len(by_name)} methods, each one file. Its page here, the options of the command line "
        "and what `engram explain NAME` prints are made from that file. By kind they are:",
        kinds,
        "Below they stand by what you want to do; some stand in several places.",
        '<div class="filter" data-filter="methods"></div>',
    ]
    for question in questions:
        chosen = [by_name[name] for name in question.methods if name in by_name]
        parts += [
            f"## {question.want[:1].upper()}{question.want[1:]}",
            _guides(question),
            table(chosen, ""),
        ]
    asked = {name for question in questions for name in question.methods}
    if others := [method for name, method in by_name.items() if name not in asked]:
        parts += ["## Others", table(others, "")]
    return "\n\n".join(part for part in parts if part) + "\n"


def _guides(question: Question) -> str:
    links = ", ".join(f"[{title}](../{path})" for title, path in question.read)
    return f"Read: {links}." if links else ""


def _table_of(kind: str, methods: list[Explained]) -> str:
    title, what = TITLES[kind]
    head = f"---\ndescription: {json.dumps(what)}\n---\n\n# {title}\n\n{escape(what)}"
    return (
        f'{head}\n\n<div class="filter" data-filter="methods"></div>\n\n{table(methods, "../")}\n'
    )


def table(methods: Iterable[Explained], folder: str) -> str:
    """Methods with their kind and first sentence; `folder` is that of all methods, from here."""
    lines = []
    for method in methods:
        groups = [(method.extra, "")] if method.extra else []
        needs = "; ".join(
            f"{f'{setting} needs' if setting else 'needs'} <code>engram[{group}]</code>"
            for group, setting in (*groups, *method.extra_for)
        )
        told = inline(method.summary) + (f"<br>{needs[:1].upper()}{needs[1:]}." if needs else "")
        link = f'<a href="{folder}{method.kind}/{method.name}.html">{method.name}</a>'
        lines.append(f"<tr>\n<td>{link}</td>\n<td>{method.kind[:-1]}</td>\n<td>{told}</td>\n</tr>")
    return html_table("methods", "<th>method</th><th>kind</th><th>what it does</th>", lines)
