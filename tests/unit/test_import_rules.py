"""Who may import whom (by reading the sources), and what stays unimported until it is needed."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import engram

HOME = Path(engram.__file__).parent
KINDS = ("transforms", "recipes", "edits", "attacks", "measures")
SOURCES = sorted(HOME.rglob("*.py"))
ALLOWED = {
    "core": {"core"},
    "stats": {"core", "stats"},
    "parts": {"core", "stats", "parts"},
    "families": {"core", "stats", "parts", "families"},
    "signals": {"core", "stats", "parts", "families", "signals"},
    "methods": {"core", "parts", "stats", "families", "signals", "methods"},
    "report": {"core", "store", "report"},
    "web": {"core", "store", "report", "web"},
}
"""Packages of ours that each package of ours may import."""


def dotted(path: Path, home: Path = HOME) -> str:
    parts = path.relative_to(home.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, home: Path) -> Iterator[str]:
    """Everything of ours that a file names in an import, wherever in the file it stands."""
    here = dotted(path, home).split(".")
    package = here if path.name == "__init__.py" else here[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield start
            yield from (f"{start}.{alias.name}" for alias in node.names)


def ours(path: Path, home: Path = HOME) -> set[str]:
    return {name for name in imports(path, home) if name.split(".")[0] == "engram"}


@pytest.mark.parametrize("path", SOURCES, ids=dotted)
def test_packages_import_only_what_they_may(path):
    package = path.relative_to(HOME).parts[0]
    if package not in ALLOWED:
        return
    known = {p.name for p in HOME.iterdir() if p.is_dir()} | {"catalog"}
    used = {name.split(".")[1] for name in ours(path) if "." in name} & known
    assert used <= ALLOWED[package], f"{dotted(path)} imports {used - ALLOWED[package]}"


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.relative_to(HOME).parts[0] == "methods"], ids=dotted
)
def test_no_method_imports_another(path):
    own = dotted(path).split(".")[:4]
    for name in ours(path):
        parts = name.split(".")
        if parts[:2] == ["engram", "methods"] and len(parts) > 3:
            assert parts[:4] == own, f"{dotted(path)} imports {name}"


def test_hidden_and_relative_imports_are_seen(tmp_path):
    home = tmp_path / "engram"
    (home / "core").mkdir(parents=True)
    bad = home / "core" / "bad.py"
    bad.write_text("def f():\n    from engram.stats import roc\n    from .. import families\n")
    assert {"engram.stats.roc", "engram.families"} <= ours(bad, home)


@pytest.mark.parametrize(
    "code",
    [
        "import engram",
        "import engram.core",
        "import engram.catalog",
        "from engram.catalog import KINDS, entries; [entries(k) for k in KINDS]",
        "import engram; engram.EngramError, engram.Paper",
        "import engram.cli",
        "import engram.integrations; dir(engram.integrations)",
    ],
)
def test_light_imports_stay_light(code):
    heavy = ["torch", "transformers", "sklearn", "datasets", "scipy", "pandas"]
    program = (
        f"{code}\nimport sys, json; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
