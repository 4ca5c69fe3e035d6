"""What one finished folder tells the index; nothing in it is trusted."""

import math
import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

from engram.core.errors import EngramError
from engram.core.pseudonyms import pseudonym
from engram.store.folders import RECORD, TARGET, read_json

LEDGER, SCORES = "ledger.parquet", "scores.parquet"
TEXT, SENTENCE = 300, 1000
"""Characters of a name and of a sentence that the index keeps."""
WIDTH = 16
"""Bytes of a record's key."""
LETTERS = {"trained": "t", "held-out": "h", "validation": "v", "forgotten": "f"}
"""How a role is written in `memberships.roles`; in capitals where the record was planted."""
_FORGOTTEN = "forgotten-"


@dataclass(frozen=True)
class People:
    """The records that a folder knows: their sorted keys, one after the other.

    Attributes:
        keys: `WIDTH` bytes a record.
        order: For each place in `keys`, which of the folder's rows it is.
    """

    keys: bytes
    order: tuple[int, ...]

    @property
    def digest(self) -> bytes:
        """Names the population: the same for the same records."""
        return sha256(self.keys).digest()

    def each(self) -> Iterator[tuple[bytes, int]]:
        """Key and place of every record."""
        for place in range(len(self.order)):
            yield self.keys[WIDTH * place : WIDTH * (place + 1)], place


@dataclass(frozen=True)
class Roles:
    """What a target did with each record, and whose it is.

    Attributes:
        people: The records.
        letters: One of `LETTERS` a record.
        owners: One key a record; empty where nobody is named.
    """

    people: People
    letters: bytes
    owners: tuple[bytes, ...] = ()

    @property
    def digest(self) -> bytes:
        """Names who owns what: the same before and after somebody was forgotten."""
        return sha256(b"".join(self.owners)).digest()


@dataclass(frozen=True)
class Exposure:
    """How exposed an audit found each record."""

    people: People
    attack: str
    outsiders: int
    sides: bytes
    """One letter a record: m or o."""
    above: bytes
    """One little-endian float32 a record: the share of outsiders that score higher."""


@dataclass(frozen=True)
class Contents:
    """The rows of one folder."""

    run: tuple[Any, ...]
    findings: tuple[tuple[Any, ...], ...] = ()
    target: tuple[Any, ...] | None = None
    edges: tuple[tuple[str, ...], ...] = ()
    subjects: tuple[str, ...] = ()
    ledger: Roles | None = None
    exposure: Exposure | None = None


def key_of(name: str, what: str = "id") -> bytes:
    """The key of a record's id or of an owner, or of the pseudonym that a ledger gives it."""
    hidden = name if is_pseudonym(name) else pseudonym(name, what)
    return bytes.fromhex(hidden.removeprefix(_FORGOTTEN))


def hidden_name(key: bytes) -> str:
    """The pseudonym that has this key."""
    return f"{_FORGOTTEN}{key.hex()}"


def is_pseudonym(name: str) -> bool:
    """Whether a name is what the ledger calls a forgotten record."""
    digits = name.removeprefix(_FORGOTTEN)
    return digits != name and len(digits) == 32 and set(digits) <= set("0123456789abcdef")


