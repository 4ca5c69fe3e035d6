"""The file system is the registry, and names are unique."""

import json
import subprocess
import sys

import pytest

from engram import catalog
from engram.core import EngramError


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
