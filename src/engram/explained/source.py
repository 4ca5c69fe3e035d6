"""A method's class as its file writes it: fields, constants and those of its bases of ours."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engram.core.errors import EngramError


@dataclass(frozen=True)
class Field:
    """One field of a method: an option of the command line."""

    name: str
    type: str
    default: str
    """As it is written in the file; empty where a value must be given."""
    help: str
    """What it means, in which unit, and the paper's value where the paper gives one."""


@dataclass(frozen=True)
class Source:
    """A class, found in a file that was read and not run."""

    text: str
    """The docstring of the file."""
    fields: tuple[Field, ...]
    constants: dict[str, Any]
    """The class's ClassVars by name: plain values, or their text where they are none."""


@cache
def read_class(address: str) -> Source:
    """Read `package.module:Class`; fields and constants of its bases come first.

    Raises:
        EngramError: The file cannot be found.
    """
    module, _, name = address.partition(":")
    tree = _tree(module)
    if tree is None:
        raise EngramError(f"the file of {address} cannot be found")
    fields: dict[str, Field] = {}
    constants: dict[str, Any] = {}
    for body, where in _lines_of_descent(module, name):
        fields |= {field.name: field for field in _fields(body)}
        constants |= dict(_constants(body, where))
    return Source((ast.get_docstring(tree) or "").strip(), tuple(fields.values()), constants)


@cache
def _tree(module: str) -> ast.Module | None:
    try:
        spec = find_spec(module)
    except ImportError:
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _lines_of_descent(module: str, name: str) -> Iterator[tuple[ast.ClassDef, str]]:
    """The class `name` and, before it, its bases, each with the module where it stands."""
    tree = _tree(module)
    for node in tree.body if tree else ():
        if isinstance(node, ast.ClassDef) and node.name == name:
            for base in node.bases:
                if isinstance(base, ast.Name):
                    yield from _lines_of_descent(_imported(module, base.id) or module, base.id)
            yield node, module
            return


def _imported(module: str, name: str) -> str:
    """The module of ours that `name` is imported from; "" where it is not."""
    tree = _tree(module)
    for node in tree.body if tree else ():
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "engram":
            if name in (alias.asname or alias.name for alias in node.names):
                return str(node.module)
    return ""


def _fields(body: ast.ClassDef) -> Iterator[Field]:
    for node, after in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        kind = ast.unparse(node.annotation)
        if kind.startswith("ClassVar"):
            continue
        told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        yield Field(
            node.target.id,
            kind,
            ast.unparse(node.value) if node.value else "",
            " ".join(str(after.value.value).split()) if told else "",  # type: ignore
        )


def _constants(body: ast.ClassDef, module: str) -> Iterator[tuple[str, Any]]:
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            if ast.unparse(node.annotation).startswith("ClassVar"):
                yield node.target.id, _value(node.value, module)


def _value(node: ast.expr, module: str) -> Any:
    """A constant's value: plain, a set's members, a call's keywords, or that of a named one."""
    if isinstance(node, ast.Name):
        found = _assigned(module, node.id)
        if found is not None:
            return _value(found, module)
        where = _imported(module, node.id)
        return _value(node, where) if where else node.id
    if isinstance(node, ast.Call):
        if node.keywords:
            return {str(k.arg): _value(k.value, module) for k in node.keywords}
        return _value(node.args[0], module) if node.args else ()
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _assigned(module: str, name: str) -> ast.expr | None:
    tree = _tree(module)
    for node in tree.body if tree else ():
        targets = node.targets if isinstance(node, ast.Assign) else ()
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        if any(isinstance(t, ast.Name) and t.id == name for t in targets):
            return node.value  # type: ignore[union-attr]
    return None
