"""Every command that README and the documentation write is run: none may stop a reader.

Each must parse exactly as it is written. The scripts of the how-tos are run whole, and their pages
show them word for word; README and tutorial are run by `scaled.py`. Nothing may use the network.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import scaled
from ready import SHIM

from engram.cli import main
from engram.cli.help import EXAMPLES

HOME = Path(__file__).resolve().parents[2]
HOW_TO = HOME / "docs" / "how-to"
SCRIPTS = HOW_TO / "scripts"
NAMES = sorted(path.stem for path in SCRIPTS.glob("*.sh"))
PAGES = [HOME / "README.md", HOME / "CONTRIBUTING.md", *sorted((HOME / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
SHELL, SHOWN = ("sh", "console", "bash", ""), ("text", "json")
"""Fences that hold commands, and those that show what came of them."""
BY_HAND = {"doctor": (), "ls": (), "explain": ()}
"""Commands that are so cheap that they are run as they stand."""
NEEDS = {"train-with-dp": "opacus", "run-on-ray": "ray", "delete-from-a-graph": "torch_geometric",
         "compare-defences": "peft", "add-a-method": "hatchling"}  # fmt: skip
OFFLINE = """
import socket

local, connect = ("127.0.0.1", "localhost", "::1"), socket.socket.connect

def guarded(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in local:
        raise OSError(f"a command of the documentation asked {address[0]}")
    return connect(self, address)

socket.socket.connect = guarded
"""


def fences(page):
    """Language and text of each fenced block; an indented one without its indent."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [
        (language, re.sub(f"^{indent}", "", text, flags=re.M)) for indent, language, text in found
    ]


def commands(page):
    """The commands of `engram` and `make` in a page's fences, each as one line."""
    lines = [
        line.strip()
        for language, text in fences(page)
        if language in SHELL
        for line in text.replace("\\\n", " ").splitlines()
    ]
    words = [re.split(r" \|\|? | > ", line)[0] for line in lines]
    found = [re.sub(r"\s+", " ", re.sub(r"\s#\s.*$", "", line)).strip() for line in words]
    return [line for line in found if line.startswith(("engram ", "make "))]


