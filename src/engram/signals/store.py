"""Token signals on disk: columns that grow chunk by chunk, and survive being killed.

A folder holds one raw little-endian file a column, `offsets.bin` (where each record ends), and
`manifest.jsonl` with a line for each finished chunk, written after the chunk's data has reached
the disk. Whatever lies beyond the last line's counts is cut off before the work goes on.
`signals.json`, written last and in one step, says that the folder is complete.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Int

from engram.core import EngramError, Split, TokenSignals

COLUMNS: Mapping[str, np.dtype] = {
    "token": np.dtype("<i4"),
    "logprob": np.dtype("<f4"),
    "mean": np.dtype("<f4"),
    "deviation": np.dtype("<f4"),
    "rank": np.dtype("<i4"),
    "greedy": np.dtype("?"),
}
OFFSET = np.dtype("<i8")
LAYOUT = 1
"""Changes whenever files that were written before can no longer be read."""


@dataclass(frozen=True)
class Done:
    """How far the work has come.

    Attributes:
        records: Records that are finished.
        windows: Windows that are finished of the record after them.
        tokens: Tokens that are stored.
    """

    records: int = 0
    windows: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class SignalStore:
    """One folder of token signals."""

    folder: Path

    @classmethod
    def under(
        cls, root: Path, target: str, split: str, settings: Mapping[str, int]
    ) -> "SignalStore":
        """The folder of these answers: same target, records and settings, same folder."""
        inputs = {"layout": LAYOUT, "target": target, "split": split, **settings}
        key = sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
        return cls(root / f"tokens-{key}")

    @property
    def complete(self) -> bool:
        """Whether the last record has been written."""
        return self._record.is_file()

    def resume(self) -> Done:
        """Cut off what a killed run left unfinished, and say where to go on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        done, size = self._finished()
        for path, length in (
            *((self._column(name), done.tokens * kind.itemsize) for name, kind in COLUMNS.items()),
            (self._offsets, done.records * OFFSET.itemsize),
            (self._manifest, size),
        ):
            with path.open("ab") as file:
                file.truncate(length)
        return done

    def append(
        self, columns: Mapping[str, np.ndarray], ends: Int[np.ndarray, " records"], done: Done
    ) -> None:
        """Add one chunk: data first, and when it is on the disk the line that says so."""
        for name, kind in COLUMNS.items():
            _append(self._column(name), np.ascontiguousarray(columns[name], kind).tobytes())
        _append(self._offsets, np.ascontiguousarray(ends, OFFSET).tobytes())
        _append(self._manifest, (json.dumps(asdict(done)) + "\n").encode())

    def close(self, done: Done) -> None:
        """Say that everything is there."""
        part = self._record.with_suffix(".part")
        _append(part, json.dumps({"layout": LAYOUT, **asdict(done)}).encode(), mode="wb")
        part.replace(self._record)

    def open(self, split: Split) -> TokenSignals:
        """The complete signals, mapped rather than read.

        Raises:
            EngramError: Files are missing, or are not as long as they should be.
        """
        done = self._closed()
        if done.records != len(split):
            raise self._damaged(f"it has {done.records} records instead of {len(split)}")
        offsets = np.zeros(done.records + 1, np.int64)
        offsets[1:] = self._map(self._offsets, OFFSET, done.records)
        if np.any(np.diff(offsets) < 0) or offsets[-1] != done.tokens:
            raise self._damaged("its offsets do not fit its tokens")
        columns = {
            name: self._map(self._column(name), kind, done.tokens) for name, kind in COLUMNS.items()
        }
        return TokenSignals(split.ids, offsets, **columns)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing the same answers; they wait, and then find them.

        The lock goes away with the process, however that ends. Where the system has no such
        locks, nothing is locked.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            import fcntl
        except ImportError:
            yield
            return
        with (self.folder / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _finished(self) -> tuple[Done, int]:
        """What the last whole line of the manifest says that the files really hold."""
        done, size = Done(), 0
        if not self._manifest.is_file():
            return done, size
        with self._manifest.open("rb") as file:
            for line in file:
                try:
                    found = Done(**json.loads(line))
                except (ValueError, TypeError):
                    break
                if not line.endswith(b"\n") or not self._holds(found):
                    break
                done, size = found, size + len(line)
        return done, size

    def _holds(self, done: Done) -> bool:
        """Whether all files are at least as long as `done` says."""
        needed = {self._column(name): done.tokens * k.itemsize for name, k in COLUMNS.items()}
        needed[self._offsets] = done.records * OFFSET.itemsize
        return all(path.is_file() and path.stat().st_size >= n for path, n in needed.items())

    def _closed(self) -> Done:
        try:
            found = json.loads(self._record.read_text(encoding="utf-8"))
            if found.pop("layout") != LAYOUT:
                raise self._damaged("another version of Engram wrote it")
            return Done(**found)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            raise self._damaged(f"{self._record.name} cannot be read") from None

    def _map(self, path: Path, kind: np.dtype, count: int) -> np.ndarray:
        size = path.stat().st_size if path.is_file() else -1
        if size != count * kind.itemsize:
            raise self._damaged(f"{path.name} has {size} bytes, not {count * kind.itemsize}")
        # An empty file cannot be mapped.
        return np.memmap(path, kind, "r", shape=(count,)) if count else np.empty(0, kind)

    def _damaged(self, what: str) -> EngramError:
        return EngramError(
            f"the stored signals in {self.folder} are damaged: {what}",
            hint="delete that folder; the next run makes it again",
        )

    @property
    def _record(self) -> Path:
        return self.folder / "signals.json"

    @property
    def _manifest(self) -> Path:
        return self.folder / "manifest.jsonl"

    @property
    def _offsets(self) -> Path:
        return self.folder / "offsets.bin"

    def _column(self, name: str) -> Path:
        return self.folder / f"{name}.bin"


def _append(path: Path, data: bytes, mode: str = "ab") -> None:
    with path.open(mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
