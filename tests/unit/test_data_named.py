"""Data by name: demo, scikit-learn and the named sets; nothing is fetched, all is checked."""

import gzip
import lzma
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from engram.core import EngramError
from engram.data import describe_sources, named, read

SETS = sorted(name for name, about in named.sets().items() if about.kind == "set")


def test_the_demo_letters_can_be_named_in_three_ways():
    assert read("demo:letters:40").ids == read("demo:letters?n=40").ids
    assert read("demo:letters?n=40&seed=0").ids == read("demo:letters:40").ids
    assert read("demo:letters?n=40&seed=1").ids != read("demo:letters:40").ids
    assert len(set(read("demo:letters?n=40&most=1").owners)) == 40


def test_the_seed_of_reading_does_not_change_the_demo():
    assert read("demo:letters:40", seed=5).ids == read("demo:letters:40").ids
    assert len(read("demo:letters:40", limit=7)) == 7


@pytest.mark.parametrize(
    ("source", "fact", "hint"),
    [
        ("demo:leters", "no demo data called 'leters'", "letters"),
        ("demo:letters?m=3", "no option 'm'", "n, seed, most"),
        ("demo:letters?n=0", "'0', but must be a whole number from 1", ""),
        ("demo:letters:", "must be a whole number", ""),
        ("demo:letters?n=3&n=4", "said once", ""),
        ("demo:letters?n", "said once", ""),
        ("sklearn:digit", "no data set 'digit'", "digits"),
        ("sklearn:diabetes", "regression", "digits"),
        ("medical-abstract", "called 'medical-abstract'", "medical-abstracts"),
        ("penn-treebank?part=tset", "must be one of train, valid, test", ""),
        ("mlm-clinicalbert-losses", "holds scores, not records", "--scores"),
        ("hf:bad name", "not a data set's name", ""),
    ],
)
def test_wrong_names_have_hints(source, fact, hint):
    with pytest.raises(EngramError, match=fact) as caught:
        read(source)
    assert hint in caught.value.hint


def test_columns_cannot_be_chosen_where_they_are_fixed():
    with pytest.raises(EngramError, match="columns fixed"):
        read("demo:letters:5", text_column="name")


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("digits", (1797, 64), 10), ("iris", (150, 4), 3), ("wine", (178, 13), 3),
     ("breast_cancer", (569, 30), 2)],
)  # fmt: skip
def test_scikit_learns_tables(name, shape, classes):
    split = read(f"sklearn:{name}")
    assert split.matrix().shape == shape
    assert set(split.matrix("label").tolist()) == set(range(classes))
    assert len(split.shared["classes"]) == classes
    if name == "digits":
        assert (split.matrix().min(), split.matrix().max()) == (0, 1)
        assert split.shared["image_shape"].tolist() == [8, 8]


def test_every_source_is_listed_with_a_summary():
    listed = {source.name: source for source in describe_sources()}
    assert {"demo:letters", "sklearn:digits", "medical-abstracts", "tofu"} <= set(listed)
    assert all(len(source.summary) > 15 for source in listed.values())


@pytest.mark.parametrize("name", SETS)
def test_a_set_that_is_not_here_says_where_it_is_published(name, monkeypatch, tmp_path):
    monkeypatch.delenv("ENGRAM_DATA", raising=False)
    with pytest.raises(EngramError, match="ENGRAM_DATA is not set") as caught:
        read(name)
    assert "github.com/" in caught.value.hint
    monkeypatch.setenv("ENGRAM_DATA", str(tmp_path))
    with pytest.raises(EngramError, match=f"of the data set '{name}' is not in {tmp_path}"):
        read(name)


