"""Answers of a server on disk, each written as it comes, so that none is asked for twice.

One file of lines that only grows: a question's key and its answer, or a mark. `checked` says
that the model was found to be still the same; `void` that it was not, so that everything since
the last `checked` is forgotten. A line that a killed run left unfinished does not count.
"""

import json
import os
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from engram.core import EngramError

FILE = "answers.jsonl"
CHECKED, VOID = b"= checked\n", b"= void\n"
LINE = re.compile(rb"([0-9a-f]{32}) (\{.*\}|\[.*\]|\".*\"|null)\n", re.DOTALL)


@dataclass(eq=False)
class AnswerStore:
    """Answers by key; without a folder they last as long as the process.

    The file is opened for each answer anew: that costs nothing beside the answer itself.
    """

    folder: Path | None = None
    _memory: dict[str, bytes] = field(default_factory=dict, init=False, repr=False)
    _places: dict[str, tuple[int, int]] = field(default_factory=dict, init=False, repr=False)
    _fresh: list[str] = field(default_factory=list, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._path.open("a+b") as file:
                self._read(file)
        except OSError as problem:
            raise EngramError(
                f"answers cannot be stored in {self.folder} ({problem.strerror})",
                hint="--store names another place",
            ) from None

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def get(self, key: str) -> Any | None:
        """The answer, or None where there is none that can be read."""
        with self._lock:
            if key not in self._places:
                return None
            data = self._memory.get(key) if self.folder is None else self._stored(key)
        try:
            return json.loads(data or b"")
        except (ValueError, RecursionError):
            return None

    def put(self, key: str, answer: Any) -> None:
        """Keep an answer; it is with the system, and outlives the process, on return."""
        data = json.dumps(answer, ensure_ascii=True, allow_nan=False).encode()
        with self._lock:
            start = 0
            if self.folder is None:
                self._memory[key] = data
            else:
                start = self._append(key.encode() + b" " + data + b"\n") + len(key) + 1
            self._places[key] = (start, len(data))
            self._fresh.append(key)

    def checked(self) -> None:
        """Everything so far came from the same model."""
        with self._lock:
            if self._fresh:
                self._append(CHECKED, lasting=True)
                self._fresh.clear()

    def void(self) -> None:
        """Forget what came since the last check: it may be another model's."""
        with self._lock:
            if self._fresh:
                self._append(VOID, lasting=True)
                self._forget()

    @property
    def _path(self) -> Path:
        return (self.folder or Path()) / FILE

    def _stored(self, key: str) -> bytes:
        start, size = self._places[key]
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    def _forget(self) -> None:
        for key in self._fresh:
            self._places.pop(key, None)
        self._fresh.clear()

    def _append(self, line: bytes, lasting: bool = False) -> int:
        """Add a line; returns where it starts."""
        if self.folder is None:
            return 0
        with self._path.open("ab") as file:
            file.write(line)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
            return file.tell() - len(line)

    def _read(self, file: IO[bytes]) -> None:
        """Find the answers of earlier runs; close a line that was left unfinished."""
        file.seek(0)
        place, line = 0, b"\n"
        for line in file:
            if line == CHECKED:
                self._fresh.clear()
            elif line == VOID:
                self._forget()
            elif found := LINE.fullmatch(line):
                key = found[1].decode()
                self._places[key] = (place + len(key) + 1, len(found[2]))
                self._fresh.append(key)
            place += len(line)
        if not line.endswith(b"\n"):
            file.write(b"\n")
