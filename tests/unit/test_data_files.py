"""Files from outside: every format gives the same records, every mistake names its place."""

import csv
import gzip
import json
import os
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engram.core import EngramError
from engram.data import read

ROWS = [
    {"id": "1", "owner": "ann", "text": 'a "quoted", word', "note": "x"},
    {"id": "2", "owner": "bob", "text": "two\nlines", "note": "y"},
    {"id": "3", "owner": "ann", "text": "naïve 日本語", "note": "z"},
]


def written(path, rows=ROWS):
    name = path.name.removesuffix(".gz")
    if name.endswith((".jsonl", ".ndjson")):
        text = "".join(json.dumps(row) + "\n" for row in rows)
    elif name.endswith(".json"):
        text = json.dumps(rows)
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    else:
        lines = []
        sink = type("Sink", (), {"write": lambda self, line: lines.append(line)})()
        delimiter = "\t" if name.endswith(".tsv") else ","
        writer = csv.DictWriter(sink, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
        text = "".join(lines)
    raw = text.encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize(
    "name",
    ["a.jsonl", "a.ndjson", "a.json", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz", "a.csv.gz",
     "A.JSONL"],
)  # fmt: skip
def test_every_format_gives_the_same_records(tmp_path, name):
    path = tmp_path / name
    if name == "A.JSONL":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        written(path)
    split = read(str(path))
    assert split.ids == ("1", "2", "3")
    assert split.owners == ("ann", "bob", "ann")
    assert split.texts == tuple(row["text"] for row in ROWS)
    assert split.columns == ("text", "note")
    assert split.name == "a" or name == "A.JSONL"


def test_formats_agree_on_contents(tmp_path):
    digests = {
        read(written(tmp_path / name)).digests
        for name in ("a.jsonl", "a.csv", "a.tsv", "a.parquet")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_text_is_one_record_a_line(tmp_path, name):
    raw = "\ufefffirst\r\n\n  \n third line \n".encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    assert read(path).texts == ("first", " third line ")


def test_more_rows_than_one_block_and_keys_that_come_and_go(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"text": f"t{i}"} | ({"late": i} if i > 8500 else {}) for i in range(9000)]
    written(path, rows)
    split = read(path)
    assert split.texts == tuple(f"t{i}" for i in range(9000))
    assert split.column("late").to_pylist() == [None] * 8501 + list(range(8501, 9000))


def test_a_kind_that_changes_after_the_first_block_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    written(path, [{"text": "t", "n": 1 if i < 8500 else "x"} for i in range(9000)])
    with pytest.raises(EngramError, match=r"line 8501: 'n' is a string, but a number before"):
        read(path)


def test_whole_and_broken_numbers_may_be_mixed(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "n": 1}\n{"text": "b", "n": 2.5}\n')
    assert read(path).column("n").to_pylist() == [1.0, 2.5]


BROKEN = [
    ("a.jsonl", b"", "empty", "one record a line"),
    ("a.jsonl", b"\n \n", "holds no records", ""),
    ("a.csv", b"text,owner\n", r"header \(text, owner\) but no records", ""),
    ("a.json", b"[]", "holds no records", ""),
    ("a.jsonl", b'{"text": "caf\xe9"}\n', r"byte 0xe9 at offset 13 \(line 1\)", "UTF-8"),
    ("a.txt", b"abc\nd\xff\n", r"byte 0xff at offset 5 \(line 2\)", "UTF-8"),
    ("a.csv", b"text\nabc\nd\xff\n", r"byte 0xff at offset 10 \(line 3\)", "UTF-8"),
    ("a.json", b'[{"text":\n"\xff"}]', r"byte 0xff at offset 11 \(line 2\)", "UTF-8"),
    ("a.jsonl", '{"text": "a"}'.encode("utf-16"), "byte 0xff", "UTF-16"),
    ("a.jsonl", gzip.compress(b'{"text": "a"}', mtime=0), "byte 0x8b", "gzip"),
    ("a.jsonl", b'{"text": "a"}\n{"text": "b"\n', "line 2 is not JSON.*character 13", "valid"),
    ("a.jsonl", b'{"text": "a"}\n\n["b"]\n', "line 3 holds a list, not an object", "text"),
    ("a.jsonl", b'{"text": "a"}\n7\n', "line 2 holds a number", ""),
    ("a.jsonl", b'{"text":' + b"[" * 100_000, "line 1 is JSON that cannot", "nested"),
    ("a.jsonl", b'{"text": "\\ud800"}\n', "line 1: 'text' holds a value", "surrogate"),
    ("a.jsonl", b'{"text": "a", "n": ' + b"9" * 30 + b"}\n", "line 1: 'n' holds", "64 bits"),
    ("a.jsonl", b'{"text": "a", "n": ' + b"9" * 5000 + b"}\n", "line 1 is JSON that", "digits"),
    ("a.jsonl", b'{"text": "a"}\n{"text": null}\n', "line 2: 'text' is missing", ""),
    ("a.jsonl", b'{"text": "a"}\n{"other": "b"}\n', "line 2: 'text' is missing", ""),
    ("a.jsonl", b'{"text": "a"}\n{"text": 5}\n', "line 2: 'text' is a number, but a str", ""),
    ("a.jsonl", b'{"text": 4}\n{"text": 5}\n', "line 1: 'text' is int64", "--text-column"),
    ("a.json", b'{"text": "a"}', "holds an object", ".jsonl"),
    ("a.json", b'[{"text": "a"}, 3]', "row 2 holds a number", ""),
    ("a.json", b'{"text": "a"}\n{"text": "b"}', "Extra data at line 2", ".jsonl"),
    ("a.csv", b'text,owner\n"a\nb",c\nd\n', "line 4 has 1 values, but .* 2 columns", "quotes"),
    ("a.csv", b"text,owner\na,b,c\n", "line 2 has 3 values", "quotes"),
    ("a.csv", b'text,owner\n"a,b\nc,d\n', "line 2: broken quoting", ""),
    ("a.csv", b'text,owner\n"a"b,c\n', "line 2: broken quoting", ""),
    ("a.csv", b"a,a\n1,2\n", "names 'a' twice", ""),
    ("a.parquet", b"PAR1garbage", "not a readable Parquet", ""),
    ("a.jsonl.gz", b"plain", "not a whole gzip", ""),
    ("a.txt.gz", gzip.compress(os.urandom(4000).hex().encode())[:2000], "not a whole gzip", ""),
    ("a.pkl", b"\x80\x04", "pickle is never opened", ".jsonl"),
    ("a.pt", b"PK", "pickle is never opened", ".jsonl"),
    ("a.xlsx", b"PK", "no format", ".csv"),
    ("a", b"text", "no ending", ".csv"),
]


@pytest.mark.parametrize(("name", "content", "fact", "hint"), BROKEN)
def test_broken_files_say_where_and_what_to_do(tmp_path, name, content, fact, hint):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(EngramError, match=fact) as caught:
        read(path)
    assert hint in caught.value.hint
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"text": "' + b"x" * 50_000_000 + b'"}\n'),
        ("a.txt", b"x" * 50_000_000),
        ("a.csv", b'text\n"' + b"x" * 50_000_000 + b'"\n'),
    ],
)
def test_a_huge_record_is_refused_quickly_and_measured(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    start = time.perf_counter()
    with pytest.raises(EngramError, match=r"line \d is 50\.0 MB long, more than the 10\.5 MB"):
        read(path)
    assert time.perf_counter() - start < 5


def test_a_record_that_quoted_line_ends_make_huge_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'text\nshort\n"' + b"word word\n" * 300 + b"\n")
    with pytest.raises(EngramError, match=r"from line 3 is over 1.* more than the 1") as caught:
        read(path, max_record_bytes=1000)
    assert "never closed" in caught.value.hint


