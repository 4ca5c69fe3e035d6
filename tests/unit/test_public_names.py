"""What `import engram` offers: every name opens in a new process, and type checkers see it."""

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import engram
import engram.core


def test_every_public_name_opens_first_in_a_new_process():
    # `engram.engine` once opened only after another name had been asked for
    asked = "import engram; engram.engine.EngineRun; [getattr(engram, n) for n in engram.__all__]"
    subprocess.run([sys.executable, "-W", "error", "-c", asked], check=True, timeout=100)


def told_of(package):
    """Pairs of a module and a name that are imported for type checkers alone."""
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    return [
        (line.module, name.name)
        for branch in tree.body
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for line in branch.body
        if isinstance(line, ast.ImportFrom)
        for name in line.names
    ]


def test_type_checkers_are_told_of_the_same_names():
    told = {name for _, name in told_of(engram)}
    assert told == set(engram.__all__) - {"__version__"} == set(engram._PUBLIC)


def test_no_name_is_a_module_to_a_type_checker():
    # mypy takes `engram.engine.audit` for the module where both it and a function are there
    told = [pair for pair in told_of(engram) if pair[0] != "engram"]
    assert told
    assert [pair for pair in told if find_spec(pair[0]).submodule_search_locations
            and find_spec(".".join(pair))] == []  # fmt: skip


@pytest.mark.parametrize("package", [engram, engram.core])
def test_a_name_that_is_misspelt_is_an_error_to_a_type_checker(package):
    # a `__getattr__` that type checkers see makes every name there, of the type Any
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    seen = [line.name for line in tree.body if isinstance(line, ast.FunctionDef)]
    assert "__getattr__" not in seen
    with pytest.raises(AttributeError, match="nothing"):
        package.nothing  # noqa: B018
