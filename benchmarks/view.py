"""What a large store costs to look at: the index made again, and pages answered from it.

A store of 10,000 folders is made, half of them targets and half audits, as `engram train` and
`engram audit` leave them: records of the size that audits of language models have (20 records with
240 tokens each, ROC curves, histograms), ledgers of 240 records, scores of six attacks. Targets
come from one another; one in ten forgot something. Then are timed, by the wall clock:

- `engram reindex`, whole;
- the list page of `engram view`, its filters, sorts and pages, and the other pages, each several
  times: the median and the slowest;
- the plain way beside it: every record read from its folder, and sorted, for one list.

    python benchmarks/view.py                          # 10,000 folders, about 2 GB for a while
    python benchmarks/view.py --runs 1000 --json results.json
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engram.core.ledger import pseudonym
from engram.store import read_json, reindex

ATTACKS = ("loss", "zlib", "lowercase", "min-k", "min-k-plus-plus", "reference")
RECORDS, TOKENS, SHOWN, SETS = 240, 120, 20, 25
METHODS = ("finetune-lm", "dp-finetune-lm", "goldfish-lm", "gradient-difference")
TIMES = 9


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--runs", type=int, default=10_000)
    options.add_argument("--json", type=Path)
    options.add_argument("--keep", type=Path, help="make the store here, and leave it")
    asked = options.parse_args()
    if asked.keep:
        found = measure(asked.keep, asked.runs)
    else:
        with tempfile.TemporaryDirectory() as place:
            found = measure(Path(place), asked.runs)
    for name, value in found.items():
        print(f"{name:<44} {value if isinstance(value, str) else f'{value:,.3f}'}")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")


def measure(root: Path, runs: int) -> dict[str, Any]:
    make(root, runs)
    found: dict[str, Any] = {"folders": str(runs), "machine": platform.machine()}
    start = time.perf_counter()
    indexed = reindex(root)
    found["reindex, seconds"] = time.perf_counter() - start
    assert indexed == runs, f"{indexed} of {runs} were indexed"
    found["index, MB"] = (root / "index.sqlite").stat().st_size / 1e6
    found |= pages(root)
    start = time.perf_counter()
    rows = scan(root)
    found["plain scan of the folders, seconds"] = time.perf_counter() - start
    assert rows, "the plain scan found nothing"
    return found


def pages(root: Path) -> dict[str, float]:
    """Median and slowest seconds of each page."""
    from starlette.testclient import TestClient

    from engram.web import create_app

    client = TestClient(create_app(root), base_url="http://127.0.0.1")
    lists = [
        "/runs", "/runs?page=50", "/runs?sort=value&way=up", "/runs?q=finetune",
        "/runs?level=leak&sort=target&way=up", "/targets", "/targets?method=goldfish-lm&page=3",
    ]  # fmt: skip
    record = f"/record?id={record_id(0, 7)}"
    others = {"overview": "/", "record": record, "target": f"/target/{name_of(3)}",
              "audit": f"/run/{audit_of(3)}", "lineage": "/lineage", "running": "/running",
              "compare": f"/compare?run={audit_of(3)}&run={audit_of(4)}"}  # fmt: skip
    times = [timed(lambda at=at: answer(client, at)) for at in lists for _ in range(TIMES)]
    found = {"list page, median seconds": statistics.median(times),
             "list page, slowest seconds": max(times)}  # fmt: skip
    for name, at in others.items():
        took = [timed(lambda at=at: answer(client, at)) for _ in range(TIMES)]
        found[f"{name} page, median seconds"] = statistics.median(took)
    return found


def answer(client: Any, at: str) -> None:
    status = client.get(at).status_code
    assert status == 200, f"{at} gave {status}"


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def scan(root: Path) -> list[tuple[str, ...]]:
    """The first page of the list without an index: every record is read."""
    rows = []
    for path in root.glob("*/run.json"):
        record = read_json(path)
        told = (record["created"], record["id"], record["kind"], record["target"]["name"],
                record["verdict"]["sentence"])  # fmt: skip
        rows.append(told)
    return sorted(rows, reverse=True)[:50]


def make(root: Path, runs: int) -> None:
    """The store: `runs` folders, as many targets as audits."""
    rng = np.random.default_rng(0)
    body = audit_body(rng)
    for number in range((runs + 1) // 2):
        target(root, number, rng)
        if number < runs // 2:
            audit(root, number, body, rng)


def name_of(number: int) -> str:
    return f"{METHODS[number % 4]}-{number:010x}"


def audit_of(number: int) -> str:
    return f"audit-{number:010x}"


def record_id(data: int, place: int) -> str:
    return f"{data:04x}{place:012x}"


def target(root: Path, number: int, rng: np.random.Generator) -> None:
    folder = root / name_of(number)
    folder.mkdir(parents=True)
    data, parent = number % SETS, f"{(number - SETS) // 3:016x}" if number >= SETS else ""
    roles = np.where(rng.random(RECORDS) < 0.5, "trained", "held-out").astype(object)
    ids = [record_id(data, place) for place in range(RECORDS)]
    if number % 10 == 3:
        for place in range(6):
            roles[place], ids[place] = "forgotten", pseudonym(ids[place], "id")
    lineage = {
        "method": METHODS[number % 4], "kind": "edits" if number % 4 == 3 else "recipes",
        "config": {f"setting_{k}": k * 0.5 for k in range(32)}, "seed": number,
        "data": f"letters-{data}.jsonl", "data_options": {}, "fingerprint": f"{data:016x}",
        "parent": parent, "base": "", "code": "0.1.0", "coins": 0.0, "history": [],
    }  # fmt: skip
    document = {
        "engram": "0.1.0", "id": folder.name, "name": folder.name, "family": "causal-lm",
        "fingerprint": f"{number:016x}", "access": "weights", "created": moment(number),
        "lineage": lineage, "facts": {"parameters": 758_912}, "seconds": 12.5,
    }  # fmt: skip
    (folder / "target.json").write_text(json.dumps(document, indent=2))
    table = {"id": ids, "digest": ids, "owner": [f"owner-{k // 3}" for k in range(RECORDS)],
             "role": list(roles), "canary": [k % 40 == 0 for k in range(RECORDS)]}  # fmt: skip
    pq.write_table(pa.table(table), folder / "ledger.parquet")


def moment(number: int) -> str:
    return f"2026-{1 + number // 900 % 12:02d}-{1 + number // 30 % 28:02d}T{number % 24:02d}:00:00Z"


def finding(method: str, name: str, value: float, n: int = 240, split: str = "") -> dict[str, Any]:
    return {"name": name, "value": value, "low": max(value - 0.05, 0), "high": min(value + 0.05, 1),
            "n": n, "unit": "", "method": method, "split": split, "note": "",
            "better": "lower"}  # fmt: skip


def attack(name: str, rng: np.random.Generator) -> dict[str, Any]:
    area = 0.5 + 0.45 * rng.random()
    rates = ("AUC", "TPR@0.1%FPR", "TPR@1%FPR", "TPR@5%FPR")
    steps = np.sort(rng.random(160))
    return {
        "name": name, "summary": "how likely the model finds the record", "paper": "",
        "unit": "nats", "inflated": False,
        "findings": [finding(name, rate, area, split="records") for rate in rates],
        "owner_findings": [finding(name, rate, area, 80, "owners") for rate in rates],
        "roc": {"fpr": steps.tolist(), "tpr": np.sqrt(steps).tolist()},
        "histogram": {"edges": list(range(49)), "members": [3] * 48, "outsiders": [2] * 48},
    }  # fmt: skip


def audit_body(rng: np.random.Generator) -> str:
    """All of an audit that does not differ from one to the next here, as text, without its end."""
    attacks = [attack(name, rng) for name in ATTACKS]
    tokens = [{"text": " word", "logprob": -float(x), "reference": -float(y)}
              for x, y in rng.random((TOKENS, 2))]  # fmt: skip
    exposed = [
        {"id": record_id(0, place), "owner": f"owner-{place // 3}", "score": 1.0 - place / 100,
         "attack": "loss", "percentile": place / 240, "tokens": tokens}
        for place in range(SHOWN)
    ]  # fmt: skip
    measures = [finding("perplexity", "perplexity", 0.9, split="outsiders")]
    document = {
        "engram": "0.1.0", "kind": "audit", "seconds": 20.5,
        "verdict": {"level": "leak", "sentence": "This model gives away what it was trained on."},
        "setup": {"members": 120, "outsiders": 120, "owners": 80, "seed": 0, "data": "letters"},
        "split_audit": {"verdict": "clean", "sentence": "The split is clean.", "findings": []},
        "headline": {"attack": "loss", "how": "fixed", "findings": attacks[0]["findings"]},
        "attacks": attacks, "measures": measures, "exposed": exposed, "owners": [],
        "extraction": [], "not_measured": [], "warnings": [],
        "trace": [{"step": k, "epoch": k / 10, "loss": 3.0 - k / 100, "lr": 0.001}
                  for k in range(200)],
        "index": [f for one in attacks for f in one["findings"] + one["owner_findings"]] + measures,
    }  # fmt: skip
    return json.dumps(document, indent=2)[:-2]


def audit(root: Path, number: int, body: str, rng: np.random.Generator) -> None:
    folder = root / audit_of(number)
    folder.mkdir(parents=True)
    asked = {"name": name_of(number), "family": "causal-lm", "fingerprint": f"{number:016x}",
             "access": "weights", "lineage": {"method": METHODS[number % 4]},
             "facts": {}}  # fmt: skip
    own = {"id": folder.name, "created": moment(number), "target": asked}
    (folder / "run.json").write_text(f"{body},\n{json.dumps(own, indent=2)[2:]}")
    ids = [record_id(number % SETS, place) for place in range(RECORDS)]
    scores = rng.normal(size=(len(ATTACKS), RECORDS))
    table = {"id": ids, "member": [k < RECORDS // 2 for k in range(RECORDS)],
             **dict(zip(ATTACKS, scores, strict=True))}  # fmt: skip
    pq.write_table(pa.table(table), folder / "scores.parquet")


if __name__ == "__main__":
    main()