def test_a_huge_record_in_parquet_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["ok", "x" * 2000]}), path)
    with pytest.raises(EngramError, match=r"row 2 is 2.0 kB long, more than the 1.0 kB"):
        read(path, max_record_bytes=1000)
    assert len(read(path)) == 2


def test_long_fields_within_the_limit_are_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "x" * 200_000 + "\n")
    before = csv.field_size_limit()
    assert len(read(path).texts[0]) == 200_000
    assert csv.field_size_limit() == before


def test_a_compressed_bomb_is_not_unfolded(tmp_path, monkeypatch):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"0123456789\n" * 200_000))
    from engram.data import files, sources

    with pytest.raises(EngramError, match=r"unfolds to more than 1.0 MB"):
        files.read_rows(path, sources.Limits(total=10**6))
    big = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["0123456789"] * 200_000}), big, use_dictionary=False)
    with pytest.raises(EngramError, match=r"unfolds to more than 1.0 MB"):
        files.read_rows(big, sources.Limits(total=10**6))


def test_pipes_devices_and_folders_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(EngramError, match="is a pipe"):
        read(tmp_path / "pipe.jsonl")
    with pytest.raises(EngramError, match="is a device"):
        read("/dev/zero")


def test_missing_files_name_their_neighbours(tmp_path):
    written(tmp_path / "letters.jsonl")
    with pytest.raises(EngramError, match=r"there is no file .*lettres.jsonl") as caught:
        read(tmp_path / "lettres.jsonl")
    assert "letters.jsonl" in caught.value.hint
    with pytest.raises(EngramError, match="no file") as caught:
        read(tmp_path / "nowhere" / "a.jsonl")
    assert "no folder" in caught.value.hint


