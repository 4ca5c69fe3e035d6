"""A method's class as its file writes it: fields, constants and those of its bases of ours."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from engram.catalog import is_package, source_of
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
        raise EngramError(
            f"the file of {address} cannot be found",
            hint=f"is the package {module.partition('.')[0]!r} installed whole?",
        )
    if not any(isinstance(node, ast.ClassDef) and node.name == name for node in tree.body):
        return read_class(f"{_handed_on(tree, module, name, address)}:{name}")
    fields: dict[str, Field] = {}
    constants: dict[str, Any] = {}
    for body, where in _lines_of_descent(module, name):
        fields |= {field.name: field for field in _fields(body, where)}
        constants |= dict(_constants(body, where))
    return Source((ast.get_docstring(tree) or "").strip(), tuple(fields.values()), constants)


@cache
def _tree(module: str) -> ast.Module | None:
    text = source_of(module)
    try:
        return ast.parse(text) if text else None
    except (SyntaxError, ValueError) as problem:
        raise EngramError(
            f"the file of {module} is not Python ({problem})",
            hint=f"the fault is in the package {module.partition('.')[0]!r}: mend it, or "
            "uninstall it",
        ) from None


def _handed_on(tree: ast.Module, module: str, name: str, address: str) -> str:
    """The module from which a package takes a class that it only hands on."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            package = module.split(".")
            if node.level and not is_package(module):
                package = package[:-1]
            above = package[: len(package) - node.level + 1] if node.level else []
            if (found := ".".join([*above, *filter(None, [node.module])])) != module:
                return found
    raise EngramError(
        f"the file of {address} holds no class of this name",
        hint="an entry point is package.module:Class",
    )


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
        ours = isinstance(node, ast.ImportFrom) and str(node.module).startswith("engram.")
        if ours and name in (alias.asname or alias.name for alias in node.names):
            return str(node.module)
    return ""


def _fields(body: ast.ClassDef, module: str) -> Iterator[Field]:
    for node, after in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if _is_constant(node):
            continue
        told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        yield Field(
            node.target.id,
            _written(node.annotation, module),
            _written(node.value, module) if node.value else "",
            " ".join(str(after.value.value).split()) if told else "",  # type: ignore
        )


def _is_constant(node: ast.AnnAssign) -> bool:
    return ast.unparse(node.annotation).startswith("ClassVar")


def _written(node: ast.expr, module: str) -> str:
    """An annotation or a default as its file has it; what a name of ours stands for, if it is one.

    A type may be named (`Space`), and so may a default (`BASE`): a reader wants to see what it is.
    """
    if isinstance(node, ast.Name):
        found = _assigned(module, node.id)
        if found is not None:
            return _written(found, module)
        where = _imported(module, node.id)
        return _written(node, where) if where else node.id
    if _is_part(node):
        return repr(_value(node, module))
    return " ".join((ast.get_source_segment(source_of(module), node) or ast.unparse(node)).split())


def _constants(body: ast.ClassDef, module: str) -> Iterator[tuple[str, Any]]:
    for node in body.body:
        named = isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if named and node.value and _is_constant(node):
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
    if isinstance(node, ast.Subscript) and _is_part(node):
        return _value(node.value, module)[_place(node.slice)]
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _is_part(node: ast.expr) -> bool:
    """Whether it is an entry, or some, of a named constant: `MARKERS[1:]`."""
    return (
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id.isupper()
    )


def _place(node: ast.expr) -> Any:
    if isinstance(node, ast.Slice):
        ends = (node.lower, node.upper, node.step)
        return slice(*(ast.literal_eval(end) if end else None for end in ends))
    return ast.literal_eval(node)


def _assigned(module: str, name: str) -> ast.expr | None:
    """What a module gives a name at its top, by itself or as one of several."""
    tree = _tree(module)
    for node in tree.body if tree else ():
        if isinstance(node, ast.AnnAssign):
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.Assign):
            pairs = [pair for target in node.targets for pair in _pairs(target, node.value)]
        else:
            continue
        for target, value in pairs:
            if isinstance(target, ast.Name) and target.id == name:
                return value
    return None


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts, strict=False))
    return [(target, value)]
