"""Bare numbers: signs, membership words, and every mistake by its row."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engram.core import EngramError
from engram.data.scores import read_scores

GOOD = "id,member,target_nll,reference_nll,mine\na,1,3,1,9\nb,no,2,2.5,8\nc,YES,1,4,7\n"
GOOD += "d,outsider,4,4,6\n"


@pytest.fixture
def scored(tmp_path):
    def made(text, name="s.csv"):
        path = tmp_path / name
        path.write_text(text)
        return read_scores(path)

    return made


def test_losses_become_attacks_by_hand(scored):
    table = scored(GOOD)
    assert table.ids == ("a", "b", "c", "d")
    assert table.member.tolist() == [True, False, True, False]
    assert {k: v.tolist() for k, v in table.columns.items()} == {
        "loss": [-3, -2, -1, -4], "ratio": [-2, 0.5, 3, 0], "mine": [9, 8, 7, 6],
    }  # fmt: skip
    assert table.texts is None
    assert any("no texts" in note for note in table.notes)


def test_texts_and_owners_are_kept_apart(scored):
    table = scored("id,member,mine,text,owner\na,1,2,hello,x\nb,0,1,,y\nc,1,2,z,x\nd,0,1,u,y\n")
    assert table.texts == ("hello", "", "z", "u")
    assert table.owners == ("x", "y", "x", "y")
    assert list(table.columns) == ["mine"]
    assert table.notes == ()


def test_parquet_with_real_types(tmp_path):
    path = tmp_path / "s.parquet"
    columns = {"id": [1, 2, 3, 4], "member": [True, False, True, False], "mine": [1, 2, 3, 4]}
    pq.write_table(pa.table(columns), path)
    table = read_scores(path)
    assert table.ids == ("1", "2", "3", "4")
    assert table.member.tolist() == [True, False, True, False]
    assert table.columns["mine"].dtype == np.float64


def test_constant_scores_are_noted(scored):
    table = scored("id,member,mine\na,1,2\nb,0,2\nc,1,2\nd,0,2\n")
    assert any("'mine' are all 2" in note for note in table.notes)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("id,member,mine\na,1,1\nb,0,nan\nc,1,2\nd,0,2\n", "line 3: 'mine' is nan"),
        ("id,member,mine\na,1,1\nb,0,-inf\nc,1,2\nd,0,2\n", "line 3: 'mine' is -inf"),
        ("id,member,mine\na,1,1\nb,0,\nc,1,2\nd,0,2\n", "line 3: 'mine' is nan"),
        ("id,member,mine\na,1,1\nb,0,high\nc,1,2\nd,0,2\n", "line 3: 'mine' is 'high'"),
        ("id,member,mine\na,1,1\na,0,1\n", "'a' stands at line 2 and at line 3"),
        ("id,member,mine\na,1,1\nb,1,1\nc,1,2\n", "3 members and 0 outsiders"),
        ("id,member,mine\na,1,1\nb,0,1\n", "at least 2 of each"),
        ("id,member\na,1\nb,0\n", "no column of scores; it has id, member"),
        ("id,mine\na,1\n", "no column 'member'; it has id, mine"),
        ("member,mine\n1,1\n", "no column 'id'"),
        ("id,member,mine\na,perhaps,1\n", "line 2: 'member' is 'perhaps'"),
        ("id,member,mine\na,,1\n", "line 2: 'member' is ''"),
        ("id,member,mine\n,1,1\n", "line 2: 'id' is missing"),
        ("id,member,reference_nll\na,1,1\nb,0,1\n", "but no 'target_nll'"),
        ("id,member,target_nll,loss\na,1,1,1\nb,0,1,1\n", "both 'loss' and 'target_nll'"),
        ("id,member,mine\na,1,1\nb,0\n", "line 3 has 2 values"),
        ("id,member,mine\n", "no records"),
    ],
)
def test_mistakes(scored, text, fact):
    with pytest.raises(EngramError, match=fact) as caught:
        scored(text)
    assert caught.value.hint


def test_files_that_are_not_scores(tmp_path, scored):
    with pytest.raises(EngramError, match="no file of scores"):
        read_scores(tmp_path / "nowhere.csv")
    with pytest.raises(EngramError, match="not a CSV or Parquet"):
        scored("{}", name="s.jsonl")


def test_pairs_of_losses_stay_together():
    from engram.data.sets import mlm_clinicalbert_losses as losses

    files = {
        "loss_members_long_clinicalbert.txt": b"1\n2\n3\n", "loss_members_long_pubmed.txt":
        b"10\n20\n30\n", "loss_out_long_clinicalbert.txt": b"4\n5\n",
        "loss_out_long_pubmed.txt": b"40\n50\n",
    }  # fmt: skip
    table = losses.load(files, {"outsiders": "out"})
    assert table.member.tolist() == [True, True, True, False, False]
    assert table.columns["loss"].tolist() == [-1, -2, -3, -4, -5]
    assert table.columns["ratio"].tolist() == [9, 18, 27, 36, 45]
    assert table.ids[3] == "out-00001"
    files["loss_out_long_pubmed.txt"] = b"40\n"
    with pytest.raises(EngramError, match=r"\[3, 2\] and \[3, 1\] losses"):
        losses.load(files, {"outsiders": "out"})


@pytest.mark.parametrize(
    ("source", "loss", "ratio"),
    [
        ("mlm-clinicalbert-losses", 0.6606, 0.9280),
        ("mlm-clinicalbert-losses?outsiders=i2b2", 0.8126, 0.9040),
    ],
)
def test_the_published_losses_give_the_published_areas(data, source, loss, ratio):
    from scipy.stats import mannwhitneyu

    table = read_scores(source)
    for name, expected in (("loss", loss), ("ratio", ratio)):
        values = table.columns[name]
        found = mannwhitneyu(values[table.member], values[~table.member]).statistic
        area = found / (table.member.sum() * (~table.member).sum())
        assert area == pytest.approx(expected, abs=1e-4)
    assert any("no texts" in note for note in table.notes)