def test_a_sets_content_is_checked_packed_or_not(monkeypatch, tmp_path):
    from engram.data.sets import heart_cleveland

    raw = b"age,Probability\n63,0\n67,2\n"
    about = heart_cleveland.ABOUT
    folder = tmp_path / about.folder
    folder.mkdir()
    monkeypatch.setenv("ENGRAM_DATA", str(tmp_path))
    path = folder / f"{heart_cleveland.FILE}.gz"
    path.write_bytes(gzip.compress(raw))
    with pytest.raises(EngramError, match="has the checksum") as caught:
        read("heart-cleveland")
    assert "by its path" in caught.value.hint
    monkeypatch.setitem(about.files, heart_cleveland.FILE, sha256(raw).hexdigest())
    split = read("heart-cleveland")
    assert split.matrix().tolist() == [[63], [67]]
    assert split.matrix("label").tolist() == [0, 1]
    path.unlink()
    (folder / heart_cleveland.FILE).write_bytes(raw)
    assert read("heart-cleveland?label=graded").matrix("label").tolist() == [0, 2]


def test_loaders_by_hand():
    from engram.data.sets import ag_news, alpaca, mts_dialog, penn_treebank, tiny_shakespeare

    news = ag_news.load(
        {"test.csv": b'"3","Title","One\\two"\n"1","B","C"\n', "classes.txt": b"W\nS\nB\nT\n"}, {}
    )
    assert news.texts == ("Title\nOne two", "B\nC")
    assert news.matrix("label").tolist() == [2, 0]
    words = b'{"instruction": "Say hi", "input": "", "output": "hi"}\n'
    assert alpaca.load({alpaca.FILE: words}, {}).texts == ("Instruction: Say hi\n\nResponse: hi",)
    notes = b"ID,section_header,section_text,dialogue\n0,CC,note,talk\n"
    talk = mts_dialog.load({"valid.csv": notes}, {"part": "valid", "text": "dialogue"})
    assert talk.to_table().to_pylist() == [
        {"text": "talk", "section": "CC", "note": "note", "id": "valid-0"}
    ]
    lines = penn_treebank.load({"ptb.test.txt": b" a \n b \n c \n"}, {"group": "2"})
    assert lines.texts == ("a\nb", "c")
    plays = tiny_shakespeare.load({"input.txt": b"A:\nx\n\nB:\ny\n\nC:\nz\n"}, {"group": "2"})
    assert plays.texts == ("A:\nx\n\nB:\ny", "C:\nz")


CONLLU = """\
# newdoc id = weblog-x
# sent_id = weblog-x-0001
# text = He doesn't bark.
1\tHe\the\tPRON\tPRP\tNumber=Sing|Person=3\t4\tnsubj\t_\t_
2-3\tdoesn't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdoes\tdo\tAUX\tVBZ\tNumber=Sing|Person=3|Tense=Pres|VerbForm=Fin\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
4\tbark\tbark\tVERB\tVB\tVerbForm=Inf\t0\troot\t_\tSpaceAfter=No
4.1\tloud\tloud\tADV\tRB\t_\t_\t_\t_\t_
5\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_

# sent_id = email-y-0001
# text = Ok
1\tOk\tok\tINTJ\tUH\t_\t0\troot\t_\t_

"""


def test_a_treebank_by_hand():
    """Words of a contraction have no blank between them; ranges and empty words are no words."""
    from engram.data.sets import ud_english_ewt

    split = ud_english_ewt.load({ud_english_ewt.DEV: CONLLU.encode()}, {"part": "dev"})
    assert split.ids == ("weblog-x-0001", "email-y-0001")
    assert split.texts == ("He doesn't bark.", "Ok")
    row = split.records.to_pylist()[0]
    assert row["words"] == ["He", "does", "n't", "bark", "."]
    assert row["lemmas"] == ["he", "do", "not", "bark", "."]
    assert row["feats"][1:3] == ["Number=Sing|Person=3|Tense=Pres|VerbForm=Fin", ""]
    assert row["blanks"] == [True, False, True, False, True]
    assert row["genre"] == "weblog"
    with pytest.raises(EngramError, match="not in CoNLL-U"):
        ud_english_ewt.load({ud_english_ewt.DEV: b"1\tonly two\n"}, {"part": "dev"})


