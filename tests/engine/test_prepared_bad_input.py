"""Bad input where deletion was prepared for, by the command line (graphs: test_graph_files)."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engram import data
from engram.engine import load
from engram.parts.sharding import FILE

N = 24


@pytest.fixture
def table(tmp_path):
    rows = [f"{i % 2},{i * 0.5 + i % 2},7,{'red' if i % 3 else 'blue'}" for i in range(N)]
    path = tmp_path / "table.csv"
    path.write_text("label,a,flat,kind\n" + "\n".join(rows) + "\n")
    return path


def test_k_larger_than_the_table(table, refused):
    said = refused("transform", "k-anonymise", "--data", table, "--k", 99, "--out", "o.parquet")
    assert "k is 99, but the table has only 24 records" in said
    assert "k is 99" in refused("train", "eupg", "--data", table, "--k", 99, "--out", "made")


def test_a_constant_column_stays_as_it_is(table, engram):
    made = engram("transform", "k-anonymise", "--data", table, "--k", 3, "--out", "o.parquet")
    assert made.code == 0
    names = data.read(table).shared["feature_names"].tolist()
    assert set(data.read("o.parquet").matrix("features")[:, names.index("flat")]) == {7.0}


def test_bounds_that_the_data_exceed_are_clipped_and_counted(table, engram, refused):
    asked = ("transform", "dp-data", "--data", table, "--epsilon", 50, "--out", "o.parquet")
    said = engram(*asked, "--bounds", "a=0:5", "flat=0:9", "--json").json
    values = data.read(table).matrix("features")[:, 0]
    assert said["facts"]["values beyond their bounds"] == (values > 5).sum() > 0
    assert data.read("o.parquet").matrix("features")[:, 0].max() <= 5
    backwards = (*asked[:-1], "p.parquet", "--bounds", "a=5:0", "flat=0:9")
    assert "5" in refused(*backwards)


def test_records_with_other_categories_are_not_asked_about(table, engram, refused, tmp_path):
    assert engram("train", "eupg", "--data", table, "--k", 3, "--epochs", 2, "--tune-epochs", 1,
                  "--out", "made").code == 0  # fmt: skip
    other = tmp_path / "other.csv"
    other.write_text(table.read_text().replace("blue", "green", 1).replace("7,", "8,"))
    outside = tmp_path / "outside.csv"
    outside.write_text(other.read_text().replace("8,", "9,"))
    said = refused("audit", "made", "--members", other, "--outsiders", outside)
    assert "5 features" in said
    assert "takes 4" in said


def test_a_record_that_two_shards_claim(table, engram, refused):
    few = ("--shards", 2, "--slices", 1, "--epochs", 2)
    assert engram("train", "sisa", "--data", table, *few, "--out", "s").code == 0
    path = load("s").folder / FILE
    found = pq.read_table(path)
    pq.write_table(pa.concat_tables([found, found.slice(0, 1)]), path)
    assert "is claimed by shard" in refused("audit", "s", "--out", "seen")
    shard = np.append(found["shard"].to_numpy(), 1 - found["shard"][0].as_py())
    twice = pa.concat_tables([found, found.slice(0, 1)]).set_column(
        found.column_names.index("shard"),
        "shard",
        pa.array(shard, found.schema.field("shard").type),
    )
    pq.write_table(twice, path)
    assert "shard" in refused("forget", "s", "--ids", found["id"][0].as_py(), "--out", "t")


def test_the_last_record_of_a_class_and_of_a_shard_may_leave(table, engram):
    lines = table.read_text().splitlines()
    lines += ["2,40.0,7,red", "2,41.0,7,red"]
    table.write_text("\n".join(lines) + "\n")
    few = ("--shards", 8, "--slices", 1, "--epochs", 2, "--classes", 3)
    assert engram("train", "sisa", "--data", table, *few, "--out", "s").code == 0
    target, records = load("s"), data.read(table)
    sizes = target.model.placement.sizes.sum(1)
    smallest = int(np.where(sizes > 0, sizes, N).argmin())
    third = set(target.ledger.having("trained")) & set(records.ids[-2:])
    assert third
    gone = {*third, *target.model.placement.inside(smallest)}
    asked = ("forget", "s", "--ids", ",".join(gone), "--battery", "quick", "--no-retrain")
    said = engram(*asked, "--out", "t")
    assert said.code == 0, said.err
    after = load("t")
    assert smallest not in after.model.alive
    assert not set(after.ledger.having("trained")) & gone
