"""`engram COMMAND --help`: everything that can be given, fitting a page, and at once."""

import json
import subprocess
import sys
from importlib import import_module

import pytest

from engram import catalog
from engram.cli import COMMANDS, OWN_HELP, main
from engram.cli.help import EXAMPLES, WIDEST
from engram.cli.options import KIND_OF, options_class
from engram.cli.parse import _flags

COMMAND = [name for name, (module, _) in COMMANDS.items() if module not in OWN_HELP]
CHEAP = {"transform": "deduplicate", "train": "fit-estimator", "edit": "npo", "measure": "accuracy"}


def said(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main([*args])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def flags_in(page):
    """The options that a help shows at the beginning of a line."""
    lines = [line.strip() for line in page.splitlines() if line.startswith("  --")]
    return {line.split()[0].rstrip(",") for line in lines}


@pytest.mark.parametrize("command", COMMAND)
def test_all_that_a_command_takes_is_shown_and_fits(command, capsys):
    options = getattr(import_module(f"engram.cli.{COMMANDS[command][0]}"), options_class(command))
    code, page, _ = said(capsys, command, "--help")
    assert code == 0
    placed = ("target", "targets", "runs", "what", "name")
    assert flags_in(page) == {f"--{name}" for name in _flags(options) if name not in placed}
    assert max(map(len, page.splitlines())) <= WIDEST
    assert page.startswith(f"usage: engram {command} ")
    assert all(example in page for example in EXAMPLES[command])
    for name in catalog.entries(KIND_OF[command]) if command in KIND_OF else ():
        assert f"  {name}" in page


@pytest.mark.parametrize(("command", "name"), CHEAP.items())
def test_the_fields_of_a_method_come_first(command, name, capsys):
    code, page, _ = said(capsys, command, name, "-h")
    assert code == 0
    fields = _flags(catalog.find(KIND_OF[command], name).load())
    shown = page.partition("\noptions:")[0]
    assert flags_in(shown) == {f"--{field}" for field in fields}
    assert f"more: engram explain {name}" in page


def test_defaults_and_choices_are_told_and_nothing_is_said_of_none(capsys):
    page = said(capsys, "train", "finetune-lm", "--help")[1]
    assert "--epochs N            Times that each record is seen. (default: 3)" in page
    assert "--method full|head|block|adapter|lora|prefix|prompt\n" in page
    assert "{None}" not in page
    assert "default: ''" not in page
    assert "--browser, --no-browser" in said(capsys, "view", "--help")[1]


def test_help_of_a_method_that_is_not_there(capsys):
    code, out, err = said(capsys, "train", "finetune-lms", "--help")
    assert (code, out) == (2, "")
    assert "error: " in err
    assert "finetune-lm" in err


def test_every_method_has_a_help(capsys):
    for command, kind in KIND_OF.items():
        for name in catalog.entries(kind):
            assert said(capsys, command, name, "--help")[0] == 0


def test_help_imports_no_method_and_no_engine():
    code = (
        "import sys, json; from engram.cli import main\n"
        "try: main(['train', 'finetune-lm', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'tyro', 'numpy', 'engram.engine'} & set(sys.modules)\n"
        "print(json.dumps(sorted(heavy)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout.splitlines()[-1]) == []


def test_what_is_given_by_its_place_is_in_the_usage(capsys):
    assert "usage: engram verify [WHAT...] [OPTIONS]" in said(capsys, "verify", "--help")[1]
    assert "usage: engram forget TARGET [OPTIONS]" in said(capsys, "forget", "--help")[1]
    assert "usage: engram compare TARGET... [OPTIONS]" in said(capsys, "compare", "--help")[1]
    assert "usage: engram measure accuracy TARGET" in said(capsys, "measure", "accuracy", "-h")[1]