@pytest.mark.parametrize("source", ["", "  ", "nothing like it", "a\0b", "x" * 5000])
def test_what_is_no_source_at_all(source):
    with pytest.raises(EngramError, match=r"no data was named|there is no file") as caught:
        read(source)
    assert caught.value.hint


def test_folders_of_shards(tmp_path):
    for i in range(3):
        written(tmp_path / f"part-{i}-of-3.jsonl", [{"text": f"t{i}"}])
    (tmp_path / "README.md").write_text("no data")
    assert read(tmp_path).texts == ("t0", "t1", "t2")
    written(tmp_path / "other.jsonl", [{"text": "x"}])
    with pytest.raises(EngramError, match=r"several data sets: other.jsonl, part-0-of-3.jsonl"):
        read(tmp_path)


def test_a_folder_without_data(tmp_path):
    with pytest.raises(EngramError, match="no data files in it"):
        read(tmp_path)


def test_what_save_to_disk_wrote(tmp_path):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_list(ROWS)
    table.save_to_disk(str(tmp_path / "one"))
    assert read(tmp_path / "one").texts == tuple(row["text"] for row in ROWS)
    datasets.DatasetDict(a=table, b=table).save_to_disk(str(tmp_path / "two"))
    with pytest.raises(EngramError, match="several data sets: a, b"):
        read(tmp_path / "two")
    assert len(read(tmp_path / "two" / "b")) == 3


def test_a_saved_folder_cannot_point_elsewhere(tmp_path):
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../x"}]}))
    with pytest.raises(EngramError, match="not a data set that `save_to_disk` wrote"):
        read(tmp_path)


def test_the_hub_out_of_reach_is_a_clean_error(monkeypatch):
    import datasets

    def refused(*args, **kwargs):
        assert "trust_remote_code" not in kwargs
        raise ConnectionError("no route to anywhere\nat all")

    monkeypatch.setattr(datasets, "load_dataset", refused)
    for source in ("hf:nobody/nothing", "nobody/nothing", "hf:nothing?split=test&config=x"):
        with pytest.raises(EngramError, match="no route to anywhere") as caught:
            read(source)
        assert "save_to_disk" in caught.value.hint


def test_the_hub_gives_a_table(monkeypatch):
    import datasets

    asked = []

    def found(*args, **kwargs):
        asked.append((args, kwargs))
        return datasets.Dataset.from_list(ROWS).select([2, 0])

    monkeypatch.setattr(datasets, "load_dataset", found)
    split = read("hf:some/body?split=test&config=x")
    assert split.ids == ("3", "1")
    assert split.name == "body"
    assert asked == [(("some/body", "x"), {"split": "test"})]
