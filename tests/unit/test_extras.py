"""Optional packages: every import of one is guarded, and who lacks one is told which group to get.

The second half runs the command line where none of them is installed: links to all other packages
lie in a folder of their own, and Python is started with that folder alone.
"""

import ast
import json
import sys
from functools import cache
from importlib.metadata import requires
from pathlib import Path

import pytest
from bare_site import bare_site, plain, python

import engram
from engram import catalog, extras
from engram.core import EngramError
from engram.explained import explained

HOME = Path(engram.__file__).parent
PACKAGES = {
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "torch_geometric": "torch-geometric",
}
"""Names to import that are not their package's name."""
CARRIED = {
    "networkx": "torch",
    "huggingface_hub": "transformers",
    "markupsafe": "jinja2",
    "llvmlite": "numba",
    "starlette": "fastapi",
}
"""Packages that come with one of those that we ask for."""
AFTER = {
    ("engram.parts.processes", "accelerate"): "only where `joined` has started the processes",
    ("engram.parts.adapters.attach", "peft"): "`require_peft` stands a line above",
    ("engram.signals.kernel", "numba"): "imported where `pick_route` has found numba",
    ("engram.signals.kernel", "llvmlite"): "the same",
    ("engram.cli.view", "uvicorn"): "`view` looks for what is missing before it starts",
}
"""Imports that another function guards."""
ELSEWHERE = {
    "accelerate": "more than one process was launched",
    "numba": "where it is missing, torch does the same",
    "llvmlite": "the same",
    "peft": "the model that is opened has adapters of low rank",
    "PIL": "the model that is opened has a published processor",
}
"""What a method may reach without being the one that needs it."""


def dotted(path):
    parts = path.relative_to(HOME.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in sorted(HOME.rglob("*.py"))}


@cache
def tree_of(module):
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def groups():
    """The group that carries each package."""
    found = {}
    for extra, names in extras.packages().items():
        found |= {plain(name): extra for name in names}
    return found


def package_of(name):
    return plain(PACKAGES.get(name, CARRIED.get(name, name)))


def named(node):
    """The packages of others that an import names."""
    names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
    tops = {name.partition(".")[0] for name in names}
    return {top for top in tops if top not in sys.stdlib_module_names and top != "engram"}