def test_the_treebank_gives_its_texts_back(data):
    """Words and blanks put together again are the sentence."""
    split = read("ud-english-ewt?part=dev")
    for row in split.records.to_pylist():
        pairs = zip(row["words"], row["blanks"], strict=True)
        spelt = "".join(word + " " * blank for word, blank in pairs)
        assert spelt.split() == row["text"].split()


def test_a_file_may_be_packed_with_xz_and_a_broken_one_is_an_error(monkeypatch, tmp_path):
    from engram.data.sets import ud_english_ewt

    folder = tmp_path / "ud_english_ewt"
    folder.mkdir()
    monkeypatch.setenv("ENGRAM_DATA", str(tmp_path))
    raw = CONLLU.encode()
    monkeypatch.setitem(ud_english_ewt.ABOUT.files, ud_english_ewt.DEV, sha256(raw).hexdigest())
    path = folder / f"{ud_english_ewt.DEV}.xz"
    path.write_bytes(lzma.compress(raw))
    assert len(read("ud-english-ewt?part=dev")) == 2
    path.write_bytes(lzma.compress(raw)[:-40])
    with pytest.raises(EngramError, match="not a whole xz file"):
        read("ud-english-ewt?part=dev")


def test_tofu_keeps_rows_and_authors_in_all_parts():
    from engram.data.sets import tofu

    def lines(first, count):
        row = '{{"question": "q{0}", "answer": "a{0}"}}\n'
        return "".join(row.format(i) for i in range(first, first + count)).encode()

    whole = tofu.load(
        {"retain90.jsonl": lines(0, 3600), "forget10.jsonl": lines(3600, 400)}, {"part": "full"}
    )
    part = tofu.load({"forget05.jsonl": lines(3800, 200)}, {"part": "forget05"})
    same = whole.select(part.ids)
    assert same.texts == part.texts
    assert same.owners == part.owners
    assert len(set(whole.owners)) == 200
    assert part.texts[0] == "Question: q3800\nAnswer: a3800"


EXPECTED = {
    "adult-census": (32561, (108,)), "ag-news": (7600, None), "alpaca": (1000, None),
    "cifar10-12k?part=test": (2000, (3072,)), "heart-cleveland": (297, (13,)),
    "location30": (5010, (446,)), "medical-abstracts": (2888, None), "mnist-10k": (10000, (784,)),
    "mts-dialog": (1201, None), "penn-treebank?part=test": (753, None),
    "tiny-shakespeare?group=1": (7222, None), "tofu": (4000, None),
    "ud-english-ewt": (12544, None), "ud-english-ewt?part=dev": (2001, None),
    "cora": (2708, (1433,)), "pubmed-structure": (19717, (20,)),
    "dblp-reliant-small": (39424, (20,)),
}  # fmt: skip


@pytest.mark.parametrize("source", EXPECTED)
def test_the_real_sets(source, data: Path):
    if source.startswith("cifar"):
        pytest.importorskip("PIL")
    split = read(source)
    count, shape = EXPECTED[source]
    assert len(split) == count
    if shape:
        matrix = split.matrix()
        assert matrix.shape[1:] == shape
        assert np.isfinite(matrix).all()
        if "edges" in split.shared:
            assert split.shared["edges"].max() < len(split)
            assert len(split.shared["node_features"]) == len(split)
        if "image_shape" in split.shared:
            assert matrix.min() >= 0
            assert matrix.max() <= 1
            assert np.prod(split.shared["image_shape"]) == shape[0]
    else:
        assert all(isinstance(text, str) for text in split.texts)


def test_every_set_has_a_test():
    assert {source.partition("?")[0] for source in EXPECTED} == set(SETS)


def test_reading_imports_neither_torch_nor_datasets():
    code = (
        "import sys; from engram.data import read; read('demo:letters:5'); "
        "sys.exit(bool({'torch', 'datasets', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
