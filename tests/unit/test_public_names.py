"""What `import engram` offers: every name opens in a new process, and type checkers see it."""

import ast
import subprocess
import sys
from pathlib import Path

import engram


def test_every_public_name_opens_first_in_a_new_process():
    # `engram.engine` once opened only after another name had been asked for
    asked = "import engram; engram.engine.EngineRun; [getattr(engram, n) for n in engram.__all__]"
    subprocess.run([sys.executable, "-W", "error", "-c", asked], check=True, timeout=100)


def test_type_checkers_are_told_of_the_same_names():
    tree = ast.parse(Path(engram.__file__).read_text(encoding="utf-8"))
    told = {
        name.name
        for branch in tree.body
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for line in branch.body
        if isinstance(line, ast.ImportFrom)
        for name in line.names
    }
    assert told == set(engram.__all__) - {"__version__"} == set(engram._PUBLIC)
