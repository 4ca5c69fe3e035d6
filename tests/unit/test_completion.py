"""Tab completion: what is offered, by whom it is asked for, and that nothing is imported for it."""

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import engram
from engram import catalog
from engram.cli import COMMANDS, completion, main
from engram.cli.completion import answer, words_of
from engram.cli.options import BY_HAND, KIND_OF, options_class
from engram.cli.parse import _flags

SOURCES = Path(engram.__file__).parents[1]


CHEAP = {"transform": "partition", "train": "fit-estimator", "edit": "npo", "measure": "accuracy"}
"""Methods that are soon imported."""


def offered(line):
    return [word for word, _ in answer(words_of(line))]


def said(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    return stop.value.code, *capsys.readouterr()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in BY_HAND])
def test_options_are_those_that_the_command_takes(command):
    """Read from files; and what the command parses with, once imported, is the same."""
    module = import_module(f"engram.cli.{COMMANDS[command][0]}")
    options = getattr(module, options_class(command))
    positional = ("target", "targets", "runs", "what", "name")
    want = {f"--{name}" for name in _flags(options) if name not in positional}
    name = CHEAP.get(command, "")
    if name:
        method = catalog.find(KIND_OF[command], name).load()
        want |= {f"--{field}" for field in _flags(method)}
    shown = offered(f"engram {command} {name} --" if name else f"engram {command} --")
    assert want <= set(shown)
    assert {o for o in shown if not o.startswith("--no-")} == want | {"--help"}


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("engram ", ["train", "audit", "completion", "--version"]),
        ("engram au", ["audit"]),
        ("engram train dp-train", ["dp-train-classifier"]),
        ("engram train --seed 3 fin", []),
        ("engram measure vis", ["visibility"]),
        ("engram edit np", ["npo"]),
        ("engram transform un", ["unlearnable-clusters"]),
        ("engram explain min-k-", ["min-k-plus-plus"]),
        ("engram ls fam", ["families"]),
        ("engram completion z", ["zsh"]),
        ("engram train finetune-lm --base x --rank", ["--rank"]),
        ("engram train finetune-lm --method pre", ["prefix"]),
        ("engram train finetune-lm --method=pre", ["--method=prefix"]),
        ("engram transform deduplicate --level ", ["exact", "near"]),
        ("engram audit t --battery q", ["quick"]),
        ("engram audit t --attacks loss,zl", ["loss,zlib"]),
        ("engram forget t --method au", ["auto"]),
        ("engram audit t --long ", ["window", "refuse"]),
        ("engram audit t --family mas", ["masked-lm"]),
        ("engram study x --budget s", ["smoke", "small"]),
        ("engram help tr", ["train", "transform"]),
        ("engram train finetune-lm --data demo:let", ["demo:letters"]),
        ("engram nonsense ", []),
        ("engram audit ", []),
        ("engram audit 'a b", []),
        ("", ["train"]),
    ],
)
def test_what_is_offered(line, some):
    shown = offered(line)
    assert set(some) <= set(shown)
    assert bool(shown) == bool(some), shown


def test_every_method_is_offered_where_it_belongs():
    for command, kind in KIND_OF.items():
        assert offered(f"engram {command} ") == list(catalog.entries(kind))


def test_names_and_options_are_told_without_importing_a_method():
    code = (
        "import sys; from engram.cli.completion import _tell;"
        "_tell('zsh', 'engram train finetune-lm --me'); _tell('zsh', 'engram audit --attacks ');"
        "heavy = {'torch', 'transformers', 'pyarrow', 'tyro', 'numpy'} & set(sys.modules);"
        "ours = [m for m in sys.modules if m.startswith(('engram.methods', 'engram.engine'))];"
        "assert not heavy and not ours, (heavy, ours)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": str(SOURCES)})  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "--method\t" in ran.stdout


def test_help_says_how_to_install_it(capsys):
    code, out, _ = said(capsys, "completion", "--help")
    assert code == 0
    assert all(word in out for word in ("~/.bashrc", "~/.zshrc", "fish/completions"))
    assert "engram completion" in said(capsys, "--help")[1]
    code, out, _ = said(capsys, "completion", "bash", "--json")
    assert json.loads(out)["script"] == completion.BASH
    code, _, err = said(capsys, "completion", "fich")
    assert code == 2
    assert "did you mean fish?" in err


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """A folder with a program `engram`, and one with files to fall back on."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "engram"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={SOURCES} exec {sys.executable} -m engram "$@"\n')
    program.chmod(0o755)
    (folder / "records.jsonl").write_text("{}\n")
    return folder


def shell(shim, *command):
    env = {**os.environ, "PATH": f"{shim}{os.pathsep}{os.environ['PATH']}", "HOME": str(shim)}
    ran = subprocess.run(command, capture_output=True, text=True, env=env, cwd=shim, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split("\n")[:-1]


BASH = """
eval "$(engram completion bash)"
reply() {
    COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}; _engram; printf '%s,' "${COMPREPLY[@]}"; echo
}
reply 'engram doc'
reply 'engram train goldf'
reply 'engram train goldfish-lm --dropp'
reply 'engram train goldfish-lm --data demo:lett'
reply 'engram audit rec'
complete -p engram
"""


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_bash(shim):
    *found, how = shell(shim, "bash", "--norc", "-c", BASH)
    drop = ",".join(o for o in offered("engram train goldfish-lm --dropp"))
    assert found == ["doctor,", "goldfish-lm,", f"{drop},", "letters,", ","]
    assert "-o default" in how, "files, where it knows nothing"


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish")
def test_fish(shim):
    found = shell(
        shim, "fish", "--no-config", "-c",
        "engram completion fish | source; complete -C 'engram doc'; "
        "complete -C 'engram explain min-k-pl'; complete -C 'engram audit rec'",
    )  # fmt: skip
    assert [line.partition("\t")[0] for line in found] == [
        "doctor", "min-k-plus-plus", "records.jsonl",
    ]  # fmt: skip


ZSH = """
compdef() { :; }
compadd() { local -a list; list=("${(@P)argv[-1]}"); print -r -- "${(j:,:)list}"; }
_files() { print files; }
eval "$(engram completion zsh)"
words=(engram doc); CURRENT=2; _engram
words=(engram train goldf); CURRENT=3; _engram
words=(engram audit rec); CURRENT=3; _engram
"""


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh")
def test_zsh(shim):
    assert shell(shim, "zsh", "-f", "-c", ZSH) == ["doctor", "goldfish-lm", "files"]
