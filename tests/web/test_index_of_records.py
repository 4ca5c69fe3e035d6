"""What the index knows beside its rows: lineage, membership, exposure, deletions."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engram import store
from engram.core import EngramError
from engram.core.ledger import Ledger, pseudonym
from engram.store import deletions, questions
from engram.store.index import FILE
from engram.store.questions import Wanted


def told(root):
    """All that an index says, without the numbers that it gave to populations."""
    with closing(sqlite3.connect(root / FILE)) as base:
        tables = ("runs", "findings", "targets", "edges", "subjects", "deletions", "deleted")
        found = {t: sorted(map(repr, base.execute(f"SELECT * FROM {t}"))) for t in tables}
        for table, columns in (("memberships", "roles"), ("exposures", "attack, sides, above")):
            found[table] = sorted(
                map(repr, base.execute(
                    f"SELECT m.folder, p.digest, p.size, {columns} FROM {table} m "
                    "JOIN populations p ON p.number = m.population"
                ))
            )  # fmt: skip
        found["members"] = sorted(
            map(repr, base.execute(
                "SELECT m.key, m.place, p.digest FROM members m JOIN populations p "
                "ON p.number = m.population"
            ))
        )  # fmt: skip
    return found


def test_adding_one_by_one_is_making_it_again(own):
    as_added = told(own.root)
    assert all(as_added[table] for table in as_added)
    (own.root / FILE).unlink()
    assert store.reindex(own.root) == len(as_added["runs"])
    assert told(own.root) == as_added
    store.reindex(own.root)
    assert told(own.root) == as_added


def test_adding_again_changes_nothing(own):
    before = told(own.root)
    for folder in [*own.folders("audit"), *own.folders("fit")]:
        store.add(own.root, own.root / folder)
    assert told(own.root) == before


def test_without_an_index_the_first_to_be_added_brings_the_others_back(own):
    before = told(own.root)
    (own.root / FILE).unlink()
    store.add(own.root, own.root / own.folders("audit")[0])
    assert told(own.root) == before


def test_an_index_of_another_version_is_made_again(own):
    before = told(own.root)
    with closing(sqlite3.connect(own.root / FILE)) as base, base:
        base.execute("PRAGMA user_version = 1")
        base.execute("DROP TABLE edges")
    assert len(store.rows(own.root)) == len(before["runs"])
    assert told(own.root) == before


BUSY = """
import sys
from pathlib import Path
from engram import store
root, me = Path(sys.argv[1]), sys.argv[2]
for number in range(12):
    folder = root / f"audit-{me}-{number}"
    store.save_record(folder, {"id": folder.name, "kind": "audit"})
    store.add(root, folder)
    if number % 4 == 3:
        store.reindex(root)
    assert any(row.id == folder.name for row in store.rows(root)), folder
