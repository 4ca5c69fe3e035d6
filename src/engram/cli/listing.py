"""`engram ls` and `engram explain`: answered from files alone, without importing a method."""

import ast
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from textwrap import wrap
from typing import Any

from engram import catalog
from engram.cli.plain import plain
from engram.core.errors import EngramError, nearest
from engram.explained import Explained, explained, packages

LISTS = ("families", "data", "targets", "runs", "studies")


def ls(args: list[str]) -> int:
    """`engram ls [KIND] [--json] [--store DIR] [--studies DIR]`."""
    args, as_json = _flag(args, "--json")
    args, store = _value(args, "--store")
    args, studies = _value(args, "--studies")
    if any(a in ("-h", "--help") for a in args):
        print("usage: engram ls [KIND] [--json] [--store DIR] [--studies DIR]")
        print(f"  KIND: {', '.join((*catalog.KINDS, *LISTS))}; without it, all methods")
        return 0
    if len(args) > 1 or (args and args[0].startswith("-")):
        raise EngramError(
            f"`engram ls` cannot use {_first_odd(args)!r}",
            hint="usage: engram ls [KIND] [--json] [--store DIR] [--studies DIR]",
        )
    wanted = (*catalog.KINDS, *LISTS)
    if args and args[0] not in wanted:
        raise EngramError(
            f"there is nothing called {args[0]!r} to list",
            hint=nearest(args[0], wanted, f"there are {', '.join(wanted)}"),
        )
    found = {kind: _rows(kind, store, studies) for kind in (args or catalog.KINDS)}
    if as_json:
        print(json.dumps(found, indent=2))
        return 0
    for kind, rows in found.items():
        print(f"{kind}:" if rows else f"{kind}: none yet")
        width = max((len(row["name"]) for row in rows), default=0)
        for row in rows:
            said = plain(f"{row['name']:<{width}}  {row['summary']}{_needs(row)}", keep="")
            print("\n".join(_fitted(f"  {said}", width + 4)))
    return 0


def _fitted(line: str, margin: int) -> list[str]:
    """A line in pieces that fit a terminal, each after the first behind a margin.

    A pipe gets it whole, for `grep` and `cut`.
    """
    columns = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or len(line) <= columns or columns - margin < 20:
        return [line]
    first, *rest = wrap(
        line[margin:], columns - margin, break_on_hyphens=False, break_long_words=False
    ) or [""]
    return [line[:margin] + first, *(" " * margin + each for each in rest)]


def explain(args: list[str]) -> int:
    """`engram explain NAME`: one method's page."""
    args, as_json = _flag(args, "--json")
    if len(args) != 1 or args[0] in ("-h", "--help"):
        if args and args[0] in ("-h", "--help"):
            print("usage: engram explain NAME [--json]")
            return 0
        raise EngramError(
            f"`engram explain` takes one method, not {len(args)}",
            hint="`engram ls` lists them: engram explain min-k",
        )
    page = explained(_anywhere(args[0]))
    print(json.dumps(_document(page), indent=2) if as_json else _told(page))
    return 0


def _told(page: Explained) -> str:
    """A method's page as text."""
    lines = [f"{page.name} ({page.kind})", "", page.text, ""]
    lines.append("fields:" if page.fields else "fields: none")
    for field in page.fields:
        default = f" = {field.default}" if field.default else ""
        lines += _wrapped(f"{field.name}: {field.type}{default}", "  ", "      ")
        lines += _wrapped(field.help, "      ")
    needs = [*page.needs, *packages(page, here=True)]
    if needs:
        lines += ["", "needs:", *(line for each in needs for line in _wrapped(each, "  "))]
    lines += [
        "",
        f"example: {page.example}",
        *_wrapped(f"paper: {page.paper or 'it names none'}", "", "  "),
    ]
    return "\n".join([*lines, "", *_verdicts(page)])


def _wrapped(text: str, indent: str, further: str = "") -> list[str]:
    whole = {"break_on_hyphens": False, "break_long_words": False}
    return wrap(text, 96, initial_indent=indent, subsequent_indent=further or indent, **whole)


