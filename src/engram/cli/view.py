"""`engram view`: look at a store in the browser; nothing in it can be changed from there."""

import errno
import secrets
import socket
import webbrowser
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from engram.cli.parse import Common, Printed, parse
from engram.core.errors import EngramError
from engram.store import questions

NEEDED = ("fastapi", "uvicorn")
HINTS = {
    errno.EADDRINUSE: "another program is there: give another --port, or 0 for a free one",
    errno.EADDRNOTAVAIL: "127.0.0.1 is for this machine alone, 0.0.0.0 for all that reach it",
    errno.EACCES: "ports below 1024 are not everybody's: give another --port, or 0 for a free one",
}


@dataclass(frozen=True)
class ViewOptions(Common):
    """Options of `engram view`."""

    port: int = 8765
    """Port to listen at; 0 takes a free one."""
    host: str = "127.0.0.1"
    """Address to listen at. Any but this machine's own asks every browser for a token, once."""
    browser: bool = True
    """Open the page in the browser; not where a token is needed, which opens once."""


def view(args: list[str]) -> int:
    """`engram view [--store DIR] [--port N] [--host H] [--no-browser]`; Ctrl-C ends it."""
    try:
        options = parse("engram view", args, ViewOptions).options
    except Printed:
        return 0
    _check(options)
    questions.ready(options.root)
    from engram.web.app import create_app
    from engram.web.guard import Door, is_local

    local = is_local(options.host)
    door = Door(
        options.host,
        "" if local else secrets.token_urlsafe(32),
        () if local else (socket.gethostname(),),
    )
    with _listening(options.host, options.port) as listener:
        address = _address(options.host, listener.getsockname()[1], door.token)
        print(f"engram view of {options.root}: {address}")
        if door.token:
            print("the address opens once, in one browser; anyone on the network who reads it "
                  "first can use it")  # fmt: skip
        print("Ctrl-C ends it", flush=True)
        if options.browser and not door.token:
            with suppress(webbrowser.Error):
                webbrowser.open(address)
        _serve(create_app(options.root, door), listener)
    return 0


def _check(options: ViewOptions) -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise EngramError(
            f"engram view needs {' and '.join(missing)}, which is not installed",
            hint="pip install 'engram[web]'",
        )
    if not 0 <= options.port <= 65535:
        raise EngramError(
            f"port is {options.port}, but must be in 0 ... 65535",
            hint="0 takes a free one, which is printed",
        )


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a port in use is an error before anything starts."""
    bare = host.strip("[]")
    try:
        kind, _, _, _, place = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(kind, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except (OSError, UnicodeError) as problem:
        raise EngramError(
            f"{host!r} is no address of this machine ({problem})",
            hint="127.0.0.1 is for this machine alone, 0.0.0.0 for all that reach it",
        ) from None
    try:
        listener.bind(place)
        listener.listen()
    except OSError as problem:
        listener.close()
        raise EngramError(
            f"cannot listen at {host} port {port} ({problem.strerror})",
            hint=HINTS.get(problem.errno or 0, HINTS[errno.EADDRINUSE]),
        ) from None
    return listener


def _address(host: str, port: int, token: str) -> str:
    shown = f"[{host.strip('[]')}]" if ":" in host else host
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else shown
    return f"http://{shown}:{port}/{f'?token={token}' if token else ''}"


def _serve(app: Any, listener: socket.socket) -> None:
    """Serve until Ctrl-C; nothing is written down of who asked for what."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
    print("engram view has ended")
