"""The deletion ledger: who asked for what to be forgotten, what was done, and what it showed.

One JSON object a line in `deletions.jsonl` of the store. Every entry holds the hash of the one
before it and its own, so that nobody can change, take out or reorder entries unseen:

    hash = SHA-256 of the entry's JSON without `hash`, keys sorted, no blanks

Cutting entries off the end leaves a whole chain; a certificate, which holds the number and hash of
its entry, shows that. Entries name records and owners by pseudonyms only (`pseudonym`).

Writers wait for each other, and an entry is on the disk before anybody is told of it.
"""

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from engram.core.errors import EngramError
from engram.store.contents import is_pseudonym, key_of, text
from engram.store.folders import disk_errors
from engram.store.tables import FILE as INDEX
from engram.store.tables import alone, is_current, opened

FILE = "deletions.jsonl"
START = "0" * 64
"""What the first entry names as the hash of the one before it."""
WAIT = 60.0
"""Seconds that a writer waits for another one."""
LONGEST = 2**20
"""Bytes of one entry that are read."""


@dataclass(frozen=True)
class Entry:
    """One entry of the ledger, checked.

    Attributes:
        number: Counted from 1.
        hash: Its own hash.
        previous: The hash of the one before it.
        facts: Everything else that it says.
    """

    number: int
    hash: str
    previous: str
    facts: Mapping[str, Any]


def append(root: Path, facts: Mapping[str, Any]) -> Entry:
    """Add an entry at the end, unless one with the same `key` is there already.

    Args:
        root: The store.
        facts: Plain JSON values; `key` names the request by its content.

    Raises:
        EngramError: The ledger does not verify, another writer holds it too long, or the disk is
            full. Nothing is written then.
    """
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        with _alone(root), (root / FILE).open("a+", encoding="utf-8") as file:
            known = entries(root)
            for entry in known:
                if entry.facts.get("key") == facts["key"]:
                    return entry
            last = known[-1].hash if known else START
            entry = _made(len(known) + 1, last, facts)
            file.write(_line(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
    # The entry is written: an index that cannot be written does not change that.
    with suppress(EngramError, sqlite3.Error):
        if is_current(root / INDEX):
            with alone(root), closing(opened(root / INDEX)) as base, base:
                note(base, entry)
    return entry


def note(base: sqlite3.Connection, entry: Entry) -> None:
    """Put an entry into an index."""
    facts = entry.facts
    evidence = facts.get("evidence")
    evidence = evidence if isinstance(evidence, Mapping) else {}
    named = facts.get("records")
    records = [r for r in named if isinstance(r, str)] if isinstance(named, list) else []
    told = (facts.get(key, "") for key in ("time", "by", "method", "before", "after"))
    row = (entry.number, entry.hash, *map(text, told), text(evidence.get("id", "")),
           text(evidence.get("verdict", "")), len(records))  # fmt: skip
    base.execute("INSERT OR REPLACE INTO deletions VALUES (?,?,?,?,?,?,?,?,?,?)", row)
    base.executemany(
        "INSERT OR REPLACE INTO deleted VALUES (?,?)",
        [(key_of(record), entry.number) for record in records if is_pseudonym(record)],
    )


def _made(number: int, previous: str, facts: Mapping[str, Any]) -> Entry:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    facts = {"time": now, **json.loads(json.dumps(dict(facts), allow_nan=False))}
    return Entry(number, _hash(number, previous, facts), previous, facts)


def _hash(number: int, previous: str, facts: Mapping[str, Any]) -> str:
    whole = {"number": number, "previous": previous, **facts}
    return sha256(_canonical(whole).encode()).hexdigest()


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _line(entry: Entry) -> str:
    whole = {"number": entry.number, "previous": entry.previous, **entry.facts}
    return _canonical({**whole, "hash": entry.hash})


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the ledger's lock; the system lets it go when the process ends, however."""
    with (root / f".{FILE}.lock").open("w") as lock:
        last = time.monotonic() + WAIT
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > last:
                    raise EngramError(
                        f"the deletion ledger in {root} is held by another process for "
                        f"{WAIT:.0f} seconds",
                        hint="wait for it, then start the same command again: nothing is lost",
                    ) from None
                time.sleep(0.05)
        yield


def entries(root: Path) -> tuple[Entry, ...]:
    """All entries of the ledger in a store, each checked against the one before it.

    Raises:
        EngramError: An entry is damaged, changed, missing or out of its place; it is named.
    """
    found, problem = whole(root)
    if problem is not None:
        raise problem
    return found


def whole(root: Path) -> tuple[tuple[Entry, ...], EngramError | None]:
    """The entries up to the first that does not hold, and what is wrong with that one."""
    path = root / FILE
    if not path.exists():
        return (), None
    found: list[Entry] = []
    try:
        with path.open("rb") as file:
            while line := file.readline(LONGEST + 1):
                found.append(_read(line, found[-1] if found else None, len(found) + 1, path))
    except EngramError as problem:
        return tuple(found), problem
    except OSError as problem:
        unread = EngramError(
            f"{path} cannot be read ({problem.strerror})", hint="may you read it? Is it a file?"
        )
        return tuple(found), unread
    return tuple(found), None


def _read(line: bytes, before: Entry | None, number: int, path: Path) -> Entry:
    hint = "the ledger was changed after it was written: compare it with a copy, or with the "
    hint += "certificates, which hold the hashes of their entries"
    what = f"entry {number} of {path}"
    try:
        whole = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise EngramError(f"{what} is not JSON", hint=hint) from None
    if len(line) > LONGEST or not line.endswith(b"\n") or not isinstance(whole, dict):
        raise EngramError(f"{what} is not one whole entry", hint=hint)
    keys = {"number": int, "previous": str, "hash": str}
    if any(not isinstance(whole.get(key), kind) for key, kind in keys.items()):
        raise EngramError(f"{what} lacks its number or a hash", hint=hint)
    facts = {key: value for key, value in whole.items() if key not in keys}
    entry = Entry(whole["number"], whole["hash"], whole["previous"], facts)
    if entry.number != number:
        raise EngramError(f"{what} has the number {entry.number}", hint=hint)
    if entry.previous != (before.hash if before else START):
        raise EngramError(f"{what} does not follow the entry before it", hint=hint)
    if _line(entry).encode() + b"\n" != line or entry.hash != _hash(number, entry.previous, facts):
        raise EngramError(f"{what} does not have the hash that it says", hint=hint)
    return entry