def _verdicts(page: Explained) -> list[str]:
    """What studies found of it, claim by claim."""
    if not page.studies:
        return ["verdicts: no study tests it yet"]
    lines = ["verdicts:"]
    for study in page.studies:
        lines += _wrapped(f"{study.name} ({study.evidence}): {study.asks}", "  ")
        for claim in study.claims:
            lines += _wrapped(f"{claim.verdict}: {claim.text} ({claim.ours})", "    ")
    return lines


def _document(page: Explained) -> dict[str, Any]:
    """A method's page for programs."""
    return asdict(page) | {"paper": str(page.paper or "")}


def _anywhere(name: str) -> catalog.Entry:
    known: dict[str, catalog.Entry] = {}
    for kind in catalog.KINDS:
        known |= {n: e for n, e in catalog.entries(kind).items() if n not in known}
    if name not in known:
        raise EngramError(
            f"no method called {name!r}", hint=nearest(name, known, "`engram ls` lists them")
        )
    return known[name]


def _needs(row: dict[str, Any]) -> str:
    """Which groups of packages a method needs, and which of them are not there."""
    groups = [(row["extra"], "")] if row.get("extra") else []
    told = [
        f"{setting} needs engram[{group}]".strip()
        + (", not installed" if group in row["missing"] else "")
        for group, setting in (*groups, *row.get("extra_for", {}).items())
    ]
    return f" ({'; '.join(told)})" if told else ""


def _rows(kind: str, store: str, studies: str) -> list[dict[str, Any]]:
    if kind in catalog.KINDS:
        return [
            {
                "name": e.name,
                "summary": e.summary,
                "extra": e.extra,
                "extra_for": dict(e.extra_for),
                "missing": list(e.missing),
            }
            for e in catalog.entries(kind).values()
        ]
    if kind == "families":
        from engram import families

        return [{"name": n, "summary": _first_line(n)} for n in families.names()]
    if kind == "data":
        from engram.data import describe_sources

        return [{"name": s.name, "summary": f"{s.summary} ({s.kind})"} for s in describe_sources()]
    if kind == "studies":
        return _studies(studies)
    from engram.store import default_root, rows

    root = Path(store) if store else default_root()
    if (store and not root.is_dir()) or root.is_file():
        fact = f"{root} is a file, not a store" if root.exists() else f"there is no store at {root}"
        raise EngramError(fact, hint="name another with --store, or make a run first")
    found = rows(root)
    return [
        {"name": row.folder, "summary": f"{row.created}  {row.kind}  {row.method}  {row.headline}"}
        for row in found
        if (row.kind == "target") == (kind == "targets")
    ]


def _studies(folder: str) -> list[dict[str, str]]:
    from engram.engine.study.files import DEFAULT, places

    if not folder and not DEFAULT.is_dir():  # nothing was named, so nothing is missing
        return []
    known = places(Path(folder or DEFAULT)).values()
    return [{"name": place.name, "summary": place.summary} for place in known]


def _first_line(family: str) -> str:
    from engram import families

    path = families.HOME / f"{family.replace('-', '_')}.py"
    if not path.is_file():
        return "from a plug-in"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def _first_odd(args: list[str]) -> str:
    """The first word that is an option; else the second, since one kind may be named."""
    return next((arg for arg in args if arg.startswith("-")), args[-1])


def _flag(args: list[str], flag: str) -> tuple[list[str], bool]:
    return [a for a in args if a != flag], flag in args


def _value(args: list[str], flag: str) -> tuple[list[str], str]:
    for place, arg in enumerate(args):
        if arg.startswith(f"{flag}="):
            args = [*args[:place], flag, arg.partition("=")[2], *args[place + 1 :]]
            break
    if flag not in args:
        return args, ""
    place = args.index(flag)
    if place + 1 >= len(args):
        raise EngramError(f"{flag} needs a value", hint=f"{flag} DIR")
    return args[:place] + args[place + 2 :], args[place + 1]
