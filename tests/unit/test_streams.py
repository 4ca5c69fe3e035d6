"""Standard streams that are closed, full, narrow or left by their reader."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import engram
from engram.cli import main

SOURCES = Path(engram.__file__).parents[1]


def shell(line, **env):
    """What a shell says of `engram ...`, with Python in its place."""
    line = line.replace("engram", f"'{sys.executable}' -m engram")
    env = {**os.environ, "PYTHONPATH": str(SOURCES), **env}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=env)


def test_closed_streams_are_no_reason_to_fail():
    ran = shell("engram ls families >&- && engram explain loss >&- 2>&- <&-")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_mistake_is_not_told_on_the_output_where_errors_are_closed():
    ran = shell("engram nonsense --json 2>&-")
    assert ran.returncode == 2
    assert "nonsense" in json.loads(ran.stdout)["error"]


def test_a_full_disk_is_told_in_two_lines():
    ran = shell("engram ls --json >/dev/full")
    assert ran.returncode == 2
    assert [line.split(":")[0].strip() for line in ran.stderr.splitlines()] == ["error", "hint"]


def test_a_reader_that_has_gone_is_no_mistake():
    ran = shell("engram ls --json | true; exit ${PIPESTATUS[0]}")
    assert (ran.returncode, ran.stderr) == (0, "")


def on_a_terminal(*args):
    """What a terminal of 60 columns is shown."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(SOURCES), "COLUMNS": "60"}
    ran = subprocess.run([sys.executable, "-m", "engram", *args], stdout=theirs, env=env)
    os.close(theirs)
    assert ran.returncode == 0
    return os.read(ours, 2**16).decode().splitlines()


def test_lists_fit_a_terminal_and_are_whole_in_a_pipe():
    shown, piped = on_a_terminal("ls", "families"), shell("engram ls families").stdout.splitlines()
    assert max(map(len, shown)) <= 60 < max(map(len, piped))
    (start,) = [n for n, line in enumerate(shown) if line.startswith("  masked-lm ")]
    margin = piped[1].index("Language models")
    assert shown[start + 1].startswith(" " * margin)
    assert shown[start + 1][margin] != " "
    assert " ".join(" ".join(shown).split()) == " ".join(" ".join(piped).split())


def test_a_second_interrupt_ends_it_without_a_word(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("engram.cli.listing.ls", interrupted)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as stop:
            main(["ls"])
        assert stop.value.code == 130
        assert capsys.readouterr().err.startswith("error: interrupted")
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_name_that_the_locale_has_no_letters_for_is_refused(tmp_path):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = shell("engram doctor --store m\u00fcll", **plain)
    assert ran.returncode == 2
    assert "PYTHONUTF8=1" in ran.stderr
    assert not ran.stdout


def test_a_mistake_reads_the_same_without_a_frame():
    ran = shell("engram doctor --seed x", PYTHONIOENCODING="ascii")
    assert ran.stderr.startswith("error: --seed: invalid literal for int() with base 10: 'x'\n")


@pytest.mark.parametrize("line", ["prune", "reindex", "report nothing", "report --help"])
def test_commands_that_ask_no_model_import_no_torch(line, tmp_path):
    code = (
        "import sys; from engram.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: sys.exit({'torch', 'transformers'} & set(sys.modules) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code, *line.split()], capture_output=True,
                         text=True, env={**os.environ, "PYTHONPATH": str(SOURCES)},
                         cwd=tmp_path)  # fmt: skip
    assert ran.returncode == 0, ran.stderr


def test_an_interrupt_while_a_command_is_loaded_ends_it_at_once():
    code = (
        "import engram.cli, os, signal\n"
        "def load(name):\n"
        "    try: os.kill(os.getpid(), signal.SIGINT); [0 for _ in range(1000)]\n"
        "    except BaseException: os.abort()\n"
        "engram.cli.import_module = load; engram.cli.main(['doctor'])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": str(SOURCES)})  # fmt: skip
    assert ran.returncode == 130
    assert ran.stderr.startswith("error: interrupted")


def test_a_folder_that_is_gone_is_told():
    ran = shell('cd "$(mktemp -d)" && rmdir "$PWD" && engram doctor')
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: the folder that you are in has been deleted")
