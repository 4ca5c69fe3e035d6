"""A user's own graph: from two files to a target, an audit, deletions; and what is refused."""

import json

import numpy as np
import pytest

from engram import data
from engram.core import EngramError
from engram.core.ledger import pseudonym
from engram.engine import load
from engram.parts.graph import graph_beside

N = 80
FEW = ("--shards", 2, "--epochs", 4, "--width", 8, "--partition", "random", "--sample", 20)


@pytest.fixture
def folder(tmp_path):
    """A ring of 78 nodes with cords, a node with nothing but a self-loop, one without any edge."""
    rng = np.random.default_rng(0)
    label = np.arange(N) % 3
    features = rng.normal(size=(N, 3)) + label[:, None]
    lines = ["id,label,a,b,c"]
    lines += [
        f"no-{i},{'xyz'[label[i]]}," + ",".join(f"{v:.3f}" for v in features[i]) for i in range(N)
    ]
    ring = [(i, (i + step) % (N - 2)) for step in (1, 3) for i in range(N - 2)]
    edges = ["source,target"] + [f"no-{u},no-{v}" for u, v in [*ring, (1, 0), (N - 2, N - 2)]]
    place = tmp_path / "graph"
    place.mkdir()
    (place / "nodes.csv").write_text("\n".join(lines) + "\n")
    (place / "edges.csv").write_text("\n".join(edges) + "\n")
    return place


def test_two_files_are_a_graph(folder):
    split = data.read(folder)
    graph, features = graph_beside(split)
    assert len(split) == graph.nodes == N
    assert split.ids[7] == "no-7"
    assert graph.edges.shape[1] == 2 * (N - 2)  # the copy and the self-loop are left out
    assert graph.isolated.tolist() == [False] * (N - 2) + [True, True]
    np.testing.assert_array_equal(features, split.matrix("features"))
    assert split.shared["classes"].tolist() == ["x", "y", "z"]
    few = data.read(folder, limit=9)
    assert len(few) == 9
    assert graph_beside(few)[0].nodes == N


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_the_files_may_be_of_any_format(folder, kind, tmp_path):
    split = data.read(folder)
    other = tmp_path / "other"
    other.mkdir()
    plain = split.only(["features", "label"])
    data.write(type(plain)(plain.name, plain.records, plain.ids), other / f"nodes.{kind}")
    (other / "edges.tsv").write_text(
        (folder / "edges.csv").read_text().replace(",", "\t").replace("source", "from")
    )
    again = data.read(other)
    assert again.ids == split.ids
    np.testing.assert_array_equal(again.shared["edges"], split.shared["edges"])
    np.testing.assert_array_equal(again.matrix("features"), split.matrix("features"))


def test_a_graph_is_written_with_its_edges_or_not_at_all(folder, engram, refused, tmp_path):
    for name in ("out.jsonl", "out.csv"):
        said = refused("transform", "k-anonymise", "--data", folder, "--k", 2, "--out", name)
        assert "cannot hold the graph" in said
    changed = ("transform", "k-anonymise", "--data", folder, "--k", 2, "--out", "g.parquet")
    assert engram(*changed).code == 0
    split, again = data.read(folder), data.read("g.parquet")
    assert len(again) == N
    assert all(np.array_equal(again.shared[k], split.shared[k]) for k in split.shared)
    whole = data.read(data.write(split, tmp_path / "whole.parquet"))
    assert whole.fingerprint == split.fingerprint


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("edges.csv", "no-5,no-6", "no-5,no-600", "'no-600', which is not among the nodes"),
        ("edges.csv", "no-5,no-6", "no-5,", "line 7: an edge ends at node ''"),
        ("edges.csv", "no-5,no-6", "no-5", "line 7 has 1 values"),
        ("nodes.csv", "no-4,", "no-3,", "the id 'no-3' stands at line 5 and at line 6"),
        ("nodes.csv", "no-4,y", ",y", "line 6: 'id' is missing"),
        ("nodes.csv", "no-4,y", "no-4,", "line 6: 'label' is missing"),
        ("nodes.csv", "no-4,y,", "no-4,y,nan,", "line 6 has 6 values"),
        ("nodes.csv", "id,label", "name,label", "no column 'id'"),
        ("nodes.csv", "id,label", "id,class", "no column 'label'"),
    ],
)
def test_bad_graphs_are_refused(folder, refused, file, old, new, says):
    path = folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert says in refused("train", "graph-eraser", "--data", folder, "--out", "made")


