"""`engram ls` and `engram explain`: answered from files alone, without importing a method."""

import ast
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engram import catalog, extras
from engram.cli.plain import plain
from engram.core.errors import EngramError, nearest

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
            f"`engram ls` cannot use {args[-1]!r}", hint="usage: engram ls [KIND] [--json]"
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
            print(plain(f"  {row['name']:<{width}}  {row['summary']}{_needs(row)}", keep=""))
    return 0


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
    page = _page(_anywhere(args[0]))
    if as_json:
        print(json.dumps(page, indent=2))
        return 0
    print(f"{page['name']} ({page['kind']})\n\n{page['text']}\n")
    if page["fields"]:
        print("fields:")
    for field in page["fields"]:
        default = f" = {field['default']}" if field["default"] else ""
        print(f"  {field['name']}: {field['type']}{default}")
        for line in field["help"].splitlines():
            print(f"      {line.strip()}")
    print(f"\npaper: {page['paper']}")
    if page["extra"]:
        print(f"needs: {extras.remedy(page['extra'])}{_lacking(page['extra'], page)}")
    for group, setting in page["extra_for"].items():
        print(f"{setting}: {extras.remedy(group)}{_lacking(group, page)}")
    return 0


def _anywhere(name: str) -> catalog.Entry:
    known: dict[str, catalog.Entry] = {}
    for kind in catalog.KINDS:
        known |= {n: e for n, e in catalog.entries(kind).items() if n not in known}
    if name not in known:
        raise EngramError(
            f"no method called {name!r}", hint=nearest(name, known, "`engram ls` lists them")
        )
    return known[name]


def _page(entry: catalog.Entry) -> dict[str, Any]:
    cls, path = entry.address.partition(":")[2], path_of(entry.address)
    if path is None:
        raise EngramError(f"the file of {entry.name!r} cannot be found ({entry.address})")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    body = _class(tree, cls)
    return {
        "name": entry.name,
        "kind": entry.kind,
        "text": (ast.get_docstring(tree) or "").strip(),
        "fields": fields_of(path, cls),
        "paper": _paper(body) if body else "",
        "extra": entry.extra,
        "extra_for": dict(entry.extra_for),
        "missing": list(entry.missing),
        "address": entry.address,
    }


def path_of(address: str) -> Path | None:
    """The file of a class of ours, or of another package; nothing of ours is imported for it."""
    module = address.partition(":")[0]
    head, *parts = module.split(".")
    if head == "engram":
        place = catalog.HOME.parent.joinpath(*parts)
        found = (place.with_suffix(".py"), place / "__init__.py")
        return next((path for path in found if path.is_file()), None)
    spec = find_spec(module)
    return Path(spec.origin) if spec and spec.origin else None


def fields_of(path: Path, cls: str) -> list[dict[str, str]]:
    """The fields of a class and, before them, of its bases of ours, which are read too.

    Each has its name, type, default and help; `choices` with commas where the type lists them.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    body = _class(tree, cls)
    if body is None:
        where = _home(cls, tree, path)
        return [] if where in (None, path) else fields_of(where, cls)
    found: dict[str, dict[str, str]] = {}
    for base in body.bases:
        if isinstance(base, ast.Name) and (where := _home(base.id, tree, path)) is not None:
            found |= {field["name"]: field for field in fields_of(where, base.id)}
    found |= {field["name"]: field for field in _fields(body, tree, path)}
    return list(found.values())


def _class(tree: ast.Module, name: str) -> ast.ClassDef | None:
    return next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None)


def _home(name: str, tree: ast.Module, path: Path) -> Path | None:
    """The file in which a name of ours is defined that this file uses."""
    for node in tree.body:
        named = {alias.asname or alias.name for alias in getattr(node, "names", ())}
        if isinstance(node, ast.ImportFrom) and name in named:
            ours = str(node.module).partition(".")[0] == "engram"
            return path_of(str(node.module)) if ours else None
    return path


def _choices(kind: ast.expr, tree: ast.Module, path: Path) -> list[str]:
    """What a type allows that is, or is a name for, `Literal[...]`."""
    if isinstance(kind, ast.Name):
        if (where := _home(kind.id, tree, path)) is None:
            return []
        its = tree if where == path else ast.parse(where.read_text(encoding="utf-8"))
        assigned = [n for n in its.body if isinstance(n, ast.Assign)]
        values = [n.value for n in assigned if ast.unparse(n.targets[0]) == kind.id]
        kind = values[0] if values else kind
    if isinstance(kind, ast.Subscript) and ast.unparse(kind.value) == "Literal":
        every = kind.slice.elts if isinstance(kind.slice, ast.Tuple) else [kind.slice]
        return [str(each.value) for each in every if isinstance(each, ast.Constant)]
    return []


def _fields(body: ast.ClassDef, tree: ast.Module, path: Path) -> list[dict[str, str]]:
    found = []
    for node, after in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        kind = ast.unparse(node.annotation)
        if kind.startswith("ClassVar"):
            continue
        told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        field = {
            "name": node.target.id,
            "type": kind,
            "default": ast.unparse(node.value) if node.value else "",
            "help": str(after.value.value).strip() if told else "",  # type: ignore
        }
        if choices := _choices(node.annotation, tree, path):
            field["choices"] = ",".join(choices)
        found.append(field)
    return found


def _paper(body: ast.ClassDef) -> str:
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call):
            values = {k.arg: k.value for k in node.value.keywords}
            if {"title", "authors", "year", "url"} <= set(values):
                told = {k: ast.literal_eval(v) for k, v in values.items()}
                return "{authors} ({year}). {title}. {url}".format(**told)
    return ""


def _needs(row: dict[str, Any]) -> str:
    """Which groups of packages a method needs, and which of them are not there."""
    extra, some = row.get("extra"), row.get("extra_for", {})
    told = [f"needs engram[{extra}]{_lacking(extra, row)}"] if extra else []
    told += [f"{s} needs engram[{g}]{_lacking(g, row)}" for g, s in some.items()]
    return f" ({'; '.join(told)})" if told else ""


def _lacking(group: str, row: dict[str, Any]) -> str:
    return ", not installed" if group in row["missing"] else ""


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

    found = rows(Path(store) if store else default_root())
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


def _flag(args: list[str], flag: str) -> tuple[list[str], bool]:
    return [a for a in args if a != flag], flag in args


def _value(args: list[str], flag: str) -> tuple[list[str], str]:
    if flag not in args:
        return args, ""
    place = args.index(flag)
    if place + 1 >= len(args):
        raise EngramError(f"{flag} needs a value", hint=f"{flag} DIR")
    return args[:place] + args[place + 2 :], args[place + 1]