def contents(folder: Path) -> Contents | None:
    """What a finished folder tells; None where its record is damaged.

    A ledger or scores that cannot be read are left out, the rest is kept.
    """
    name = RECORD if (folder / RECORD).is_file() else TARGET
    try:
        record = read_json(folder / name)
        return _of_target(folder, record) if name == TARGET else _of_run(folder, record)
    except (EngramError, KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return None


def _of_target(folder: Path, record: Mapping[str, Any]) -> Contents:
    lineage = _mapping(record.get("lineage"))
    fingerprint = text(record["fingerprint"])
    known = _ledger(folder)
    roles = known.letters.decode() if known else ""
    counts = [roles.lower().count(letter) for letter in LETTERS.values()]
    planted = sum(letter.isupper() for letter in roles)
    return Contents(
        run=(
            text(record["id"]), "target", text(lineage.get("method", "")),
            text(record.get("created", "")), text(record["name"]), fingerprint, "",
            "", "", None, None, None, None,
        ),
        findings=tuple(map(_finding, _sequence(record.get("index", record.get("measures", []))))),
        target=(
            text(record.get("family", "")), text(record.get("access", "")),
            text(lineage.get("kind", "")), text(lineage.get("parent", "")),
            text(lineage.get("base", "")), text(lineage.get("data", "")),
            text(lineage.get("seed", "")), _promised(lineage), *counts, planted,
        ),
        edges=tuple(_edges(lineage, fingerprint)),
        subjects=(fingerprint,),
        ledger=known,
    )  # fmt: skip


def _promised(lineage: Mapping[str, Any]) -> str:
    return text(_mapping(lineage.get("guarantee")).get("sentence", ""))


def _edges(lineage: Mapping[str, Any], fingerprint: str) -> Iterator[tuple[str, ...]]:
    """Child, parent, method, kind and base of every step that the lineage tells of."""
    steps = [*map(_mapping, _sequence(lineage.get("history", []))), lineage]
    children = [text(after.get("parent", "")) for _, after in pairwise(steps)] + [fingerprint]
    for step, child in zip(steps, children, strict=True):
        if child:
            keys = ("parent", "method", "kind", "base")
            yield (child, *(text(step.get(key, "")) for key in keys))


def _of_run(folder: Path, record: Mapping[str, Any]) -> Contents:
    target, verdict = _mapping(record.get("target")), _mapping(record.get("verdict"))
    figure = _figure(record)
    subjects = dict.fromkeys(map(text, _subjects(record)))
    return Contents(
        run=(
            text(record["id"]), text(record["kind"]), text(record.get("method", record["kind"])),
            text(record.get("created", "")), text(target.get("name", record.get("title", ""))),
            text(target.get("fingerprint", "")), text(verdict.get("sentence", ""), SENTENCE),
            text(verdict.get("level", "")), text(figure.get("name", "")),
            *_interval(figure), _count(figure.get("n")),
        ),
        findings=tuple(map(_finding, _sequence(record.get("index", record.get("measures", []))))),
        subjects=tuple(subject for subject in subjects if subject),
        exposure=_exposure(folder, record),
    )  # fmt: skip


def _figure(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one number that a list shows of a run: what its verdict rests on."""
    found = _sequence(_mapping(record.get("headline")).get("findings", []))
    rows = _sequence(_mapping(record.get("comparison")).get("rows", []))
    if not found and rows:
        found = _sequence(_mapping(rows[0]).get("cells", []))[1:2]  # after forgetting
    return _mapping(found[0]) if found else {}


def _subjects(record: Mapping[str, Any]) -> Iterator[Any]:
    yield _mapping(record.get("target")).get("fingerprint", "")
    for audit in _sequence(record.get("audits", [])):
        document = _mapping(_mapping(audit).get("document"))
        yield _mapping(document.get("target")).get("fingerprint", "")
    for row in _sequence(record.get("targets", [])):
        yield _mapping(_mapping(row).get("target")).get("fingerprint", "")


def _ledger(folder: Path) -> Roles | None:
    """The records of a target with a letter for each one's role."""
    asked = ("id", "role", "canary")
    table = _parquet(folder / LEDGER, (*asked, "owner")) or _parquet(folder / LEDGER, asked)
    if table is None:
        return None
    people, named = _people(table["id"]), table.get("owner", [])
    roles = [
        letter.upper() if planted else letter
        for role, planted in zip(table["role"], table["canary"], strict=True)
        for letter in [LETTERS.get(role, "?")]
    ]
    letters = "".join(roles[row] for row in people.order).encode()
    known = len(named) > 0 and all(isinstance(owner, str) for owner in named)
    owners = tuple(key_of(named[row], "owner") for row in people.order) if known else ()
    return Roles(people, letters, owners)


def _exposure(folder: Path, record: Mapping[str, Any]) -> Exposure | None:
    """Where each record of an audit stands among the outsiders, by the headline's attack."""
    attack = _mapping(record.get("headline")).get("attack", "")
    if not isinstance(attack, str) or not attack or not (folder / SCORES).is_file():
        return None
    table = _parquet(folder / SCORES, ("id", "member", attack))
    if table is None:
        return None
    members = [number(float(side)) == 1.0 for side in table["member"]]  # it may hold 0 and 1
    values = [float(value) for value in table[attack]]
    if all(members) or not all(map(math.isfinite, values)):
        return None
    above, below = (_above([sign * v for v in values], members) for sign in (1, -1))
    # The audit may have found that the attack's scores point away from the members.
    turned = _agrees(record, table["id"], below) and not _agrees(record, table["id"], above)
    people, shares = _people(table["id"]), below if turned else above
    return Exposure(
        people,
        text(attack),
        members.count(False),
        "".join("om"[members[row]] for row in people.order).encode(),
        struct.pack(f"<{len(shares)}f", *(shares[row] for row in people.order)),
    )


def _above(values: Sequence[float], members: Sequence[bool]) -> list[float]:
    """For each record the share of outsiders that score higher."""
    outsiders = sorted(v for v, member in zip(values, members, strict=True) if not member)
    return [1 - bisect_right(outsiders, v) / len(outsiders) for v in values]


def _agrees(record: Mapping[str, Any], ids: Sequence[str], above: Sequence[float]) -> bool:
    """Whether these shares are those of the records that the audit shows."""
    place = {name: row for row, name in enumerate(ids)}
    shown = map(_mapping, _sequence(record.get("exposed", [])))
    told = [(place.get(str(one.get("id"))), number(one.get("percentile"))) for one in shown]
    known = [(row, share) for row, share in told if row is not None and share is not None]
    return all(abs(above[row] - share) < 1e-6 for row, share in known)


def _parquet(path: Path, columns: Sequence[str]) -> dict[str, list[Any]] | None:
    """These columns of a file; None where it cannot be read or lacks one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            table = file.read(columns=list(columns), use_threads=False)
        found = {name: table.column(name).to_pylist() for name in columns}
    except (OSError, KeyError, pa.ArrowException):
        return None
    names = found["id"]
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        return None
    return found


def _people(names: Sequence[str]) -> People:
    keys = list(map(key_of, names))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return People(b"".join(keys[row] for row in order), tuple(order))


def text(value: object, limit: int = TEXT) -> str:
    """At most `limit` characters that a database can hold."""
    return str(value)[:limit].encode("utf-8", "replace").decode()


def number(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _count(value: object) -> int | None:
    found = number(value)
    return None if found is None or abs(found) >= 2**53 else int(found)


def _interval(finding: Mapping[str, Any]) -> tuple[float | None, ...]:
    return tuple(number(finding.get(key)) for key in ("value", "low", "high"))


def _finding(finding: object) -> tuple[Any, ...]:
    found = _mapping(finding)
    named = tuple(text(found.get(key, "")) for key in ("method", "name", "split"))
    more = tuple(text(found.get(key, "")) for key in ("unit", "note", "better"))
    return (*named, *_interval(found), _count(found.get("n")), *more)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else []
