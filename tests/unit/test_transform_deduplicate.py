"""Duplicates: by hand."""

import builtins
import sys

import pytest

from engram.core import EngramError, Split
from engram.methods.transforms.deduplicate import (
    MISSED,
    Deduplicate,
    bands,
    jaccard,
    normal,
    shingles,
)

LONG = "the quick brown fox jumps over the lazy dog and runs far away into the dark green wood"


def kept(texts, run, **fields):
    return Deduplicate(**fields)(Split.of("hand", text=texts), run).texts


def test_equal_texts_up_to_case_and_space(run):
    texts = ["One  two", "three", "one two\n", "THREE", "four", ""]
    for level in ("exact", "near"):
        assert kept(texts, run, level=level) == ("One  two", "three", "four", "")


def test_near_copies_by_hand(run):
    # 14 runs of 5 words; a changed last word leaves 13 of 15 in both: 0.87
    near = LONG.replace("wood", "forest")
    far = LONG.replace("fox", "cat").replace("dark", "wide")
    assert jaccard(shingles(LONG, 5), shingles(near, 5)) == pytest.approx(13 / 15)
    assert kept([LONG, near, far], run) == (LONG, far)
    assert kept([near, LONG, far], run) == (near, far)
    assert kept([LONG, near, far], run, threshold=0.9) == (LONG, near, far)
    assert kept([LONG, near, far], run, level="exact") == (LONG, near, far)


def test_a_chain_of_near_copies_is_one_group(run):
    words = LONG.split()
    chain = [" ".join([*words[i:], *(f"w{k}" for k in range(i))]) for i in range(4)]
    assert jaccard(shingles(chain[0], 5), shingles(chain[3], 5)) < 0.8
    assert kept(chain, run) == (chain[0],)


def test_short_texts_are_one_run():
    assert shingles("Two words", 5) == {("two", "words")}
    assert shingles("", 5) == {()}
    assert shingles("a b c", 2) == {("a", "b"), ("b", "c")}
    assert normal(" \ufb01ne\t\uff34EXT ") == "fine text"


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.8, 0.95, 1.0])
def test_bands_miss_hardly_anything(threshold):
    count, rows = bands(threshold, 128)
    assert count * rows <= 128
    assert (1 - threshold**rows) ** count <= MISSED or rows == 1
    if rows < 128:
        assert (1 - threshold ** (rows + 1)) ** (128 // (rows + 1)) > MISSED


def test_ids_and_owners_of_what_stays(split, run):
    twice = Split.of(
        "twice", text=[*split.texts, *split.texts], owners=[*split.owners, *split.owners]
    )
    made = Deduplicate()(twice, run)
    assert made.ids == twice.ids[: len(split)]
    assert made.owners == split.owners


def test_records_without_text(arrays, run):
    twice = arrays.take([*range(12)]).joined(
        Split("b", arrays.records, tuple(f"b{i}" for i in range(12)))
    )
    assert Deduplicate(level="exact")(twice, run).ids == arrays.ids
    with pytest.raises(EngramError, match="has no column 'text'"):
        Deduplicate()(twice, run)


def test_exact_works_without_the_library_and_near_says_what_is_missing(run, monkeypatch):
    monkeypatch.delitem(sys.modules, "datasketch", raising=False)
    importer = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "datasketch":
            raise ImportError(name)
        return importer(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert kept(["a", "A"], run, level="exact") == ("a",)
    with pytest.raises(EngramError, match="datasketch") as caught:
        kept(["a", "A"], run)
    assert "engram[dedup]" in caught.value.hint


def test_wrong_fields():
    for wrong in ({"threshold": 0.0}, {"threshold": 1.5}, {"shingle": 0}, {"permutations": 0}):
        with pytest.raises(EngramError):
            Deduplicate(**wrong)