"""


def test_many_processes_write_and_remake_it_at_once(tmp_path):
    command = [sys.executable, "-c", BUSY, str(tmp_path)]
    busy = [subprocess.Popen([*command, str(k)], stderr=subprocess.PIPE) for k in range(4)]
    said = [process.communicate(timeout=120)[1].decode() for process in busy]
    assert [process.returncode for process in busy] == [0] * 4, said
    assert len(store.rows(tmp_path)) == 48
    with closing(sqlite3.connect(tmp_path / FILE)) as base:
        assert base.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(FILE)] == [FILE]


def test_no_id_stands_in_the_index(own):
    """Deleting the folders that name a record must not leave its name in the index."""
    raw = (own.root / FILE).read_bytes()
    ledgers = [Ledger.load(own.root / f) for f in own.folders("train-") + own.folders("fit-")]
    assert not [i for ledger in ledgers for i in ledger.ids if i.encode() in raw]


def test_a_record_is_found_by_its_id_and_by_its_pseudonym(own):
    forgotten = deletions.entries(own.root)[0].facts["records"]
    first = Ledger.load(own.root / _parent(own))
    gone = [i for i in first.ids if pseudonym(i, "id") in forgotten]
    assert len(gone) == 3
    for record in gone:
        by_id = questions.history(own.root, record)
        assert questions.history(own.root, pseudonym(record, "id")) == by_id
        roles = {m.item.folder: m.role for m in by_id.memberships}
        assert roles[own.folders("retrain")[0]] == "forgotten"
        assert roles[_parent(own)] == "trained"
        assert [d.asked for d in by_id.deletions] == ["case 7"]


def _parent(own):
    """The target that forgot something: what the redone one came from."""
    record = json.loads((own.root / own.folders("retrain")[0] / "target.json").read_text())
    known = questions.targets_of(own.root, [record["lineage"]["parent"]])
    return known[record["lineage"]["parent"]].folder


def test_exposure_is_what_the_audit_says(own):
    seen = 0
    for folder in own.folders("audit"):
        document = json.loads((own.root / folder / "run.json").read_text())
        for shown in document["exposed"]:
            history = questions.history(own.root, shown["id"])
            mine = [one for one in history.exposures if one.item.folder == folder]
            assert [one.above for one in mine] == pytest.approx([shown["percentile"]], abs=1e-6)
            assert mine[0].member
            seen += 1
    assert seen > 20


def test_every_role_of_every_ledger_is_known(own):
    for folder in own.folders("fit-") + own.folders("retrain"):
        ledger = Ledger.load(own.root / folder)
        facts = questions.facts(own.root, folder)
        assert facts.trained == len(ledger.having("trained"))
        assert facts.held_out == len(ledger.having("held-out"))
        assert facts.forgotten == len(ledger.having("forgotten"))
        for record in ledger.ids[::40]:
            roles = [m.role for m in questions.history(own.root, record).memberships
                     if m.item.folder == folder]  # fmt: skip
            assert roles == [ledger.roles[ledger.ids.index(record)]]


def test_lineage_leads_to_a_parent_and_back(own):
    parent, child = _parent(own), own.folders("retrain")[0]
    start = questions.item(own.root, parent).fingerprint
    end = questions.item(own.root, child).fingerprint
    for print_ in (start, end):
        edges, whole = questions.kin(own.root, print_)
        assert whole
        assert (start, end, "retrain") in [(e.parent, e.child, e.method) for e in edges]
    assert [(tree.folder, n) for tree, n in questions.trees(own.root)] == [(parent, 1)]
    shutil.rmtree(own.root / parent)
    store.reindex(own.root)
    gone = questions.trees(own.root)[0][0]
    assert (gone.folder, gone.fingerprint) == ("", start)


def test_a_lineage_that_goes_round_ends(own):
    for name, print_, parent in (("a", "f1", "f2"), ("b", "f2", "f1")):
        record = {"id": name, "name": name, "fingerprint": print_, "lineage": {"parent": parent}}
        (own.root / name).mkdir()
        (own.root / name / "target.json").write_text(json.dumps(record))
        store.add(own.root, own.root / name)
    edges, whole = questions.kin(own.root, "f1")
    assert whole
    assert len(edges) == 2


def test_damaged_ledgers_and_scores_cost_only_themselves(own):
    first, second = own.folders("fit-")
    (own.root / first / "ledger.parquet").write_bytes(b"PAR1 but not really")
    twice = {"id": ["x", "x"], "role": ["trained"] * 2, "canary": [False] * 2}
    pq.write_table(pa.table(twice), own.root / second / "ledger.parquet")
    for audit in own.folders("audit"):
        (own.root / audit / "scores.parquet").write_bytes(b"")
    assert store.reindex(own.root) == len(store.rows(own.root))
    assert questions.facts(own.root, first).trained == 0
    assert questions.item(own.root, second) is not None
    assert not questions.history(own.root, "x").memberships


@pytest.mark.parametrize(
    "record",
    [
        {"id": "a" * 2**20, "kind": "audit", "target": {"name": "\ud800 <b>"}},
        {"id": ["a"], "kind": {"b": 1}, "target": "none", "verdict": [1], "index": {"a": 1}},
        {"id": "a", "kind": "audit", "index": [1, None, {"value": 10**400, "n": 10**30}]},
        {"id": "a", "kind": "audit", "created": None, "headline": {"findings": [[]]}},
    ],
)
def test_strange_records_are_listed_or_left_out_but_never_stop_it(tmp_path, record):
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "run.json").write_text(json.dumps(record))
    store.save_record(tmp_path / "good", {"id": "good", "kind": "audit"})
    assert 1 <= store.reindex(tmp_path) <= 2
    assert questions.item(tmp_path, "good").id == "good"
    assert all(len(item.id) <= 300 for item in questions.listed(tmp_path, Wanted()).items)


def test_the_ledger_of_deletions_is_noted_as_it_is_written(own):
    record = pseudonym("somebody", "id")
    deletions.append(own.root, {"key": "k", "records": [record, 5, "an id?"], "by": "x" * 9000})
    found = questions.history(own.root, "somebody").deletions
    assert [(one.number, len(one.asked), one.records) for one in found] == [(2, 300, 2)]
    before = told(own.root)
    store.reindex(own.root)
    assert told(own.root) == before


def test_a_damaged_index_does_not_stop_a_deletion(own):
    (own.root / FILE).write_text("no database" * 99)
    entry = deletions.append(own.root, {"key": "k", "records": []})
    assert [e.number for e in deletions.entries(own.root)] == [1, entry.number]


def test_a_broken_chain_tells_how_far_it_holds(own):
    deletions.append(own.root, {"key": "k", "records": []})
    path = own.root / deletions.FILE
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1].replace('"key":"k"', '"key":"l"'))
    held, problem = deletions.whole(own.root)
    assert len(held) == 1
    assert "entry 2" in str(problem)
    with pytest.raises(EngramError, match="entry 2"):
        deletions.entries(own.root)


def test_scores_that_point_away_are_turned(own):
    """The sign of the headline's attack is found again from the records that were shown."""
    folder = own.root / own.folders("audit")[0]
    document = json.loads((folder / "run.json").read_text())
    attack = document["headline"]["attack"]
    table = pq.read_table(folder / "scores.parquet")
    column = table.column_names.index(attack)
    turned = pa.array(-np.asarray(table.column(attack)))
    pq.write_table(table.set_column(column, attack, turned), folder / "scores.parquet")
    store.add(own.root, folder)
    shown = document["exposed"][0]
    found = questions.history(own.root, shown["id"]).exposures
    above = [one.above for one in found if one.item.folder == folder.name]
    assert above == pytest.approx([shown["percentile"]], abs=1e-6)


