"""`engram view` from the command line: what it refuses, what it says, and that Ctrl-C ends it."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from engram.cli import main
from engram.core import EngramError


@pytest.fixture
def refused(capsys, tmp_path):
    def call(*args):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(["view", "--no-browser", *map(str, args)])
        out, err = capsys.readouterr()
        assert stop.value.code == 2
        assert [line.split(":")[0].strip() for line in err.strip().splitlines()] == [
            "error",
            "hint",
        ]
        assert not out
        return err

    return call


def test_without_a_store_it_says_so(refused, tmp_path):
    assert "there is no store" in refused("--store", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_folder_that_is_no_store_is_left_alone(refused, tmp_path):
    pytest.importorskip("fastapi", reason="the extra web is not installed")
    (tmp_path / "thesis.txt").write_text("chapter 1")
    assert "does not look like a store" in refused("--store", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    assert "is a file" in refused("--store", tmp_path / "thesis.txt")


def test_a_port_that_is_taken_is_told(refused, shelf):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = refused("--store", shelf.root, "--port", taken.getsockname()[1])
    assert "cannot listen" in said
    assert "--port" in said
    said = refused("--store", shelf.root, "--host", "192.0.2.1")
    assert "this machine alone" in said
    assert "another program" not in said


@pytest.mark.parametrize(
    "args", [("--port", 70000), ("--host", "no such host"), ("--host", "1.2.3.4")]
)
def test_a_wrong_port_or_address_is_told(refused, shelf, args):
    pytest.importorskip("fastapi", reason="the extra web is not installed")
    assert refused("--store", shelf.root, *args)


def test_a_missing_extra_is_named(refused, shelf, monkeypatch):
    from engram.cli import view

    monkeypatch.setattr(view, "find_spec", lambda name: None if name == "uvicorn" else object())
    said = refused("--store", shelf.root)
    assert "uvicorn" in said
    assert "engram[web]" in said


def test_the_application_itself_refuses_what_is_no_store(tmp_path):
    pytest.importorskip("fastapi", reason="the extra web is not installed")
    from engram.web import create_app

    with pytest.raises(EngramError, match="no store"):
        create_app(tmp_path / "none")


def started(shelf, *args):
    command = [sys.executable, "-m", "engram", "view", "--no-browser", "--port", "0",
               "--store", str(shelf.root), *args]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONUNBUFFERED": "1"})  # fmt: skip
    first = process.stdout.readline()
    address = re.search(r"http://\S+", first)
    assert address, first + process.stderr.read()
    return process, address.group()


def status(address, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as problem:
        problem.close()
        return problem.code


def test_it_serves_until_ctrl_c(shelf):
    pytest.importorskip("uvicorn", reason="the extra web is not installed")
    process, address = started(shelf)
    with process:
        assert "token" not in address
        assert status(address) == 200
        assert status(address, Host="evil.example") == 421
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "engram view has ended" in out
    assert not err


def test_for_other_machines_it_prints_a_token_that_opens_once(shelf):
    pytest.importorskip("uvicorn", reason="the extra web is not installed")
    process, address = started(shelf, "--host", "0.0.0.0")
    with process:
        port, token = re.search(r":(\d+)/\?token=([\w-]{40,})", address).groups()
        here = f"http://127.0.0.1:{port}/"
        assert status(here) == 403
        assert status(f"{here}?token={token}") == 200
        assert status(f"{here}?token={token}") == 403
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert token not in out + err


def test_the_token_is_not_spent_on_the_browser_of_this_machine(shelf, monkeypatch, capsys):
    pytest.importorskip("uvicorn", reason="the extra web is not installed")
    from engram.cli import view

    opened = []
    monkeypatch.setattr(view.webbrowser, "open", opened.append)
    monkeypatch.setattr(view, "_serve", lambda *_: None)
    store = ["--store", str(shelf.root), "--port", "0"]
    assert view.view([*store, "--host", "0.0.0.0"]) == 0
    assert not opened
    assert view.view(store) == 0
    assert opened == re.findall(r"http://127\S+", capsys.readouterr().out)
