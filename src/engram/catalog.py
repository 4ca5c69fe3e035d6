"""Find methods without importing them.

The file system is the registry: `methods/attacks/min_k.py` is the attack called `min-k`, and its
class is `MinK`. Other packages add methods through the entry-point group `engram.<kind>`.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
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
        found = self._imported()
        if lost := [
            name for name in (*STATED.get(self.kind, ()), "paper") if not hasattr(found, name)
        ]:
            raise EngramError(
                f"{self.name!r} ({self.address}) does not state {lost[0]!r}, as {self.kind} do",
                hint=f"give the class a ClassVar {lost[0]}: see engram.core.arrows",
            )
        _check_stated(self, found)
        if not isinstance(found, type) or not is_dataclass(found):
            raise EngramError(
                f"{self.name!r} ({self.address}) is no dataclass, but its fields are its options",
                hint="write @dataclass(frozen=True) above the class",
            )
        return found

    def _imported(self) -> Any:
        """What stands at its address."""
        module, _, attribute = self.address.partition(":")
        package = module.partition(".")[0]
        try:
            found = import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as problem:
            hint = f"is the package {package!r} installed whole?"
            raise EngramError(
                f"{self.name!r} cannot be loaded from {self.address} ({problem})",
                hint=extras.remedy(self.extra) if self.extra else hint,
            ) from None
        except Exception as problem:  # whatever somebody else's module does while it is imported
            told = " ".join(f"{type(problem).__name__}: {problem}".split())
            raise EngramError(
                f"{self.name!r} cannot be loaded from {self.address} ({told})",
                hint=f"the fault is in the package {package!r}: mend it, or uninstall it",
            ) from problem
        return found


def _check_stated(entry: Entry, found: Any) -> None:
    """Raise where what a class says of itself is not what the engine reads there."""
    from engram.core.target import ACCESS

    for name in ("needs", "families"):
        if not isinstance(getattr(found, name, frozenset()), frozenset):
            raise EngramError(
                f"{entry.name!r} ({entry.address}) states {name} as {getattr(found, name)!r}",
                hint='it is a frozenset of names: frozenset({"tokens"}), say',
            )
    if getattr(found, "access", ACCESS[0]) not in ACCESS:
        raise EngramError(
            f"{entry.name!r} ({entry.address}) states access as {found.access!r}",
            hint=f"it is one of {', '.join(ACCESS)}",
        )


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
            first = known[entry.name]
            ours = first.address.startswith("engram.")
            package = entry.address.partition(".")[0]
            raise EngramError(
                f"two methods in {kind} are called {entry.name!r}: {first.address} and "
                f"{entry.address}",
                hint=f"rename the entry point of the package {package!r}, or uninstall it"
                if ours
                else "rename one of the entry points, or uninstall its package",
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
    for point in _points():
        if _is_at(point.value, kind):
            return point.name
    return kind.__module__.rpartition(".")[2].replace("_", "-")


def kind_of(method: object) -> str:
    """The kind of a method or of its class: "attacks", "recipes", ..."""
    cls = method if isinstance(method, type) else type(method)
    for point in _points():
        if _is_at(point.value, cls):
            return point.group.partition(".")[2]
    kind = cls.__module__.split(".")[-2] if "." in cls.__module__ else ""
    if kind not in KINDS:
        raise EngramError(
            f"{cls.__name__} is not a method that the catalogue knows",
            hint="put it into a file of engram/methods/<kind>/, or declare an entry point",
        )
    return kind


def _is_at(address: str, cls: type) -> bool:
    """Whether an entry point means this class: by where it stands, or by a package handing it on.

    Nothing is imported: whoever has the class has imported its package.
    """
    module, _, name = address.partition(":")
    return address == f"{cls.__module__}:{cls.__qualname__}" or (
        getattr(sys.modules.get(module), name, None) is cls
    )


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
    try:
        tree = ast.parse(source_of(address.partition(":")[0]))
    except (OSError, SyntaxError, ValueError):
        return f"from {address}"
    return (ast.get_docstring(tree) or "").partition("\n")[0] or f"from {address}"


@cache
def source_of(module: str) -> str:
    """The text of a module's file; "" where there is none. Nothing is imported.

    Only the outermost package is looked for as an import would, since to find a module inside a
    package Python runs the package.
    """
    path = _file_of(module)
    return path.read_text(encoding="utf-8") if path else ""


def is_package(module: str) -> bool:
    """Whether a module is a package, with modules inside of it."""
    path = _file_of(module)
    return path is not None and path.name == "__init__.py"


def _file_of(module: str) -> Path | None:
    top, *inner = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    homes = [Path(home).joinpath(*inner) for home in spec.submodule_search_locations or ()]
    found = [p for home in homes for p in (home / "__init__.py", home.with_suffix(".py"))]
    if not inner and spec.origin:
        found = [Path(spec.origin)]
    return next((path for path in found if path.is_file() and path.suffix == ".py"), None)