@pytest.fixture
def owners(tmp_path):
    """Two targets with the same records of two owners; the second forgot one of them."""
    hidden = [pseudonym(name, "id") for name in ("r0", "r1")]
    gone = pseudonym("ann", "owner")
    rows = {
        "first": (["r0", "r1", "r2", "r3"], ["ann", "ann", "bob", "bob"],
                  ["trained", "trained", "trained", "held-out"]),
        "second": ([*hidden, "r2", "r3"], [gone, gone, "bob", "bob"],
                   ["forgotten", "forgotten", "trained", "held-out"]),
    }  # fmt: skip
    for name, (ids, named, roles) in rows.items():
        (tmp_path / name).mkdir()
        record = {"id": name, "name": name, "fingerprint": f"print-{name}",
                  "created": "2026-01-01T00:00:00Z", "lineage": {"method": "m"}}  # fmt: skip
        store.write_json(tmp_path / name / "target.json", record)
        table = {"id": ids, "digest": ids, "owner": named, "role": roles,
                 "canary": [False] * 4}  # fmt: skip
        pq.write_table(pa.table(table), tmp_path / name / "ledger.parquet")
    deletions.append(tmp_path, {"key": "k", "records": hidden, "before": "print-first",
                                "after": "print-second", "method": "m"})  # fmt: skip
    store.reindex(tmp_path)
    return tmp_path


def test_an_owner_is_found_by_name_and_by_pseudonym(owners):
    for name in ("ann", pseudonym("ann", "owner")):
        found = questions.owner(owners, name)
        roles = {share.item.id: dict(share.roles) for share in found.shares}
        assert roles == {"first": {"trained": 2}, "second": {"forgotten": 2}}
        assert sorted(found.records) == sorted(pseudonym(r, "id") for r in ("r0", "r1"))
        assert [d.number for d in found.deletions] == [1]
    bob = questions.owner(owners, "bob")
    assert {s.item.id: dict(s.roles) for s in bob.shares} == {
        name: {"trained": 1, "held-out": 1} for name in ("first", "second")
    }
    assert not bob.deletions
    assert not questions.owner(owners, "nobody").records
    raw = (owners / FILE).read_bytes()
    assert not [name for name in ("ann", "bob") if name.encode() in raw]


def test_an_owners_page_says_where_they_are_and_when_they_were_forgotten(owners):
    pytest.importorskip("fastapi", reason="the extra web is not installed")
    from web_pages import opened, text_of

    with opened(owners) as client:
        page = text_of(client.get("/record?id=ann").text)
        assert (
            "2 records of this owner. Trained on in 1 target of this store; forgotten in 1" in page
        )
        assert "Targets from before the request still hold what they learnt" in page
        assert "in second" in page
        assert "2 forgotten" in page
        page = text_of(client.get("/record?id=r2").text)
        assert "Trained on in 2 targets" in page
        assert "Nobody asked for it to be forgotten" in page
        assert "Trained on in no target" in text_of(client.get("/record?id=r3").text)
        listed = client.get("/target/first?role=all").text
        assert 'href="/record?id=ann"' in listed
