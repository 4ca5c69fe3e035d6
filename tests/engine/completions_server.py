"""A completions server over a tiny model, on this machine, that can misbehave in every way."""

import json
import socket
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import torch

Fault = Callable[["Handler", dict], bool]
"""Does something instead of answering, and says whether it did."""


@dataclass
class Served:
    """What the server serves, what it was asked, and what goes wrong.

    Attributes:
        lm: A tiny language model with its tokenizer.
        offers: "echo", "top" or "text".
        fault: Called with the number of the request (from 0) and its body; None or a fault.
        change: Called with the number and the finished answer, which it may change.
        least: Fewest tokens that it writes: some servers refuse 0.
    """

    lm: Any
    offers: str = "echo"
    name: str = "tiny"
    system: str | None = "fp-1"
    key: str | None = None
    least: int = 0
    opening: bool = True
    fault: Callable[[int, dict], Fault | None] = lambda number, body: None
    change: Callable[[int, dict], None] = lambda number, answer: None
    asked: list[dict] = field(default_factory=list)
    headers: list[dict] = field(default_factory=list)
    url: str = ""
    over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def base(self) -> str:
        return f"openai://{self.url}"

    @property
    def prompts(self) -> list[str]:
        return [body["prompt"] for body in self.asked]

    def note(self, body: dict) -> int:
        with self._lock:
            self.asked.append(body)
            return len(self.asked) - 1

    def answer(self, body: dict) -> dict:
        with self._lock:
            return self._answer(body)

    def _answer(self, body: dict) -> dict:
        choice: dict[str, Any] = {"index": 0, "text": "", "logprobs": None}
        ids = self.lm.tokenizer(body["prompt"])["input_ids"]
        echo = body.get("echo") and self.offers == "echo"
        wanted = max(body.get("max_tokens", 16), self.least)
        table = table_of(self.lm, ids) if body.get("logprobs") and self.offers != "text" else None
        written = self._write(ids, wanted, body)
        choice["text"] = (body["prompt"] if echo else "") + self.lm.tokenizer.decode(written)
        if table is not None and echo:
            choice["logprobs"] = self._echoed(ids, table)
            if wanted:
                choice["logprobs"]["tokens"] += [self.lm.tokenizer.decode([t]) for t in written]
                choice["logprobs"]["token_logprobs"] += [-1.0] * len(written)
        elif table is not None:
            best = np.argsort(-table[-1])[: body["logprobs"]]
            tops = {self.lm.tokenizer.decode([int(t)]): float(table[-1][t]) for t in best}
            word = self.lm.tokenizer.decode(written)
            choice["logprobs"] = {
                "tokens": [word], "token_logprobs": [-1.0], "top_logprobs": [tops]
            }  # fmt: skip
        answer = {
            "object": "text_completion",
            "model": self.name,
            "choices": [choice],
            "usage": {"prompt_tokens": len(ids)},
        }
        return answer if self.system is None else {**answer, "system_fingerprint": self.system}

    def _echoed(self, ids: list[int], table: np.ndarray) -> dict:
        numbers = [None, *(float(table[i][t]) for i, t in enumerate(ids[1:]))]
        tokens = [self.lm.tokenizer.decode([t]) for t in ids]
        first = 0 if self.opening else 1
        return {"tokens": tokens[first:], "token_logprobs": numbers[first:]}

    def _write(self, ids: list[int], wanted: int, body: dict) -> list[int]:
        from engram.parts.writing import Prompt, write_on

        if not wanted:
            return []
        uniform = np.random.default_rng(body.get("seed", 0)).random(wanted)
        prompts = [Prompt(ids[-self.lm.context + wanted :], uniform)]
        return write_on(self.lm.model, prompts, body.get("temperature", 1.0), frozenset())[0]


def table_of(lm: Any, ids: list[int]) -> np.ndarray:
    """log p(v | x_<=t) at every token, in double precision."""
    with torch.inference_mode():
        logits = lm.model(torch.tensor([ids])).logits[0].double()
    return torch.log_softmax(logits, -1).numpy()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    @property
    def served(self) -> Served:
        return self.server.served

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            return self.say({"error": {"message": "no such route"}}, 404)
        return self.say({"object": "list", "data": [{"id": self.served.name}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/completions":
            return self.say({"error": {"message": "no such route"}}, 404)
        self.served.headers.append(dict(self.headers))
        number = self.served.note(body)
        if (key := self.served.key) and self.headers["Authorization"] != f"Bearer {key}":
            said = str(self.headers["Authorization"]).removeprefix("Bearer ")
            return self.say({"error": {"message": f"Incorrect API key provided: {said}"}}, 401)
        fault = self.served.fault(number, body)
        if fault is not None and fault(self, body):
            return None
        if body["model"] != self.served.name:
            return self.say({"error": {"message": f"no model {body['model']}"}}, 404)
        if body.get("max_tokens", 1) < self.served.least:
            return self.say({"error": {"message": "max_tokens must be positive"}}, 400)
        if len(self.served.lm.tokenizer(body["prompt"])["input_ids"]) > self.served.lm.context:
            return self.say({"error": {"message": "longer than the context"}}, 400)
        answer = self.served.answer(body)
        self.served.change(number, answer)
        return self.say(answer)

    def say(self, answer: object, status: int = 200, **headers: str) -> None:
        self.send(json.dumps(answer).encode(), status, **headers)

    def send(self, data: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", headers.pop("length", str(len(data))))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)


def status(code: int, message: str = "trouble", **headers: str) -> Fault:
    """Answer with this status."""

    def fault(handler: Handler, body: dict) -> bool:
        handler.say({"error": {"message": message}}, code, **headers)
        return True

    return fault


def body_of(data: bytes) -> Fault:
    """Answer with these bytes."""

    def fault(handler: Handler, body: dict) -> bool:
        handler.send(data)
        return True

    return fault


def drop(handler: Handler, body: dict) -> bool:
    """Close the connection without a word."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)
    return True


def cut(handler: Handler, body: dict) -> bool:
    """Promise more than is sent."""
    handler.send(b'{"choices": [', length="1000")
    handler.close_connection = True
    return True


def stall(seconds: float) -> Fault:
    """Say nothing for so long."""

    def fault(handler: Handler, body: dict) -> bool:
        return handler.served.over.wait(seconds)

    return fault


def trickle(handler: Handler, body: dict) -> bool:
    """Send a byte now and then, for ever."""
    handler.send(b"", length="100000")
    try:
        for _ in range(200):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            if handler.served.over.wait(0.02):
                break
    except OSError:
        pass
    handler.close_connection = True
    return True


def endless(promise: str | None) -> Fault:
    """A body of 1 GB, promised or not."""

    def fault(handler: Handler, body: dict) -> bool:
        handler.send_response(200)
        if promise:
            handler.send_header("Content-Length", promise)
        handler.end_headers()
        handler.close_connection = True
        try:
            for _ in range(1024):
                handler.wfile.write(b" " * 2**20)
        except OSError:
            pass
        return True

    return fault


@contextmanager
def serving(served: Served):
    """Run the server; gives `served` with its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    # Whoever still answers is waited for: torch must not be at work when the process ends.
    server.daemon_threads, server.block_on_close = False, True
    server.served = served
    server.handle_error = lambda *args: None
    served.url = f"127.0.0.1:{server.server_address[1]}/{served.name}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        served.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
