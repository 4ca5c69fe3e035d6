"""`engram`, and `python FILE`, for scripts that call them dozens of times.

One process imports everything, and each call is a copy of it. `python ready.py SOCKET` serves until
its standard input ends; `SHIM`, under the name of either, asks it, and behaves as the real command:
arguments, folder, environment, streams, exit code.
"""

import array
import json
import os
import pkgutil
import select
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from runpy import run_path
from threading import Thread

PACKAGES = ("engram.cli", "engram.core", "engram.data", "engram.engine", "engram.report",
            "engram.signals", "engram.stats", "engram.store")  # fmt: skip
MORE = (
    "engram.families.causal_lm",
    "engram.families.estimator",
    "transformers.generation",
    "transformers.models.gpt2.modeling_gpt2",
    "sklearn.linear_model",
    "sklearn.feature_extraction.text",
    "scipy.stats",
    "torch._dynamo",
)

SHIM = """#!{python} -IS
import array, json, os, socket, sys
asked = socket.socket(socket.AF_UNIX)
asked.connect({address!r})
argv = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
said = json.dumps([argv, os.getcwd(), dict(os.environ)]).encode()
streams = array.array("i", [0, 1, 2])
asked.sendmsg([b"%16d" % len(said)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
asked.sendall(said)
sys.exit(int(asked.recv(8) or 70))
"""


def warm() -> None:
    """Import what most commands need; no thread is started by it."""
    for name in PACKAGES:
        package = import_module(name)
        for found in pkgutil.iter_modules(package.__path__, f"{name}."):
            if not found.name.endswith("__main__"):
                import_module(found.name)
    for name in MORE:
        with suppress(ImportError):
            import_module(name)


def serve(address: str) -> None:
    """Answer until standard input ends."""
    waiting = socket.socket(socket.AF_UNIX)
    waiting.bind(address)
    waiting.listen(16)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        able, _, _ = select.select([waiting, sys.stdin], [], [])
        if waiting not in able:
            return
        asked, _ = waiting.accept()
        if os.fork() == 0:
            waiting.close()
            answer(asked)
        asked.close()


def answer(asked: socket.socket) -> None:
    """Be the command that was asked for, and end."""
    code = 70
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        streams = array.array("i")
        head, hidden, _, _ = asked.recvmsg(16, socket.CMSG_SPACE(3 * streams.itemsize))
        streams.frombytes(hidden[0][2])
        size, body = int(head), b""
        while len(body) < size:
            body += asked.recv(size - len(body))
        argv, folder, environment = json.loads(body)
        for place, stream in enumerate(streams):
            os.dup2(stream, place)
            os.close(stream)
        sys.stdin = os.fdopen(0, closefd=False)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        Thread(target=end_with, args=(asked,), daemon=True).start()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:0] = [p for p in environment.get("PYTHONPATH", "").split(":") if p]
        code = command(argv)
    finally:
        asked.sendall(b"%d" % code)
        os._exit(code)


def end_with(asked: socket.socket) -> None:
    """End when whoever asked is gone: a server that is killed must not live on."""
    if not asked.recv(1):
        os._exit(143)


def command(argv: list[str]) -> int:
    """The exit code of `engram ...` or `python FILE ...`."""
    from traceback import print_exc

    from engram.cli import main

    try:
        if argv[0] == "python":
            sys.argv = argv[1:]
            sys.path.insert(0, os.path.dirname(os.path.abspath(argv[1])))
            run_path(argv[1], run_name="__main__")
        else:
            sys.argv = argv
            main(argv[1:])
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        print_exc()
        return 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
    return 0


if __name__ == "__main__":
    warm()
    serve(sys.argv[1])
