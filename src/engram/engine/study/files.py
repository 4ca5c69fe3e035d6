"""Where studies are: `<folder>/<name>/study.py`, listed by reading and loaded by running."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from engram.core import EngramError, nearest
from engram.engine.study.plan import Study

FILE = "study.py"
DEFAULT = Path("studies")
LARGEST = 2**20
"""A study file larger than this is refused, in bytes."""


@dataclass(frozen=True)
class Place:
    """A study's folder, not yet loaded."""

    name: str
    folder: Path
    text: str
    """The docstring of its file: what it asks."""
    plan: str
    """Hash of what its file does; see `plan_hash`."""

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return self.text.partition("\n")[0]


def places(folder: Path = DEFAULT) -> dict[str, Place]:
    """All studies of a folder by name, in name order; no study is run.

    Raises:
        EngramError: There is no such folder, or a study file that is not Python.
    """
    return {name: _read(path) for name, path in _paths(folder).items()}


def find(name: str, folder: Path = DEFAULT) -> Place:
    """The study called `name`; dashes and underscores are the same. The others are not read."""
    known = _paths(folder)
    wanted = name.replace("_", "-")
    if wanted not in known:
        listed = f"{folder} holds {', '.join(known)}" if known else f"{folder} holds none"
        raise EngramError(
            f"no study called {name!r} in {folder}", hint=nearest(wanted, known, listed)
        )
    return _read(known[wanted])


def _paths(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise EngramError(
            f"there is no folder of studies at {folder}",
            hint="go to the folder that holds studies/, or name another with --studies",
        )
    return {_name(path): path for path in sorted(folder.glob(f"*/{FILE}"))}


def load(place: Place) -> Study:
    """Run a study's file and return its `STUDY`.

    This executes the file with the user's rights: it is the user's own, in the folder they named.

    Raises:
        EngramError: It fails, makes no `STUDY`, or one with another name than its folder's.
    """
    path = place.folder / FILE
    study = getattr(_execute(path), "STUDY", None)
    if not isinstance(study, Study):
        what = "makes no STUDY" if study is None else f"makes a STUDY that is {study!r:.80}"
        raise EngramError(
            f"{path} {what}", hint="end it with STUDY = Study(name=..., paper=..., claims=...)"
        )
    if study.name != place.name:
        raise EngramError(
            f"{path} holds the study {study.name!r}", hint=f"call it {place.name!r}, as its folder"
        )
    return study


def where_in(path: Path, problem: BaseException) -> str:
    """The last line of `path` that an exception passed, as `study.py:42`."""
    trace, line = problem.__traceback__, 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{path}:{line}" if line else str(path)


class _Fresh(SourceFileLoader):
    """Compiles the file as it is now, and leaves no bytecode beside it."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _execute(path: Path) -> ModuleType:
    # The module must have a name that Python can find: dataclasses look their module up by it.
    name = f"engram_study_{sha256(str(path.resolve()).encode()).hexdigest()[:10]}"
    spec = spec_from_file_location(name, path, loader=_Fresh(name, str(path)))
    if spec is None or spec.loader is None:
        raise EngramError(f"{path} cannot be loaded", hint="is it a Python file?")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except EngramError:
        raise
    except (Exception, SystemExit) as problem:
        raise EngramError(
            f"{where_in(path, problem)} raised {type(problem).__name__}: {problem}",
            hint="a study's file only declares; what it measures belongs into its function `run`",
        ) from problem
    return module


def _name(path: Path) -> str:
    return path.parent.name.replace("_", "-")


def _read(path: Path) -> Place:
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise EngramError(
                f"{path} has {size:,} bytes; more than {LARGEST:,} are not read",
                hint="a study's file declares claims and a plan; data belongs elsewhere",
            )
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
        line = getattr(problem, "lineno", None)
        raise EngramError(
            f"{path}{f':{line}' if line else ''} is not Python ({problem})",
            hint="mend the file, or take its folder away",
        ) from None
    text = (ast.get_docstring(tree) or "").strip()
    return Place(_name(path), path.parent, text, plan_hash(tree))


def plan_hash(tree: ast.Module) -> str:
    """Hash of what decides a study's measurements; 16 hexadecimal digits.

    Comments, layout, docstrings, the claims and all arguments of `Study` but `run` are left out:
    a claim can be worded better, and its test mended, without measuring everything again. (The
    settings of a budget are part of a result's key by themselves.)
    """
    words = " ".join(_skeleton(tree))
    return sha256(words.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _skeleton(node: ast.AST) -> Iterator[str]:
    """The tree as words; not `ast.dump`, which differs between versions of Python."""
    called = _called(node)
    if called == "Claim":
        return
    yield type(node).__name__
    for field, value in ast.iter_fields(node):
        for entry in value if isinstance(value, list) else [value]:
            if called == "Study" and isinstance(entry, ast.keyword) and entry.arg != "run":
                continue
            if isinstance(entry, ast.AST):
                if not _is_docstring(node, entry):
                    yield from (field, *_skeleton(entry))
            elif entry is not None:
                yield f"{field}={entry!r}"
    yield "end"


def _called(node: ast.AST) -> str:
    """The last name of the function that a call calls; "" for all else."""
    if not isinstance(node, ast.Call):
        return ""
    return getattr(node.func, "id", "") or getattr(node.func, "attr", "")


def _is_docstring(node: ast.AST, entry: ast.AST) -> bool:
    body = getattr(node, "body", None)
    return (
        isinstance(body, list)
        and body[:1] == [entry]
        and isinstance(entry, ast.Expr)
        and isinstance(entry.value, ast.Constant)
        and isinstance(entry.value.value, str)
    )
