"""Find methods without importing them.

The file system is the registry: `methods/attacks/min_k.py` is the attack called `min-k`, and its
class is `MinK`. Other packages add methods through the entry-point group `engram.<kind>`.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engram import extras
from engram.core.errors import EngramError, nearest

HOME = Path(__file__).parent / "methods"
KINDS = ("transforms", "recipes", "edits", "attacks", "measures")
STATED = {
    "recipes": ("family",),
    "edits": ("families",),
    "attacks": ("needs", "access"),
    "measures": ("needs", "access"),
}
"""What a class of each kind says of itself beside its paper, as the protocols of `core` want it."""


@dataclass(frozen=True)
class Entry:
    """A method that we know of, not yet imported."""

    kind: str
    name: str
    summary: str
    address: str
    """Where the class is: `package.module:Class`."""

    extra: str = ""
    """The optional group of packages that it needs, from `EXTRA = "..."` in its file."""

    extra_for: tuple[tuple[str, str], ...] = ()
    """Groups that some of its settings need, and which: from `EXTRA_FOR = {...}` in its file."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The groups of both sorts that are not installed whole."""
        groups = dict.fromkeys([self.extra, *(group for group, _ in self.extra_for)])
        return tuple(group for group in groups if group and extras.missing(group))

    def require(self) -> None:
        """Raise where it cannot work here at all: the error says which group it lacks.

        Raises:
            EngramError: The packages of `extra` are not all installed.
        """
        extras.require(self.extra, self.name)

    def load(self) -> type[Any]:
        """Import the method's module and return its class."""
        module, _, attribute = self.address.partition(":")
        try:
            found = import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as problem:
            package = self.extra or module.partition(".")[0]
            raise EngramError(
                f"{self.name!r} cannot be loaded from {self.address} ({problem})",
                hint=extras.remedy(self.extra)
                if self.extra
                else f"is the package {package!r} installed whole?",
            ) from None
        if lost := [name for name in STATED.get(self.kind, ()) if not hasattr(found, name)]:
            raise EngramError(
                f"{self.name!r} ({self.address}) does not state {lost[0]!r}, as {self.kind} do",
                hint=f"give the class a ClassVar {lost[0]}: see engram.core.arrows",
            )
        return found  # type: ignore[return-value]


def entries(kind: str) -> dict[str, Entry]:
    """All methods of one kind, by name, in name order.

    Raises:
        EngramError: The kind is unknown, or two methods of it have the same name.
    """
    if kind not in KINDS:
        raise EngramError(
            f"there is no kind of method called {kind!r}",
            hint=nearest(kind, KINDS, f"the kinds are {', '.join(KINDS)}"),
        )
    known: dict[str, Entry] = {}
    for entry in [*_built_in(kind), *_installed(kind)]:
        if entry.name in known:
            raise EngramError(
                f"two methods in {kind} are called {entry.name!r}",
                hint=f"rename one: {known[entry.name].address} or {entry.address}",
            )
        known[entry.name] = entry
    return dict(sorted(known.items()))


def find(kind: str, name: str) -> Entry:
    """The method called `name`, or an error that names its nearest neighbours."""
    known = entries(kind)
    if name in known:
        return known[name]
    for other in KINDS:
        if other != kind and name in entries(other):
            raise EngramError(
                f"no method called {name!r} in {kind}", hint=f"{name} is one of the {other}"
            )
    raise EngramError(
        f"no method called {name!r} in {kind}",
        hint=nearest(name, known, f"`engram ls {kind}` lists them"),
    )


def name_of(method: object) -> str:
    """The catalogue's name of a method or of its class: `MinK` in `min_k.py` is `min-k`."""
    kind = method if isinstance(method, type) else type(method)
    address = f"{kind.__module__}:{kind.__qualname__}"
    for point in _points():
        if point.value == address:
            return point.name
    return kind.__module__.rpartition(".")[2].replace("_", "-")


def kind_of(method: object) -> str:
    """The kind of a method or of its class: "attacks", "recipes", ..."""
    cls = method if isinstance(method, type) else type(method)
    address = f"{cls.__module__}:{cls.__qualname__}"
    for point in _points():
        if point.value == address:
            return point.group.partition(".")[2]
    kind = cls.__module__.split(".")[-2] if "." in cls.__module__ else ""
    if kind not in KINDS:
        raise EngramError(
            f"{cls.__name__} is not a method that the catalogue knows",
            hint="put it into a file of engram/methods/<kind>/, or declare an entry point",
        )
    return kind


def class_name(stem: str) -> str:
    """The class that a method file holds: `min_k_plus_plus` -> `MinKPlusPlus`."""
    return "".join(word.capitalize() for word in stem.split("_"))


@cache
def _built_in(kind: str) -> tuple[Entry, ...]:
    folder = HOME / kind
    paths = [*folder.glob("[!_]*.py"), *folder.glob("[!_]*/__init__.py")]
    return tuple(_read(kind, path) for path in sorted(paths))


def _read(kind: str, path: Path) -> Entry:
    stem = path.parent.name if path.stem == "__init__" else path.stem
    tree = ast.parse(path.read_text(encoding="utf-8"))
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    address = f"engram.methods.{kind}.{stem}:{class_name(stem)}"
    extra, some = _constant(tree, "EXTRA"), _constant(tree, "EXTRA_FOR")
    return Entry(
        kind, stem.replace("_", "-"), summary, address, extra or "", tuple((some or {}).items())
    )


def _constant(tree: ast.Module, name: str) -> Any:
    """What a file gives this name, if it is written out there; nothing is run."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names = [t.id for t in node.targets if isinstance(t, ast.Name)]
            if name in names:
                return ast.literal_eval(node.value)
    return None


@cache
def _points() -> tuple[Any, ...]:
    return tuple(p for kind in KINDS for p in entry_points(group=f"engram.{kind}"))


def _installed(kind: str) -> Iterator[Entry]:
    for point in _points():
        if point.group == f"engram.{kind}":
            yield Entry(kind, point.name, _summary(point.value), point.value)


def _summary(address: str) -> str:
    """First line of a plug-in's docstring, read without importing the module itself."""
    module = address.partition(":")[0]
    try:
        spec = find_spec(module)
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))  # type: ignore
        return (ast.get_docstring(tree) or "").partition("\n")[0] or f"from {address}"
    except (ImportError, OSError, AttributeError, TypeError, SyntaxError, ValueError):
        return f"from {address}"
