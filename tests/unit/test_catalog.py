"""The file system is the registry, and names are unique."""

import json
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from engram import catalog
from engram.core import EngramError
from engram.explained import explained


def test_every_entry_loads_and_knows_its_own_name():
    for kind in catalog.KINDS:
        for name, entry in catalog.entries(kind).items():
            method = entry.load()
            assert catalog.name_of(method) == name
            assert catalog.kind_of(method) == kind
            assert entry.summary.endswith(".")


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(EngramError, match="no method called 'mink' in attacks") as caught:
        catalog.find("attacks", "mink")
    assert "did you mean min-k" in caught.value.hint


def test_a_name_of_another_kind_is_pointed_out():
    with pytest.raises(EngramError) as caught:
        catalog.find("attacks", "perplexity")
    assert "one of the measures" in caught.value.hint


def test_an_unknown_kind_is_an_error():
    with pytest.raises(EngramError, match="no kind of method called 'attack'"):
        catalog.entries("attack")


def test_two_methods_of_one_name_are_an_error(monkeypatch):
    twin = catalog.Entry("attacks", "loss", "twin", "elsewhere:Loss")
    monkeypatch.setattr(catalog, "_installed", lambda kind: [twin])
    with pytest.raises(EngramError, match="two methods in attacks are called 'loss'"):
        catalog.entries("attacks")


def test_a_method_that_cannot_be_imported_names_its_extra():
    entry = catalog.Entry("edits", "x", "", "no_such_package.x:X", extra="peft")
    with pytest.raises(EngramError) as caught:
        entry.load()
    assert "engram[peft]" in caught.value.hint


def test_listing_imports_neither_torch_nor_numpy():
    code = (
        "import sys, json; from engram.cli import main\n"
        "try: main(['ls', '--json'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "print(json.dumps([m for m in ('torch', 'numpy', 'transformers', 'pyarrow') "
        "if m in sys.modules]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr) == []
    assert "min-k" in {row["name"] for row in json.loads(done.stdout)["attacks"]}


def test_a_method_that_does_not_say_what_it_needs_is_an_error_with_a_hint():
    entry = catalog.Entry("measures", "mine", "", "engram.core.paper:Paper")
    with pytest.raises(EngramError, match="does not state 'needs', as measures do"):
        entry.load()


PLUGIN = """
\"\"\"Someone else's.\"\"\"
from dataclasses import dataclass
from typing import ClassVar
from engram.core import Paper
P = Paper("T", "A", 2024, "https://x.y")
@dataclass(frozen=True)
class Whole:
    paper: ClassVar = P
    needs: ClassVar = frozenset()
    access: ClassVar = "text"
    share: float = 0.5
class Plain:
    paper, needs, access = P, frozenset(), "text"
@dataclass(frozen=True)
class WithoutPaper:
    needs: ClassVar = frozenset()
    access: ClassVar = "text"
@dataclass(frozen=True)
class WrongNeeds(Whole):
    needs: ClassVar = "tokens"
@dataclass(frozen=True)
class WrongAccess(Whole):
    access: ClassVar = "all"
"""


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Packages of somebody else: one that hands its class on, one that fails in each of its files.

    They are importable while the tests of this file run.
    """
    folder = tmp_path_factory.mktemp("others")
    for name, start in (("sound", "from .inner import Whole\n"), ("unsound", "1 / 0\n")):
        (folder / f"their_{name}").mkdir()
        (folder / f"their_{name}" / "__init__.py").write_text(start)
        (folder / f"their_{name}" / "inner.py").write_text(PLUGIN.strip())
    (folder / "their_broken.py").write_text("def (")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder
        for name in [n for n in sys.modules if n.startswith("their_")]:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("address", "fact"),
    [
        ("their_unsound.inner:Whole", "ZeroDivisionError: division by zero"),
        ("their_broken:Whole", "SyntaxError"),
        ("their_sound.inner", "no attribute"),
        ("their_sound.inner:Gone", "no attribute 'Gone'"),
        ("their_sound.inner:Plain", "is no dataclass"),
        ("their_sound.inner:WithoutPaper", "does not state 'paper'"),
        ("their_sound.inner:WrongNeeds", "states needs as 'tokens'"),
        ("their_sound.inner:WrongAccess", "states access as 'all'"),
    ],
)
def test_what_somebody_else_got_wrong_is_told_with_a_hint(others, address, fact):
    with pytest.raises(EngramError, match=fact) as caught:
        catalog.Entry("attacks", "theirs", "", address).load()
    assert caught.value.hint


def test_a_package_may_hand_its_class_on(others, monkeypatch):
    point = EntryPoint("theirs", "their_sound:Whole", "engram.attacks")
    monkeypatch.setattr(catalog, "_points", lambda: (point,))
    method = catalog.find("attacks", "theirs").load()
    assert (catalog.name_of(method), catalog.kind_of(method)) == ("theirs", "attacks")
    page = explained(catalog.find("attacks", "theirs"))
    assert [field.name for field in page.fields] == ["share"]


def test_listing_runs_no_package_of_somebody_else(others, monkeypatch):
    # To find a module inside a package Python runs the package, and this one fails.
    addresses = ("their_unsound.inner:Whole", "their_broken:Whole", "their_missing:Whole")
    points = [EntryPoint(f"x{i}", to, "engram.attacks") for i, to in enumerate(addresses)]
    monkeypatch.setattr(catalog, "_points", lambda: tuple(points))
    known = catalog.entries("attacks")
    assert known["x0"].summary == "Someone else's."
    for name, fact in (("x1", "is not Python"), ("x2", "cannot be found")):
        with pytest.raises(EngramError, match=fact) as caught:
            explained(known[name])
        assert caught.value.hint