WRITTEN = [
    pytest.param(command, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, command in enumerate(commands(page))
] + [
    pytest.param(example, id=f"help-{command}-{number}")
    for command, examples in EXAMPLES.items()
    for number, example in enumerate(examples)
]


def test_commands_are_found():
    assert len(commands(HOME / "README.md")) > 30
    assert all(commands(HOW_TO / f"{name}.md") for name in NAMES)


@pytest.mark.parametrize("written", WRITTEN)
def test_parses_as_it_is_written(written, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(SCRIPTS)  # where a --config that is named lies
    tool, *words = shlex.split(written)
    if tool == "make":
        assert re.search(rf"^{words[0]}:", (HOME / "Makefile").read_text(), re.MULTILINE)
        return
    if words[0] in BY_HAND:
        return
    if "same.toml" in words:  # which the script writes
        text = (SCRIPTS / "compare-defences.sh").read_text().split("TOML")[1].lstrip("'\n")
        (tmp_path / "same.toml").write_text(text)
        monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main([*words, "--print-config"])
    said = capsys.readouterr()
    assert not stop.value.code, said.err


# ---- pages show their scripts


def plain(text):
    """Lines that say something."""
    return [line.rstrip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_its_script_whole_and_in_order(name):
    script = (SCRIPTS / f"{name}.sh").read_text(encoding="utf-8")
    head, _, body = script.partition("set -euo pipefail\n")
    assert head.startswith("#!/usr/bin/env bash\n# The commands of docs/how-to/")
    assert f"docs/how-to/{name}.md" in head
    page = HOW_TO / f"{name}.md"
    shown = "\n".join(text for language, text in fences(page) if language == "sh")
    assert plain(shown) == plain(body)


@pytest.mark.parametrize("page", sorted(HOW_TO.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_says_what_a_reader_needs(page):
    text = page.read_text(encoding="utf-8")
    wanted = ("What you need", "The commands", "What you see", "What to do next")
    assert [h for h in wanted if f"\n## {h}\n" not in text] == []
    assert "\n## What it means" in text
    assert page.stem in NAMES, "a how-to without a script that is run"
    known = {*SHELL, *SHOWN, "python", "toml"} - {"", "bash"}
    assert {language for language, _ in fences(page)} <= known


@pytest.mark.parametrize("name", NAMES)
def test_files_that_a_script_uses_are_shown_or_linked(name):
    script = (SCRIPTS / f"{name}.sh").read_text(encoding="utf-8")
    page = (HOW_TO / f"{name}.md").read_text(encoding="utf-8")
    blocks = [text for language, text in fences(HOW_TO / f"{name}.md") if language == "python"]
    used = [p for p in SCRIPTS.iterdir() if p.suffix != ".sh" and p.name in script]
    for path in used:
        shown = path.read_text(encoding="utf-8") in blocks
        assert shown or f"(scripts/{path.name})" in page, path.name
    assert len(blocks) == sum(path.read_text(encoding="utf-8") in blocks for path in used)


# ---- everything is run


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """A folder with `engram`, `python` and `pip` that need no time to start, and no network."""
    folder = tmp_path_factory.mktemp("tools")
    (folder / "sitecustomize.py").write_text(OFFLINE)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(paths), "NO_COLOR": "1", "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "100",
    }  # fmt: skip
    environment.pop("ENGRAM_RUNS", None)
    environment.pop("ENGRAM_DATA", None)
    address = str(folder / "asked")
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("ready.py"), address],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
    )  # fmt: skip
    assert server.stdout.readline() == b"ready\n"
    for name in ("engram", "python"):
        (folder / name).write_text(SHIM.format(python=sys.executable, address=address))
        (folder / name).chmod(0o755)
    (folder / "pip").write_text(
        f"#!/bin/sh\nshift\nexec {sys.executable} -m pip install --quiet --no-deps --no-index "
        '--no-build-isolation --disable-pip-version-check --target "$PIP_SITE" "$@"\n'
    )
    (folder / "pip").chmod(0o755)
    yield {**environment, "PATH": f"{folder}{os.pathsep}{environment['PATH']}"}
    server.stdin.close()
    server.stdout.close()
    assert server.wait(60) == 0


@pytest.fixture
def bash(tools, tmp_path):
    """Run lines of bash in a folder that holds the scripts; the output of the last."""
    for path in SCRIPTS.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    site = tmp_path / "site"
    paths = os.pathsep.join([str(site), tools["PYTHONPATH"]])

    def run(*words):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            more = {"PORT": str(free.getsockname()[1])}
        done = subprocess.run(
            ["bash", *words], cwd=tmp_path, capture_output=True, text=True, check=False,
            timeout=600, env={**tools, "PYTHONPATH": paths, "PIP_SITE": str(site), **more},
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    return run


SAYS = {
    "audit-a-model": ("OVER  reference: AUC", "exit code 1"),
    "audit-losses": ("\nratio ", "cannot be told apart without the model"),
    "audit-an-api": ("\nmin-k ", "it needs tokens, which api-lm targets do not give"),
    "stop-in-time": ("target: watched",),
    "compare-defences": ("At a validation perplexity of", "goldfish"),
    "train-with-dp": ("0.001)-DP per record", "epsilon lower bound"),
    "answer-a-deletion-request": ("word for word", "exit code 2"),
    "delete-from-a-table": ("the weights in digits-2 are those that entry 1 describes",),
    "delete-from-a-graph": ("the weights in nodes-2 are those that entry 1 describes",),
    "protect-images": ("least Bayes error", "PSNR on members"),
    "scan-for-a-backdoor": ("class 7 looks poisoned", "attack success on outsiders"),
    "run-on-ray": ("\nlira ", "\nrmia "),
    "add-a-method": ("Score a text by its least likely token.", "\nworst-token "),
}
"""What each script must say in the end: its page builds on it."""


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_scripts_run_and_say_what_their_pages_tell(name, bash):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    said = bash(f"{name}.sh")
    for words in SAYS[name]:
        assert words in said


@pytest.mark.parametrize(
    ("page", "table"),
    [("README.md", scaled.README), ("docs/tutorial.md", scaled.TUTORIAL)],
)
def test_every_command_has_an_entry(page, table):
    assert [written for written, _ in table] == commands(HOME / page)
    for written, instead in table:
        if instead.startswith("in "):
            place = HOME / instead.removeprefix("in ")
            asked = written.split()[1] if written.startswith("engram") else "demo"
            assert asked in place.read_text(encoding="utf-8") or written == "make test"


@pytest.mark.slow
@pytest.mark.parametrize("table", [scaled.README, scaled.TUTORIAL], ids=["readme", "tutorial"])
def test_every_command_runs(table, bash, tmp_path):
    pytest.importorskip("peft")
    lines = [scaled.PREPARED]
    for written, instead in table:
        if not instead.startswith("in "):
            command = written if instead == scaled.AS_IT_IS else instead
            assert command.split()[:2] == written.split()[:2], "another command is run in its place"
            lines += [f"echo {shlex.quote(f'run: {command}')}", command]
    (tmp_path / "commands.sh").write_text("set -eu\n" + "\n".join(lines))
    assert "run: " in bash("commands.sh")
