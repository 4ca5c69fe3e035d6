"""Strings held side by side are, to whoever looks, the tuple of them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.core.strings import Strings

words = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=12)


@given(words, words)
def test_behaves_as_the_tuple(one, other):
    ours, plain = Strings(one), tuple(one)
    assert ours == plain
    assert plain == ours
    assert hash(ours) == hash(plain)
    assert repr(ours) == repr(plain)
    assert list(ours) == one
    assert len(ours) == len(one)
    assert [ours[i] for i in range(-len(one), len(one))] == one * 2
    assert [ours[i] for i in np.arange(len(one))] == one
    assert ours[1:4] == plain[1:4]
    assert ours + Strings(other) == plain + tuple(other)
    assert ours + tuple(other) == plain + tuple(other)
    assert tuple(other) + ours == tuple(other) + plain
    assert (ours == Strings(other)) == (one == other)
    assert (ours == tuple(other)) == (one == other)
    assert ours.distinct == len(set(one))
    assert np.array(ours).tolist() == np.array(one).tolist()
    assert pa.array(ours, pa.string()).to_pylist() == one


@given(words, st.data())
def test_takes_and_finds_rows(one, data):
    ours = Strings(one)
    rows = data.draw(st.lists(st.integers(0, len(one) - 1), max_size=8)) if one else []
    picked = ours.take(np.array(rows, np.int64))
    assert picked == tuple(one[row] for row in rows)
    assert ours.places(picked).tolist() == [one.index(text) for text in picked]
    assert ours.places([*picked, "seven letters"]) is None


def test_is_immutable_and_takes_no_place_for_what_it_does_not_know():
    ours = Strings(["a", "b"])
    with pytest.raises(TypeError):
        ours[0] = "c"
    with pytest.raises(IndexError):
        ours[2]
    with pytest.raises(AttributeError):
        ours.new = 1
    assert ours != ["a", "b"]


def test_many_strings_take_little_memory():
    ours = Strings(f"{i:016x}" for i in range(10_000))
    assert ours.array.nbytes < 21 * 10_000
