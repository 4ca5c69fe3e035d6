"""What every method must be, whatever its kind: checked for each one that the catalogue finds.

Plug-ins are checked with the same rules: install one, and run this folder.
"""

import ast
import inspect
import json
import re
from dataclasses import asdict, fields, is_dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from engram.catalog import KINDS, class_name, entries, kind_of, name_of
from engram.core import Paper

METHODS = [
    pytest.param(entry, id=f"{kind}:{name}")
    for kind in KINDS
    for name, entry in entries(kind).items()
]
pytestmark = pytest.mark.parametrize("entry", METHODS)


def source_of(method) -> Path:
    return Path(inspect.getsourcefile(method))


def own_files(method) -> list[Path]:
    """The method's file, or all files of its folder."""
    path = source_of(method)
    folder = path.name == "__init__.py" and path.parent.parent.name in KINDS
    return sorted(path.parent.rglob("*.py")) if folder else [path]


def class_body(method) -> list[ast.stmt]:
    """What stands in the method's class, after what stands in the dataclasses above it."""
    return [
        statement
        for cls in reversed(method.__mro__)
        if is_dataclass(cls)
        for node in ast.walk(ast.parse(source_of(cls).read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__
        for statement in node.body
    ]


def test_has_a_proper_name(entry):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", entry.name)


def test_its_class_is_called_as_it_is(entry):
    method = entry.load()
    assert method.__name__ == class_name(entry.name.replace("-", "_"))
    assert (kind_of(method), name_of(method)) == (entry.kind, entry.name)


def test_is_a_frozen_dataclass(entry):
    method = entry.load()
    assert is_dataclass(method)
    assert method.__dataclass_params__.frozen


def test_can_be_made_without_arguments(entry):
    assert entry.load()() == entry.load()()


def test_its_configuration_is_plain_json(entry):
    text = json.dumps(asdict(entry.load()()), allow_nan=False)
    assert json.dumps(json.loads(text)) == text


def test_every_field_is_documented(entry):
    method = entry.load()
    body = class_body(method)
    documented = {
        node.target.id
        for node, after in pairwise(body)
        if isinstance(node, ast.AnnAssign)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }
    assert {field.name for field in fields(method)} <= documented


def test_no_field_hides_an_option_of_the_command_line(entry):
    from engram.cli import judge, make

    options = {
        "transforms": [make.TransformOptions],
        "recipes": [make.TrainOptions],
        "edits": [make.EditOptions],
        "attacks": [],  # their fields are set by name: --set min-k.fraction=0.1
        "measures": [judge.TargetOptions],
    }[entry.kind]
    taken = {field.name for each in options for field in fields(each)}
    assert not taken & {field.name for field in fields(entry.load())}


def test_is_documented_itself(entry):
    method = entry.load()
    assert inspect.cleandoc(method.__doc__ or "").strip()
    # A dataclass without a docstring is given its signature for one.
    assert not (method.__doc__ or "").startswith(f"{method.__name__}(")


def test_cites_a_paper(entry):
    paper = entry.load().paper
    assert isinstance(paper, Paper)
    assert paper.url.startswith("https://")
    assert 1900 < paper.year < 2100
    assert paper.title
    assert paper.authors


def test_its_file_tells_idea_formula_and_differences(entry):
    text = inspect.getdoc(inspect.getmodule(entry.load())) or ""
    parts = [part for part in text.split("\n\n") if part.strip()]
    first, rest = parts[0], parts[1:]
    assert entry.summary
    assert text.startswith(entry.summary)
    assert first.rstrip().endswith((".", "?", ":")), "the first paragraph is one sentence"
    told = [p for p in rest if not p.startswith((" ", "Differs from the paper"))]
    assert told, "an idea for a newcomer follows the first sentence"
    assert any(line.startswith("    ") for line in text.splitlines()), "a formula, indented"
    flat = " ".join(text.split())
    assert "Differs from the paper:" in flat or "Nowhere that we know." in flat


def test_fits_into_short_files(entry):
    for path in own_files(entry.load()):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 200, path.name


def test_runs_no_code_from_files(entry):
    forbidden = {"eval", "exec", "pickle", "cloudpickle", "dill", "joblib", "shelve"}
    for path in own_files(entry.load()):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        imported = {
            alias.name.partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not forbidden & (named | imported)
        assert "torch.load" not in calls
        assert "trust_remote_code=True" not in path.read_text(encoding="utf-8").replace(" ", "")
