"""Which column is what, and tables of features."""

import json

import numpy as np
import pytest

from engram.core import EngramError
from engram.data import read


@pytest.fixture
def file(tmp_path):
    def made(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path

    return made


def test_named_columns_get_their_own_names(file):
    path = file("a.csv", "no,who,words,text\n7,ann,hello,x\n8,bob,there,y\n")
    split = read(path, text_column="words", owner_column="who", id_column="no")
    assert split.ids == ("7", "8")
    assert split.owners == ("ann", "bob")
    assert split.texts == ("hello", "there")
    assert split.columns == ("text", "other_text")


def test_a_named_column_replaces_the_one_that_had_the_name(file):
    path = file("a.csv", "owner,patient,text\nx,ann,hello\nx,bob,there\n")
    assert read(path, owner_column="patient").owners == ("ann", "bob")


def test_only_the_only_string_column_is_taken_for_the_text(file):
    assert read(file("a.jsonl", '{"words": "a", "n": 3}\n')).texts == ("a",)
    two = file("b.jsonl", '{"words": "a", "more": "b"}\n')
    with pytest.raises(EngramError, match="the columns are words, more") as caught:
        read(two)
    assert "--text-column" in caught.value.hint
    none = file("c.jsonl", '{"n": 3}\n')
    with pytest.raises(EngramError, match="none of its columns holds strings"):
        read(none)


def test_an_unknown_column_names_the_nearest(file):
    path = file("a.jsonl", '{"words": "a", "more": "b"}\n')
    with pytest.raises(EngramError, match="no column 'word'; it has words, more") as caught:
        read(path, text_column="word")
    assert "did you mean words" in caught.value.hint


def test_one_column_cannot_be_two_things(file):
    path = file("a.jsonl", '{"words": "a", "more": "b"}\n')
    with pytest.raises(EngramError, match="'more' was named for two things"):
        read(path, id_column="more", owner_column="more")


def test_ids_must_be_unique_and_there(file):
    twice = '{"id": 1, "text": "a"}\n{"id": 2, "text": "a"}\n\n{"id": 1, "text": "b"}\n'
    with pytest.raises(EngramError, match="the id '1' stands at line 1 and at line 4"):
        read(file("a.jsonl", twice))
    with pytest.raises(EngramError, match="line 2: 'id' is missing"):
        read(file("b.jsonl", '{"id": 1, "text": "a"}\n{"text": "a"}\n'))
    with pytest.raises(EngramError, match="line 2: 'owner' is missing"):
        read(file("c.csv", "owner,text\n,a\n"))


def test_canaries_of_a_csv_are_read_as_yes_and_no(file):
    split = read(file("a.csv", "text,canary\na,true\nb,false\nc,0\n"))
    assert split.canaries == (True, False, False)
    with pytest.raises(EngramError, match="line 2: 'canary' is 'bird'"):
        read(file("b.csv", "text,canary\na,bird\n"))


def test_a_limit_takes_a_random_sample_in_order(file):
    path = file("a.txt", "".join(f"{i:03d}\n" for i in range(200)))
    some = read(path, limit=20, seed=1).texts
    assert len(some) == 20
    assert list(some) == sorted(some)
    assert some == read(path, limit=20, seed=1).texts
    assert some != read(path, limit=20, seed=2).texts
    assert some != tuple(f"{i:03d}" for i in range(20))
    assert len(read(path, limit=10_000)) == 200
    with pytest.raises(EngramError, match="limit is 0"):
        read(path, limit=0)


def test_text_with_a_label(file):
    split = read(file("a.csv", "review,label\ngood,yes\nbad,no\n"))
    assert split.texts == ("good", "bad")
    assert split.matrix("label").tolist() == [1, 0]
    assert split.shared["classes"].tolist() == ["no", "yes"]


def test_a_table_of_features_by_hand(file):
    path = file("a.csv", "age,sex,id,kind\n30,m,p,b\n41.5,f,q,a\n7, m,r,b\n")
    split = read(path, label_column="kind")
    assert split.shared["feature_names"].tolist() == ["age", "sex= m", "sex=f", "sex=m"]
    assert split.matrix().dtype == np.float32
    assert split.matrix().tolist() == [[30, 0, 0, 1], [41.5, 0, 1, 0], [7, 1, 0, 0]]
    assert split.matrix("label").tolist() == [1, 0, 1]
    assert split.matrix("label").dtype == np.int64
    assert split.ids == ("p", "q", "r")


def test_typed_and_untyped_tables_agree(file):
    rows = [{"x": 1, "flag": 0, "word": "u", "label": 2}, {"x": 2.5, "flag": 1, "word": "v",
             "label": 0}]  # fmt: skip
    typed = read(file("a.jsonl", "".join(json.dumps(r) + "\n" for r in rows)))
    untyped = read(file("a.csv", "x,flag,word,label\n1,0,u,2\n2.5,1,v,0\n"))
    np.testing.assert_array_equal(typed.matrix(), untyped.matrix())
    assert typed.matrix("label").tolist() == untyped.matrix("label").tolist() == [2, 0]
    assert typed.digests == untyped.digests


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("age,label\n3,1\n,0\n", "line 3: 'age' is missing"),
        ("age,label\n3,1\ninf,0\n", "line 3: 'age' is missing or not a finite"),
        ("age,label\n3,0.5\n4,1\n", "holds fractions"),
        ("label\n1\n", "no columns beside 'label'"),
        ("n,word,label\n" + "".join(f"{i},w{i},1\n" for i in range(1001)), "1001 different words"),
    ],
)
def test_tables_that_cannot_be_learnt_from(file, text, fact):
    with pytest.raises(EngramError, match=fact):
        read(file("a.csv", text), label_column="label")


def test_negative_classes_are_numbered(file):
    split = read(file("a.csv", "x,label\n3,-1\n4,1\n"))
    assert split.matrix("label").tolist() == [0, 1]
    assert split.shared["classes"].tolist() == [-1, 1]


def test_ready_features_are_kept(file):
    split = read(file("a.jsonl", '{"features": [1, 2.5], "label": 1}\n{"features": [3, 4], '
                      '"label": 0}\n'))  # fmt: skip
    assert split.matrix().tolist() == [[1, 2.5], [3, 4]]
    assert split.matrix().dtype == np.float32
    with pytest.raises(EngramError, match="line 2: 1 features, but 2 before"):
        read(file("b.jsonl", '{"features": [1, 2]}\n{"features": [3]}\n'))