@cache
def imports(module):
    """Each package that a module imports, with the text of the handler that guards it, if any."""
    tree = tree_of(module)
    named_once = [n for n in tree.body if isinstance(n, ast.Assign)]
    texts = {ast.unparse(target): ast.unparse(n.value) for n in named_once for target in n.targets}
    found, guards = [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            caught = [h for h in node.handlers if h.type and "ImportError" in ast.unparse(h.type)]
            words = {n.id for h in caught for n in ast.walk(h) if isinstance(n, ast.Name)}
            said = "".join(ast.unparse(h) for h in caught)
            said += "".join(texts.get(word, "") for word in words)
            guards |= {id(each): said for part in node.body for each in ast.walk(part)}
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found += [(name, id(node)) for name in named(node)]
    return tuple((name, guards.get(which, "")) for name, which in found)


@cache
def neighbours(module):
    """The modules of ours that a module imports from."""
    names = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{a.name}" for a in node.names)}
    return names & set(MODULES)


def test_what_comes_with_another_really_does():
    for name, carrier in CARRIED.items():
        if carrier in ("fastapi",) and not extras.version_of(carrier):
            continue
        asked = {plain(line.split(";")[0].strip().split(" ")[0].split("<")[0].split(">")[0])
                 for line in requires(carrier)}  # fmt: skip
        assert any(plain(name) == each for each in asked), f"{carrier} does not bring {name}"


def test_every_import_of_an_optional_package_is_guarded():
    known = groups()
    for module, name, said in ((m, *each) for m in MODULES for each in imports(m)):
        assert package_of(name) in known, f"{module} imports {name}, which nothing asks for"
        extra = known[package_of(name)]
        if extra == extras.CORE or (module, name) in AFTER or module.startswith("engram.web"):
            continue
        assert f"engram[{extra}]" in said, f"{module}: {name} is missing without a hint"


def test_no_exception_is_left_over():
    for module, name in AFTER:
        assert name in {found for found, _ in imports(module)}


def reached(module):
    """The optional packages that a module's code can come to import, through modules of ours."""
    seen, todo = set(), [module]
    while todo:
        here = todo.pop()
        if here not in seen:
            seen.add(here)
            todo += neighbours(here)
    found = {name for here in seen for name, _ in imports(here)}
    return {name for name in found if groups()[package_of(name)] != extras.CORE}


@pytest.mark.parametrize("kind", catalog.KINDS)
def test_methods_name_the_groups_that_they_reach(kind):
    for entry in catalog.entries(kind).values():
        module = entry.address.partition(":")[0]
        if module not in MODULES:  # of another package
            continue
        told = {entry.extra, *dict(entry.extra_for)} - {""}
        reach = reached(module)
        assert told <= {groups()[package_of(name)] for name in reach}, entry.name
        owing = {groups()[package_of(name)] for name in reach - set(ELSEWHERE)}
        assert owing <= told, f"{entry.name} needs {owing - told} and does not say so"


def test_methods_that_can_train_an_adapter_say_so():
    for entry in catalog.entries("recipes").values():
        if entry.address.startswith("engram."):
            adapts = {"rank", "method"} <= {field.name for field in explained(entry).fields}
            assert ("peft" in dict(entry.extra_for)) == adapts, entry.name


def test_the_error_names_the_packages_and_the_group(monkeypatch):
    monkeypatch.setattr(extras, "version_of", lambda name: "")
    with pytest.raises(EngramError, match="visibility needs pillow and scikit-image") as caught:
        catalog.find("measures", "visibility").require()
    assert caught.value.hint == "pip install 'engram[vision]'"
    assert catalog.find("recipes", "finetune-lm").missing == ("peft",)
    catalog.find("recipes", "finetune-lm").require()  # most of its settings need nothing


SCRIPT = """
import contextlib, io, json, sys
from engram.cli import main
for line in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(line.split())
    except SystemExit as stop:
        print(json.dumps({"code": stop.code, "out": out.getvalue(), "err": err.getvalue()}))
"""
TINY = "--layers 1 --width 32 --heads 2 --vocabulary 300 --context 96 --epochs 1"
LINES = {
    "ls": "ls --json",
    "list": "ls recipes",
    "explain": "explain visibility",
    "help": "measure visibility --help",
    "base": f"train pretrain-lm --data demo:letters?n=24 --out base {TINY}",
    "core": "audit base --battery quick --json",
    "dp": "train dp-train-classifier --data sklearn:iris --out private",
    "vision": "measure visibility base",
    "dedup": "transform deduplicate --data demo:letters?n=24 --out few.jsonl",
    "exact": "transform deduplicate --data demo:letters?n=24 --level exact --out few.jsonl",
    "graph": "train train-graph-nodes --data demo:graph?n=60&communities=3 --out nodes",
    "peft": "train finetune-lm --data demo:letters?n=24 --base base --method lora --out small",
    "cluster": "audit base --shadows 4 --cluster local",
    "fast": "train train-graph-nodes --data demo:graph?n=60&communities=3 --architecture mlp "
    "--epochs 2 --out flat",
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """What each command says where no optional package is installed."""
    missing = {name for extra, names in extras.packages().items() if extra for name in names}
    site = bare_site(tmp_path_factory.mktemp("site"), missing)
    info = next(Path(sys.prefix).rglob("engram-*.dist-info"))
    (site / info.name).symlink_to(info)
    cwd = tmp_path_factory.mktemp("empty")
    script = cwd / "script.py"
    script.write_text(SCRIPT)
    ran = python(script, json.dumps(list(LINES.values())), path=[HOME.parent, site], cwd=cwd)
    said = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(said) == len(LINES), ran.stderr
    return dict(zip(LINES, said, strict=True)) | {"folder": cwd}


def test_the_core_works_without_any_of_them(bare):
    for name in ("base", "core", "exact", "fast"):
        assert bare[name]["code"] == 0, bare[name]["err"]
    assert json.loads(bare["core"]["out"])["findings"]


@pytest.mark.parametrize(
    ("extra", "package"),
    [("dp", "opacus"), ("vision", "scikit-image"), ("dedup", "datasketch"),
     ("graph", "PyTorch Geometric"), ("peft", "peft"), ("cluster", "Ray")],
)  # fmt: skip
def test_the_command_line_says_which_one_is_missing(extra, package, bare):
    said = bare[extra]
    assert said["code"] == 2, said
    fact, hint = said["err"].strip().splitlines()[-2:]
    assert fact.startswith("error: ")
    assert package in fact
    assert hint.startswith(f"  hint: pip install 'engram[{extra}]'")


def test_nothing_is_left_half_written(bare):
    left = {path.name for path in bare["folder"].iterdir()}
    assert left <= {"script.py", "base", "runs", "few.jsonl", "flat"}, left


def test_the_lists_say_what_is_missing(bare):
    rows = {row["name"]: row for row in json.loads(bare["ls"]["out"])["recipes"]}
    assert rows["dp-finetune-lm"]["missing"] == ["dp", "peft"]
    assert rows["finetune-lm"]["extra_for"] == {"peft": "method lora"}
    assert rows["train-classifier"]["missing"] == []
    assert "(needs engram[dp], not installed)" in bare["list"]["out"]
    assert "(method lora needs engram[peft], not installed)" in bare["list"]["out"]
    assert "pip install 'engram[vision]' (not installed)" in bare["explain"]["out"]
    assert bare["help"]["code"] == 0, "help works without"