def test_files_of_other_shapes_are_refused(folder, refused):
    def said():
        return refused("train", "train-graph-nodes", "--data", folder, "--out", "made")

    rows = (folder / "nodes.csv").read_text().splitlines()
    rows[10] = rows[10].rpartition(",")[0] + ",nan"
    (folder / "nodes.csv").write_text("\n".join(rows) + "\n")
    assert "line 11: 'c' is missing or not a finite number" in said()
    lists = [
        {"id": i, "label": i, "features": [float(i), float("nan" if i else 0)]} for i in (0, 1)
    ]
    (folder / "nodes.csv").unlink()
    (folder / "nodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lists))
    assert "line 2: a feature of node '1' is not a finite number" in said()
    words = [{"id": i, "label": i, "text": "a word"} for i in (0, 1)]
    (folder / "nodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in words))
    assert "has no features" in said()
    (folder / "edges.csv").write_text("source,weight,kind\n0,1,2\n")
    (folder / "nodes.csv").write_text("id,label,a\n0,0,1\n1,1,2\n")
    assert "has 2 files of nodes (nodes.csv, nodes.jsonl)" in said()
    (folder / "nodes.jsonl").unlink()
    assert "has the columns source, weight, kind, but an edge has two ends" in said()
    (folder / "edges.csv").unlink()
    assert "has no file of edges (edges.csv, say)" in said()


def test_from_files_to_deletions_and_an_audit(folder, engram, refused):
    """Every step by the command line: nodes and the ends of edges are named by their ids."""
    assert engram("train", "graph-eraser", "--data", folder, *FEW, "--out", "g").code == 0
    target = load("g")
    trained = target.ledger.having("trained")
    gone = ",".join(trained[:2])
    done = engram("forget", "g", "--ids", gone, "--battery", "quick", "--out", "g2", "--json").json
    assert (done["entry"], done["retrained"] is not None) == (done["entry"], True)
    assert set(load("g2").ledger.having("forgotten")).isdisjoint(trained[:2])  # pseudonyms alone
    graph = graph_beside(data.read(folder))[0]
    there = set(trained[2:])
    u, v = next((a, b) for a, b in graph.edges.T.tolist() if {f"no-{a}", f"no-{b}"} <= there)
    edge = ("edit", "graph-eraser-retrain", "g2", "--edges")
    assert engram(*edge, f"no-{v}-no-{u}", "--out", "g3").code == 0
    told = json.loads((load("g3").folder / "target.json").read_text())["lineage"]["config"]["edges"]
    assert told.startswith("forgotten-")
    assert f"no-{u}" not in told
    assert "no edge between" in refused(*edge, "no-0-no-40", "--out", "g4")
    assert "node 'no-900' does not exist" in refused(*edge, "no-0-no-900", "--out", "g4")
    assert "no record 'no-900'" in refused("forget", "g", "--ids", "no-900", "--out", "g4")
    asked = engram("audit", "g3", "--shadows", 4, "--out", "seen", "--json").json
    assert {"loss", "node-membership"} <= {found["method"] for found in asked["findings"]}


def test_what_a_battery_asks_of_a_graph(folder, engram):
    from engram.engine import EngineRun
    from engram.engine.battery import choose_battery

    engram("train", "train-graph-nodes", "--data", folder, "--epochs", 2, "--out", "plain")
    target = load("plain")
    asked = {
        name: set(choose_battery(target, EngineRun(), name).attacks)
        for name in ("quick", "standard", "thorough")
    }
    assert asked["quick"] == {"loss"}
    assert asked["standard"] == {"loss", "node-membership"}
    assert asked["thorough"] == {"loss", "node-membership", "posterior-attack"}


def test_edges_by_ids_and_what_is_told_of_them():
    from engram.core import EngramError
    from engram.parts.forgotten_edges import named_edges, told_of

    assert named_edges("b-a-1", ("a-1", "b")).T.tolist() == [[0, 1]]
    assert told_of("9-10") == told_of("10-9") == [pseudonym("9-10", "edge")]
    assert told_of("b-a") == [pseudonym("a-b", "edge")]
    with pytest.raises(EngramError, match="it can be read twice"):
        named_edges("a-a-a", ("a", "a-a"))
    with pytest.raises(EngramError, match="names no edge"):
        named_edges("a-", ("a",))


def test_edges_alone_lack_their_nodes(folder):
    (folder / "nodes.csv").rename(folder.parent / "nodes.csv")
    with pytest.raises(EngramError, match=r"has no file of nodes \(nodes\.csv, say\)") as caught:
        data.read(folder)
    assert "id, label, features" in caught.value.hint
    rows = '{"text": "one of many"}\n'
    (folder / "part.jsonl").write_text(rows)
    (folder / "edges.csv").unlink()
    (folder / "edges.jsonl").write_text(rows.replace("many", "several"))
    with pytest.raises(EngramError, match="holds several data sets"):
        data.read(folder)  # some files of records, of which one has that name
