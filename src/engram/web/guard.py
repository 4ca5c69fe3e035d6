"""Who may ask, and how: methods, hosts, the token, and the headers of every answer."""

import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

COOKIE = "engram_view"
LASTS = 12 * 3600
"""Seconds that a browser which has shown the token may go on."""
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
_METHODS = ("GET", "HEAD")
_OPEN = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="refresh" content="0;url=/"><title>engram view</title></head>
<body><main><h1>The token was accepted</h1><p><a href="/">Go on to the store</a></p></main>
</body></html>"""
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def is_local(host: str) -> bool:
    """Whether only this machine can ask at an address.

    >>> is_local("127.0.0.1"), is_local("localhost"), is_local("0.0.0.0"), is_local("::1")
    (True, True, False, True)
    """
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


@dataclass
class Door:
    """What is let in.

    A page of somebody else can make its name lead to this machine (DNS rebinding); its browser
    then asks here under that name. So no name is answered but those that were meant. An address
    in digits cannot be made to lead elsewhere.

    Attributes:
        host: The address that the server listens at.
        token: What a browser must show once; "" where only this machine can ask.
        names: Other names under which it is asked, such as this machine's own.
    """

    host: str
    token: str = ""
    names: tuple[str, ...] = ()
    _pass: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    _used: bool = field(default=False, repr=False)
    name: str = field(default_factory=lambda: f"{COOKIE}_{secrets.token_hex(4)}", repr=False)
    """Of its cookie: a browser keeps those of all ports of a machine together."""

    def knows(self, asked: str) -> bool:
        """Whether a Host header names this server."""
        name = asked.rpartition(":")[0] if _has_port(asked) else asked
        name = name.lower().rstrip(".")
        if name in ("localhost", self.host.lower(), *map(str.lower, self.names)):
            return True
        address = _address(name)
        return address is not None and (address.is_loopback or not is_local(self.host))

    def admits(self, cookie: str) -> bool:
        """Whether a browser has shown the token before."""
        return not self.token or _same(cookie, self._pass)

    def accepts(self, shown: str) -> bool:
        """Whether a token is the right one; it opens once."""
        if self._used or not self.token or not _same(shown, self.token):
            return False
        self._used = True
        return True

    @property
    def cookie(self) -> str:
        """What a browser keeps in the token's place; no script reads it, no other site uses it."""
        kept = f"{self.name}={self._pass}"
        return f"{kept}; Path=/; Max-Age={LASTS}; HttpOnly; SameSite=Strict"


def _has_port(asked: str) -> bool:
    return asked.rpartition(":")[2].isdigit() and (asked.count(":") == 1 or "]:" in asked)


def _same(one: str, other: str) -> bool:
    """In a time that does not tell how much of it is right."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())


class Guard:
    """Stands before the application."""

    def __init__(self, app: App, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse what may not pass; add the headers to every answer."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        status, body, more = self._refusal(scope)
        if status:
            await _answer(scope, send, status, body, more)
            return
        await self.app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> tuple[int, str, dict[str, str]]:
        """Status, text and headers of the answer, where the application is not to be asked."""
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        hosts = [value for name, value in scope["headers"] if name.lower() == b"host"]
        if len(hosts) != 1 or not self.door.knows(headers[b"host"]):
            return 421, "This server does not answer under that name.", {}
        if scope["method"] not in _METHODS:
            return 405, "Nothing here can be changed.", {"allow": ", ".join(_METHODS)}
        if self.door.admits(_cookie(headers.get(b"cookie", ""), self.door.name)):
            return 0, "", {}
        shown = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["method"] == "GET" and self.door.accepts(shown):
            return 200, _OPEN, {"set-cookie": self.door.cookie}
        return (
            403,
            "A token is needed: open the address that `engram view` printed. "
            "It opens once; start the command again for another.",
            {},
        )


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


async def _answer(scope: Scope, send: Send, status: int, body: str, more: dict[str, str]) -> None:
    kind = "text/html" if body.startswith("<") else "text/plain"
    data = body.encode()
    headers = {**HEADERS, **more, "content-type": f"{kind}; charset=utf-8",
               "content-length": str(len(data))}  # fmt: skip
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    body_ = b"" if scope["method"] == "HEAD" else data
    await send({"type": "http.response.body", "body": body_})


def _with_headers(send: Send) -> Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = {name.lower() for name, _ in message["headers"]}
            more = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in own]
            message["headers"] = [*message["headers"], *more]
        await send(message)

    return sent
