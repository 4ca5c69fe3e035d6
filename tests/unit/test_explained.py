"""What the catalogue can tell of every method, read from files alone."""

import json
import re
import shlex
import subprocess
import sys

import pytest

from engram import catalog
from engram.cli import dispatch
from engram.cli.judge import AuditOptions, TargetOptions
from engram.cli.make import EditOptions, TrainOptions, TransformOptions
from engram.cli.parse import parse
from engram.core import EngramError
from engram.explained import explained, paragraphs, read_verdicts, write_verdicts

METHODS = {
    f"{kind}/{name}": entry
    for kind in catalog.KINDS
    for name, entry in catalog.entries(kind).items()
    if entry.address.startswith("engram.")
}
OPTIONS = {"transform": TransformOptions, "train": TrainOptions, "edit": EditOptions,
           "measure": TargetOptions}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_explained_in_full(name):
    page = explained(METHODS[name])
    parts = paragraphs(page.text)
    styles = [part.style for part in parts]
    assert page.summary.endswith("."), "one sentence first"
    assert styles[:2] == ["prose", "prose"], "then the idea"
    assert "formula" in styles[2:], "then the formula"
    assert "    " not in parts[1].text
    assert any(part.text.startswith("Differs from the paper") for part in parts), "then differences"
    for field in page.fields:
        assert field.help.endswith("."), f"{field.name}: what does it mean?"
        assert not re.fullmatch(r"[A-Z_]+(\[.*\])?", field.default), f"{field.name}: a name"
        assert not re.fullmatch(r"[A-Z]\w+", field.type), f"{field.name}: a name"
    assert page.paper is not None
    assert page.paper.url.startswith("https://")
    assert 1900 < page.paper.year < 2100
    if page.kind in ("attacks", "measures"):
        assert page.needs[0].startswith("access to the model's ")


@pytest.mark.parametrize("name", METHODS)
def test_engram_explain_prints_all_of_it(name, capsys):
    page = explained(METHODS[name])
    assert dispatch(["explain", page.name]) == 0
    said = " ".join(capsys.readouterr().out.split())
    wanted = [page.name, page.text, page.example, str(page.paper), *page.needs]
    wanted += [f"{f.name}: {f.type}" for f in page.fields] + [f.help for f in page.fields]
    wanted += [f"{c.verdict}: {c.text} ({c.ours})" for s in page.studies for c in s.claims]
    for words in wanted:
        assert " ".join(words.split()) in said


def test_names_are_unique_over_all_kinds():
    names = [name.partition("/")[2] for name in METHODS]
    assert len(names) == len(set(names)), "engram explain NAME would have to guess"


@pytest.mark.parametrize("name", METHODS)
def test_the_example_is_a_command_that_can_be_given(name):
    page = explained(METHODS[name])
    program, command, *args = shlex.split(page.example)
    assert program == "engram"
    if command == "audit":
        parsed = parse("engram audit", args, AuditOptions)
        assert parsed.options.attacks == page.name
        return
    assert args[0] == page.name
    parse(f"engram {command}", args[1:], OPTIONS[command], METHODS[name].load())


def test_fields_and_constants_of_bases_are_found():
    page = explained(catalog.find("recipes", "dp-finetune-lm"))
    names = [field.name for field in page.fields]
    assert names[0] == "base", "inherited fields come first"
    assert "epsilon" in names
    assert len(names) == len(set(names))
    assert "makes a target of the family causal-lm" in page.needs


def test_named_types_and_defaults_are_shown_as_they_are():
    fields = {f.name: f for f in explained(catalog.find("attacks", "spv-mia")).fields}
    assert fields["space"].type == 'Literal["probability", "log"]'
    assert fields["reference"].default == '"self-prompt"'
    assert fields["prompts"].default == '"none"'


def test_paragraphs_of_a_docstring():
    found = paragraphs(
        "One sentence.\n\nAn idea\nover lines.\n\n    x = y\n\n    z = x\n\nWhere x is:\n- one\n"
        "  more\n- two\n\nDiffers from the paper: 1. It is\nso. 2. At 2.5 it is not."
    )
    assert [part.style for part in found] == ["prose", "prose", "formula", "list", "list"]
    assert found[1].text == "An idea over lines."
    assert found[2].text == "x = y\n\nz = x"
    assert found[3].items == ("one more", "two")
    assert found[4].items == ("It is so.", "At 2.5 it is not.")


def test_verdicts_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "verdicts.json"
    write_verdicts(read_verdicts(), path)
    assert read_verdicts(path) == read_verdicts()


@pytest.mark.parametrize("text", ['{"studies": [{}]}', '{"studies": 3}', "{}", "[]", "no"])
def test_damaged_verdicts_are_an_error_with_a_remedy(tmp_path, text):
    path = tmp_path / "verdicts.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EngramError):
        read_verdicts(path)


def test_explaining_imports_no_method():
    code = (
        "import json, sys; from engram.cli import dispatch\n"
        "for name in ('spv-mia', 'dp-finetune-lm', 'exposure'): dispatch(['explain', name])\n"
        "print(json.dumps([m for m in sys.modules if m == 'torch' or '.methods.' in m]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_a_method_without_a_file_is_an_error():
    entry = catalog.Entry("attacks", "gone", "", "engram.methods.attacks.gone:Gone")
    with pytest.raises(EngramError, match="cannot be found"):
        explained(entry)
