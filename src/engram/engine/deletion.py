"""A deletion request from its beginning to its certificate: locked, answered, written down.

Two requests on one model at once would each leave a model that still has what the other one
forgot. So a second one on the same model is refused while the first is at work, and afterwards
told from which model it has to go on.
"""

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from engram.core import EngramError, Split, Target
from engram.core.pseudonyms import pseudonym
from engram.engine.targets import load
from engram.engine.train import BusyError
from engram.report.certificate import certificate, hash_of
from engram.store import deletions, disk_errors

LONGEST = 200
"""Characters of who asked."""


@dataclass(frozen=True)
class Asked:
    """A deletion request as the ledger names it.

    Attributes:
        by: Who asked, in the words of the user; may be empty.
        records: Pseudonyms of the records, sorted.
        owners: Pseudonyms of the owners, sorted.
    """

    by: str
    records: tuple[str, ...]
    owners: tuple[str, ...]

    @classmethod
    def of(cls, records: Split, by: str = "") -> "Asked":
        """The request for these records.

        Raises:
            EngramError: Who asked is not one short line.
        """
        if len(by) > LONGEST or not by.isprintable():
            raise EngramError(
                f"who asked has {len(by)} characters, or some that cannot be printed",
                hint=f"--requested-by takes one line of at most {LONGEST}, a case number say",
            )
        owners = {owner for owner in records.owners or () if owner}
        return cls(
            by,
            tuple(sorted(pseudonym(record, "id") for record in records.ids)),
            tuple(sorted(pseudonym(owner, "owner") for owner in owners)),
        )


@contextmanager
def alone_on(target: Target, root: Path) -> Iterator[None]:
    """Hold the lock of requests on a target; the system lets it go when the process ends.

    Raises:
        BusyError: Another process answers a request on the same target.
    """
    folder = root / "locks"
    with disk_errors(root):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"forget-{target.fingerprint}").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(
                    f"another deletion request is at work on target {target.name!r}",
                    hint="wait for it, then go on from the target that it makes: nothing was "
                    "changed by this one",
                ) from None
            yield


def check_unbranched(asked: Asked, target: Target, root: Path) -> None:
    """Refuse to go on from a model that an earlier request has already left behind.

    Raises:
        EngramError: A ledger entry says that this model was made to forget other records, which
            are not among those asked for now; or the ledger does not verify.
    """
    for entry in deletions.entries(root):
        facts = entry.facts
        lost = set(facts.get("records", ())) - set(asked.records)
        if facts.get("before") == target.fingerprint and lost:
            raise EngramError(
                f"entry {entry.number} of the deletion ledger has already made target "
                f"{target.name!r} forget {len(lost)} other records; a model that forgets from "
                "here would have them again",
                hint=f"go on from {facts.get('folder') or 'the target that it made'}, or say "
                "--branch if this is meant",
            )


def write_down(
    asked: Asked,
    before: Target,
    after: Target,
    document: Mapping[str, Any],
    evidence: Path,
    root: Path,
    *,
    promise: str,
) -> deletions.Entry:
    """Append a request that has been answered to the deletion ledger of the store.

    The entry holds the hash of the certificate, which tells of the evidence (`document`).
    """
    step = after.lineage
    config = {k: v for k, v in step.config.items() if k not in ("keep", "forget")}
    record = (evidence / "run.json").read_bytes()
    facts = {
        "by": asked.by,
        "records": list(asked.records),
        "owners": list(asked.owners),
        "method": step.method,
        "config": config,
        "before": before.fingerprint,
        "after": after.fingerprint,
        "folder": str(after.folder.resolve()) if after.folder else "",
        "evidence": {
            "id": document["id"],
            "sha256": sha256(record).hexdigest(),
            "verdict": document["verdict"]["level"],
        },
    }
    facts["certificate"] = hash_of(certificate(document, {}, {**facts, "time": ""}, promise))
    parts = (before.fingerprint, after.fingerprint, *asked.records, str(document["id"]))
    return deletions.append(root, {"key": sha256("\n".join(parts).encode()).hexdigest(), **facts})


@dataclass(frozen=True)
class Verified:
    """What `verify` found to hold.

    Attributes:
        entries: How many entries the ledger has.
        last: The hash of the last one; "" where there is none.
        says: A sentence for each thing that was checked beyond the chain.
    """

    entries: int
    last: str
    says: tuple[str, ...]


