"""Writing records: what was written is read back, and nothing is left half-written."""

import errno
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engram.core import EngramError, Split
from engram.data import output, read, write
from engram.data.writing import umask

TEXTS = ('a "quoted", word', "two\nlines", "naïve 日本語", "", "=1+1", " spaced ")


@pytest.fixture
def split():
    return Split.of(
        "texts", text=TEXTS, owners=list("aabbcc"), ids=[f"r{i}" for i in range(6)],
        number=["007", "1e5", "3", "", "nan", "true"],
    )  # fmt: skip


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz", "a.csv.gz"]
)
def test_what_was_written_is_read_back(split, tmp_path, name):
    path = write(split, tmp_path / name)
    again = read(path)
    assert again.fingerprint == split.fingerprint
    assert (again.ids, again.owners, again.texts) == (split.ids, split.owners, split.texts)
    assert os.listdir(tmp_path) == [name]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def test_canaries_come_back(tmp_path, split):
    marked = Split(
        "texts", split.records, split.ids, split.owners, (True, False, False, False, True, False)
    )
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        assert read(write(marked, tmp_path / name)).canaries == marked.canaries


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_features_come_back(tmp_path, name):
    features = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    split = Split.of("arrays", features=features, label=[0, 1, 2, 1, 0])
    again = read(write(split, tmp_path / name))
    np.testing.assert_array_equal(again.matrix(), features)
    assert again.digests == split.digests


def test_csv_refuses_what_it_cannot_hold(tmp_path):
    split = Split.of("arrays", features=np.zeros((2, 3)), label=[0, 1])
    with pytest.raises(EngramError, match=r"'features' is .*which CSV cannot hold") as caught:
        write(split, tmp_path / "a.csv")
    assert ".parquet" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_stays(split, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("mine")
    with pytest.raises(EngramError, match="is there already"):
        write(split, path)
    assert path.read_text() == "mine"
    write(split, path, force=True)
    assert len(read(path)) == 6


def test_unknown_endings(split, tmp_path):
    for name in ("a.txt", "a.xlsx", "a", "a.parquet.gz"):
        with pytest.raises(EngramError, match="does not say a format"):
            write(split, tmp_path / name)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv.gz", "a.parquet"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(split, tmp_path, monkeypatch, name):
    path = write(split, tmp_path / name)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(output.os, "fsync", full)
    with pytest.raises(EngramError, match="No space left on device") as caught:
        write(split.take([0]), path, force=True)
    assert "space" in caught.value.hint
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [name]


def test_a_record_that_json_cannot_say_leaves_nothing(tmp_path):
    split = Split.of("texts", text=["a", "b"], number=[1.0, float("nan")])
    with pytest.raises(EngramError, match="JSON has no word for"):
        write(split, tmp_path / "a.jsonl")
    assert not list(tmp_path.iterdir())


def test_no_such_folder(split, tmp_path):
    with pytest.raises(EngramError, match="cannot be written"):
        write(split, tmp_path / "no" / "a.jsonl")


def test_parquet_keeps_what_records_share(tmp_path):
    shared = {
        "image_shape": np.array([2, 2]),
        "standards": np.array([[0.1, 1 / 3]], np.float32),
        "class_names": np.array(["a", "é"]),
        "flat": np.array(True),
    }
    split = Split.of("x", features=np.eye(4, dtype=np.float32), label=[0, 1, 0, 1], shared=shared)
    back = read(write(split, tmp_path / "a.parquet"))
    assert set(back.shared) == set(shared)
    for name, values in shared.items():
        assert back.shared[name].dtype == values.dtype
        assert np.array_equal(back.shared[name], values)
    assert back.fingerprint == split.fingerprint


@pytest.mark.parametrize(
    "told",
    [b"{", b"[]", b'{"x": {"type": "O", "shape": [1], "values": [1]}}',
     b'{"x": {"type": "<f4", "shape": [3], "values": [1]}}', b'{"x": {"shape": [1]}}'],
)  # fmt: skip
def test_what_a_file_says_that_records_share_is_checked(told, tmp_path):
    table = pa.table({"text": ["a"]}).replace_schema_metadata({b"engram.shared": told})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(EngramError, match="what its records share"):
        read(tmp_path / "a.parquet")


def test_what_records_share_must_be_numbers_or_words(tmp_path):
    split = Split.of("x", text=["a"], shared={"odd": np.array([object()])})
    with pytest.raises(EngramError, match="'odd' holds object"):
        write(split, tmp_path / "a.parquet")
