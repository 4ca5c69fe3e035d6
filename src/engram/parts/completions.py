"""Questions to an OpenAI-compatible completions server: patience, a budget, and no trust in it."""

import json
import os
import re
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from ipaddress import ip_address
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import (
    HTTPRedirectHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

from engram.core import EngramError, stream

KEY = "OPENAI_API_KEY"
SCHEMES = {"openai": "", "openai+http": "http", "openai+https": "https"}
LARGEST = 2**25
"""The most bytes of one answer: a record of 100,000 tokens fits."""
AGAIN = (408, 425, 500, 502, 503, 504, 520, 522, 524, 529)
"""Answers after which the same question may succeed."""


class RefusedError(EngramError):
    """The server does not answer this question, or not at all (status 0)."""

    def __init__(self, message: str, *, hint: str = "", status: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class StoppedError(Exception):
    """Another question failed for good, so this one is not asked."""


@dataclass(frozen=True)
class Address:
    """Where a model is served.

    `openai://HOST:PORT/MODEL` speaks plain HTTP with this very machine and HTTPS with any other;
    `openai+http://` and `openai+https://` say which. A path before `/v1/` belongs to the server,
    so that `openai://example.org/api/v1/MODEL` works too.

    Attributes:
        base: URL up to, and without, `/v1`.
        model: Name of the model there; it may hold slashes.
    """

    base: str
    model: str

    @classmethod
    def parse(cls, where: str) -> "Address":
        """Read an address as the user wrote it.

        Raises:
            EngramError: It has no host or model, a bad port, or a password.
        """
        try:
            parts = urlsplit(where)
            host, port = parts.hostname or "", parts.port
            host.encode("ascii" if ":" in host else "idna")
        except ValueError as problem:
            raise _bad_address(where, str(problem)) from None
        if parts.username or parts.password or "@" in parts.netloc:
            # Without the address: it holds a secret.
            raise _bad_address("what was given", "it holds a user name or a password")
        if parts.scheme not in SCHEMES or not host or not re.fullmatch(r"[\w.:%-]+", host):
            raise _bad_address(where, "it names no host")
        if parts.query or parts.fragment or re.search(r"[\s\x00-\x1f]", where):
            raise _bad_address(where, "there is more than a host and a model in it")
        scheme = SCHEMES[parts.scheme] or ("http" if is_loopback(host) else "https")
        before, _, after = parts.path.partition("/v1/")
        path, model = (before, after) if after else ("", parts.path[1:])
        model = unquote(model).rstrip("/")  # at the front it may be a path's own
        name = f"[{host}]" if ":" in host else host
        base = f"{scheme}://{name}{'' if port is None else f':{port}'}{path.rstrip('/')}"
        return cls(base, model)

    @property
    def host(self) -> str:
        """The server's name."""
        return urlsplit(self.base).hostname or ""

    @property
    def private(self) -> bool:
        """Whether nobody on the way can read along, so that a key may be sent."""
        return self.base.startswith("https:") or is_loopback(self.host)


def is_address(where: object) -> bool:
    """Whether this names a served model rather than a folder or a published name."""
    return isinstance(where, str) and where.partition("://")[0] in SCHEMES and "://" in where


def is_loopback(host: str) -> bool:
    """Whether the host is this machine itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _bad_address(where: str, why: str) -> EngramError:
    return EngramError(
        f"{where} is no address of a served model: {why}",
        hint="openai://HOST:PORT/MODEL, and a key only in the environment variable " + KEY,
    )


@dataclass(eq=False)
class Budget:
    """How many questions may be put to servers, and how many were.

    Attributes:
        limit: A hard ceiling; None: there is none.
        spent: Completions asked for so far, those asked again included.
    """

    limit: int | None = None
    spent: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise EngramError(
                f"max-requests is {self.limit}, but must be at least 1",
                hint="leave it out to ask as often as the audit needs",
            )

    @property
    def left(self) -> float:
        """Questions that may still be asked."""
        return float("inf") if self.limit is None else float(self.limit - self.spent)

    def take(self) -> None:
        """Count one question, before it is asked.

        Raises:
            EngramError: The ceiling is reached.
        """
        with self._lock:
            if self.left < 1:
                raise EngramError(
                    f"the ceiling of {self.limit:,} requests is reached",
                    hint="what was answered is stored: the same command with a higher "
                    "--max-requests goes on from there",
                )
            self.spent += 1


@dataclass(frozen=True)
class Patience:
    """How long a server that does not answer is waited for; times in seconds."""

    tries: int = 6
    """Failures in a row of one question (dropped, timed out, 5xx) before it is given up."""
    first: float = 0.5
    """Pause after the first failure; it doubles with each further one, with jitter."""
    longest: float = 60.0
    """The longest such pause."""
    timeout: float = 120.0
    """For one whole answer."""
    limited: float = 900.0
    """How long rate limits may hold everything up without a single answer in between."""


class _NoRedirect(HTTPRedirectHandler):
    """A redirect could carry the key, and the records, to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@dataclass(eq=False)
class Client:
    """Asks one server; safe to use from many threads.

    The key is read from the environment for each question: it is kept nowhere.
    """

    address: Address
    budget: Budget = field(default_factory=Budget)
    patience: Patience = field(default_factory=Patience)
    _opener: OpenerDirector = field(init=False, repr=False)
    _not_before: float = field(default=0.0, init=False, repr=False)
    _answered: float = field(default_factory=time.monotonic, init=False, repr=False)

    def __post_init__(self) -> None:
        proxies = ProxyHandler({}) if is_loopback(self.address.host) else ProxyHandler()
        self._opener = build_opener(proxies, _NoRedirect())

    def ask(
        self,
        route: str,
        body: Mapping[str, Any] | None,
        about: str,
        stop: threading.Event | None = None,
        tries: int = 0,
    ) -> dict[str, Any]:
        """The server's answer, a JSON object.

        Args:
            route: "completions" or "models".
            body: What to post; None: only get.
            about: What is asked about, for messages: "record 'a1b2'".
            stop: Set when no further question is wanted.
            tries: Failures before it is given up; 0: as patience says.

        Raises:
            EngramError: It cannot be reached, keeps failing, or answers nonsense.
            RefusedError: It says no.
            StoppedError: `stop` was set.
        """
        failures, began, stop = 0, time.monotonic(), stop or threading.Event()
        while True:
            self._pause(self._not_before - time.monotonic(), stop)
            if body is not None:
                self.budget.take()
            try:
                status, wait, data = self._send(route, body)
            except (OSError, HTTPException) as problem:
                _check_certificate(self.address, problem)
                status, wait, data, reason = 0, None, b"", _reason(problem, self.patience.timeout)
            else:
                reason = f"it answers {status}{said(data, ': ')}"
            if status == 200:
                self._answered = time.monotonic()
                return parsed(data, self.address, about)
            if status == 429:
                self._hold(wait, data, began, about)
                continue
            failures += 1
            if status and status not in AGAIN:
                raise self._refusal(status, data, about)
            if failures >= (tries or self.patience.tries):
                raise self._gone(reason, failures, about, status)
            self._pause(wait if wait is not None else self._backoff(failures), stop)

    def _send(self, route: str, body: Mapping[str, Any] | None) -> tuple[int, float | None, bytes]:
        """Status, seconds that the server asks to wait, and the bytes of one answer."""
        request = Request(
            f"{self.address.base}/v1/{route}",
            None if body is None else json.dumps(body).encode(),
            self._headers(),
        )
        deadline = time.monotonic() + self.patience.timeout
        try:
            response = self._opener.open(request, timeout=self.patience.timeout)
        except HTTPError as refusal:
            response = refusal
        with response:
            data = _limited(response, deadline, self.address)
            return response.status or 0, _retry_after(response.headers.get("Retry-After")), data

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        key = os.environ.get(KEY, "").strip()
        if key and not re.fullmatch(r"[!-~]+", key):
            raise EngramError(
                f"the environment variable {KEY} holds characters that no key has",
                hint="is it the key alone, without quotes or line breaks?",
            )
        return headers | (
            {"Authorization": f"Bearer {key}"} if key and self.address.private else {}
        )

    def _hold(self, wait: float | None, data: bytes, began: float, about: str) -> None:
        """Keep every thread from asking for as long as the server wants."""
        if b"insufficient_quota" in data:
            raise RefusedError(
                f"{self.address.base} has no quota left for this key{said(data, ': ')}",
                hint="what was answered is stored: the same command goes on from there",
                status=429,
            )
        now = time.monotonic()
        held = now - max(began, self._answered)
        pause = wait if wait is not None else self._backoff(1 + int(held))
        if held + pause > self.patience.limited:
            raise EngramError(
                f"{self.address.base} limits the rate, and asks to wait {pause:.0f} seconds more "
                f"({about})",
                hint="what was answered is stored: the same command goes on from there, later",
            )
        self._not_before = max(self._not_before, now + pause)

    def _backoff(self, failures: int) -> float:
        """Twice as long after each failure, and never the same for two clients."""
        longest = min(self.patience.first * 2.0 ** min(failures - 1, 30), self.patience.longest)
        lot = stream(os.getpid(), "back-off", threading.get_ident(), time.monotonic_ns())
        return float(longest * lot.uniform(0.5, 1.0))

    def _pause(self, seconds: float, stop: threading.Event) -> None:
        if stop.wait(max(seconds, 0.0)) or stop.is_set():
            raise StoppedError

    def _refusal(self, status: int, data: bytes, about: str) -> RefusedError:
        hints = {
            401: f"put the server's key into the environment variable {KEY}"
            + ("" if self.address.private else "; it is sent only over https, or to this machine"),
            403: f"may the key in {KEY} use this model?",
            404: "is the model's name right? `openai://HOST:PORT/MODEL`",
            413: "the record is longer than the server allows: leave it out",
        }
        moved = "redirects are not followed: name the server itself" if 300 <= status < 400 else ""
        return RefusedError(
            f"{self.address.base} refuses {about}: {status}{said(data, ' ')}",
            hint=hints.get(status, moved or "is the record longer than the model's context?"),
            status=status,
        )

    def _gone(self, reason: str, failures: int, about: str, status: int) -> RefusedError:
        times = "once" if failures == 1 else f"{failures} times"
        return RefusedError(
            f"{self.address.base} does not answer ({about}): {reason}, {times} in a row",
            hint="is the server running, and are host and port right? The same command goes on "
            "where this one stopped",
            status=status,
        )


def parsed(data: bytes, address: Address, about: str) -> dict[str, Any]:
    """The JSON object in an answer.

    Raises:
        EngramError: It is no JSON object.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise EngramError(
            f"{address.base} does not answer in JSON objects ({about}){said(data, ': ')}",
            hint="it must be an OpenAI-compatible server: openai://HOST:PORT/MODEL",
        )
    return found


def said(data: bytes, before: str) -> str:
    """What a server says, short and fit to be printed; "" if it says nothing."""
    try:
        found = json.loads(data[:65536])
        found = found.get("error", found) if isinstance(found, dict) else found
        found = found.get("message", found) if isinstance(found, dict) else found
        found = found if isinstance(found, str) else data.decode("utf-8", "replace")
    except (ValueError, RecursionError):
        found = data[:65536].decode("utf-8", "replace")
    key = os.environ.get(KEY, "").strip()
    found = found.replace(key, "***") if key else found
    shown = "".join(c if c.isprintable() else " " for c in found)
    shown = " ".join(re.sub(r"<[^>]{0,200}>", " ", shown).split())[:160]
    return before + shown if shown else ""


def _limited(response: HTTPResponse | HTTPError, deadline: float, address: Address) -> bytes:
    """The whole body, within the limits of size and time."""
    size = response.headers.get("Content-Length") or ""
    promised = int(size) if re.fullmatch(r"\d{1,18}", size) else None
    data = bytearray()
    while len(data) <= LARGEST and (promised or 0) <= LARGEST:
        if time.monotonic() > deadline:
            raise TimeoutError("its answer took too long")
        if not (piece := response.read1(2**16)):  # type: ignore[union-attr]
            if promised is not None and len(data) < promised:
                raise ConnectionError("its answer was cut off")
            return bytes(data)
        data += piece
    raise EngramError(
        f"{address.base} answers with more than {LARGEST:,} bytes",
        hint="no answer about one record is as long: is it an OpenAI-compatible server?",
    )


def _retry_after(said: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds a number or a date."""
    value = (said or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _reason(problem: BaseException, timeout: float | None = None) -> str:
    inner = problem.reason if isinstance(problem, URLError) else problem
    if isinstance(inner, TimeoutError):
        return f"no whole answer within {timeout:g} seconds" if timeout else "no answer in time"
    told = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return " ".join(str(told).split())[:120]


def _check_certificate(address: Address, problem: BaseException) -> None:
    """Trying again does not mend a certificate, nor a server that speaks plain HTTP."""
    inner = problem.reason if isinstance(problem, URLError) else problem
    if isinstance(inner, ssl.SSLError):
        raise EngramError(
            f"no secure connection with {address.base} ({_reason(problem)})",
            hint="its certificate must be valid; openai+http:// speaks with a server in a network "
            "that you trust, without a key",
        ) from None