def verify(
    root: Path, what: Mapping[str, Any] | None = None, folder: Path | None = None
) -> Verified:
    """Check the ledger of a store, and against it a certificate or a target.

    Args:
        root: The store.
        what: A certificate (`certificate.json`, parsed).
        folder: A target's folder.

    Raises:
        EngramError: Something does not hold; it is named.
    """
    known = deletions.entries(root)
    says: list[str] = []
    if what is not None:
        says.append(_check_certificate(known, what, root))
    if folder is not None:
        target = load(folder)  # which compares the weights with their fingerprint
        if what is not None and what.get("after") != target.fingerprint:
            raise EngramError(
                f"the certificate tells of another target: of the weights {what.get('after')}, but "
                f"those in {folder} are {target.fingerprint}",
                hint="give the target that this request made: a later request makes another one",
            )
        says += _check_target(known, target, folder, root)
    return Verified(len(known), known[-1].hash if known else "", tuple(says))


def _check_certificate(
    known: tuple[deletions.Entry, ...], what: Mapping[str, Any], root: Path
) -> str:
    found = what.get("entry")
    if not isinstance(found, Mapping) or not isinstance(found.get("number"), int):
        raise EngramError(
            "the certificate names no entry of a deletion ledger",
            hint="verify the certificate.json that `engram forget` wrote",
        )
    number = found["number"]
    if not 1 <= number <= len(known):
        raise EngramError(
            f"the certificate's entry {number} is not in the ledger of {root}, which has "
            f"{len(known)}",
            hint="name the right store with --store; if this is it, entries were cut off",
        )
    entry = known[number - 1]
    if entry.hash != found.get("hash"):
        raise EngramError(
            f"entry {number} of the ledger in {root} has the hash {entry.hash[:16]}..., but the "
            f"certificate says {str(found.get('hash'))[:16]}...",
            hint="the ledger was written anew, or the certificate belongs to another store",
        )
    _check_words(what, found, entry)
    if "certificate" not in entry.facts:  # written before entries held it
        return (
            f"who asked, records, method, models and verdict are those of entry {number} of the "
            "ledger; it holds no hash of the certificate, so other numbers in it are not checked"
        )
    return f"the certificate is entry {number} of the ledger, word for word"


def _check_words(
    what: Mapping[str, Any], sealed: Mapping[str, Any], entry: deletions.Entry
) -> None:
    """Raise where a certificate says something else than its entry, or than it said at first."""
    facts, verdict = entry.facts, what.get("verdict")
    keys = ("by", "method", "config", "before", "after", "records", "owners", "evidence")
    pairs = [(key, what.get(key), facts.get(key)) for key in keys]
    said = verdict.get("level") if isinstance(verdict, Mapping) else None
    pairs += [
        ("verdict", said, facts.get("evidence", {}).get("verdict")),
        ("entry", (sealed.get("previous"), sealed.get("time")), (entry.previous, facts["time"])),
    ]
    hint = "the certificate was changed after it was written"
    for key, told, true in pairs:
        if told != true:
            raise EngramError(
                f"the certificate's {key!r} is not what entry {entry.number} of the ledger says",
                hint=hint,
            )
    if facts.get("certificate", hash_of(what)) != hash_of(what):
        raise EngramError(
            f"the certificate does not have the hash that entry {entry.number} of the ledger says",
            hint=f"{hint}: one of its numbers or sentences is another",
        )


def _check_target(
    known: tuple[deletions.Entry, ...], target: Target, folder: Path, root: Path
) -> list[str]:
    made = [entry for entry in known if entry.facts.get("after") == target.fingerprint]
    if not made:
        raise EngramError(
            f"no entry of the ledger in {root} made the target in {folder}",
            hint="name the right store with --store; only `engram forget` writes the ledger",
        )
    gone = set(target.ledger.having("forgotten"))
    entry = made[-1]
    if lost := set(entry.facts.get("records", ())) - gone:
        raise EngramError(
            f"entry {entry.number} says that {len(lost)} records were forgotten which the "
            f"target's own ledger does not list as forgotten",
            hint="the target's ledger.parquet was changed after it was written",
        )
    return [
        f"the weights in {folder} are those that entry {entry.number} describes",
        f"its own ledger lists the {len(entry.facts['records'])} records as forgotten",
    ]
