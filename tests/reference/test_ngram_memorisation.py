"""Verbatim and n-gram memorisation, by hand and against a slow second implementation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.core import EngramError
from engram.parts.ngram_memorisation import (
    aligned_share,
    check_sizes,
    found_share,
    ngram_score,
    ngram_scores,
    verbatim,
)


def arr(*tokens):
    return np.array(tokens, np.int64)


def slow_aligned(written, truth, n):
    """Window by window, from the paper's words."""
    m = len(truth)
    if m < n:
        return math.nan
    hits = 0
    for i in range(m - n + 1):
        hits += all(written[i + j] == truth[i + j] for j in range(n))
    return hits / (m - n + 1)


def slow_found(written, truth, n, once):
    m = len(truth)
    if m < n:
        return math.nan
    left = [list(truth[i : i + n]) for i in range(m - n + 1)]
    hits = 0
    for i in range(m - n + 1):
        gram = list(written[i : i + n])
        if gram in left:
            hits += 1
            if once:
                left.remove(gram)
    return hits / (m - n + 1)


PAIRS = st.integers(0, 14).flatmap(
    lambda m: st.tuples(
        st.lists(st.integers(0, 2), min_size=m, max_size=m),
        st.lists(st.integers(0, 2), min_size=m, max_size=m),
    )
)


@given(PAIRS, st.integers(1, 6))
def test_agrees_with_counting_window_by_window(pair, n):
    written, truth = (arr(*tokens) for tokens in pair)
    same = {"nan_ok": True, "abs": 1e-12}
    assert aligned_share(written, truth, n) == pytest.approx(slow_aligned(*pair, n), **same)
    for once in (False, True):
        expected = slow_found(*pair, n, once)
        assert found_share(written, truth, n, once=once) == pytest.approx(expected, **same)


@given(PAIRS, st.integers(1, 5))
def test_versions_are_ordered_and_longer_runs_are_rarer(pair, n):
    written, truth = (arr(*tokens) for tokens in pair)
    if len(truth) <= n:
        return
    aligned = ngram_score(written, truth, (n,), "aligned")
    multiset = ngram_score(written, truth, (n,), "multiset")
    assert 0 <= aligned <= multiset <= ngram_score(written, truth, (n,), "set") <= 1
    places = len(truth) - n + 1
    shorter, longer = (aligned_share(written, truth, k) * (places + n - k) for k in (n, n + 1))
    assert longer <= shorter + 1e-9  # every right run of n + 1 begins with a right run of n


@given(st.lists(st.integers(0, 9), min_size=6, max_size=30))
def test_all_equal_is_one_in_every_version(tokens):
    truth = arr(*tokens)
    assert verbatim(truth, truth)
    for version in ("aligned", "set", "multiset"):
        assert ngram_score(truth.copy(), truth, version=version) == 1.0


def test_shifted_by_one_is_nothing_aligned_but_something_found():
    truth, written = arr(*range(10)), arr(*range(1, 11))
    assert ngram_score(written, truth, (4, 5, 6), "aligned") == 0.0
    # Of the 7, 6 and 5 written windows all but the last stand in the record.
    assert ngram_score(written, truth) == 0.0
    assert ngram_score(written, truth, version="set") == pytest.approx((6 / 7 + 5 / 6 + 4 / 5) / 3)
    assert not verbatim(written, truth)


def test_shorter_than_the_runs_is_not_a_number():
    assert math.isnan(aligned_share(arr(1, 2, 3), arr(1, 2, 3), 4))
    assert math.isnan(ngram_score(arr(1, 2, 3, 4, 5), arr(1, 2, 3, 4, 5), (4, 5, 6)))
    assert not verbatim(arr(), arr())
    scores = ngram_scores([arr(1), arr(1, 2)], [arr(1), arr(1, 3)], (2,))
    assert math.isnan(scores[0])
    assert scores[1] == 0.0


def test_worked_by_hand():
    truth = arr(1, 2, 3, 4, 5, 6, 7, 8)
    written = arr(1, 2, 3, 4, 5, 0, 7, 8)
    # Runs of 4: places 0 and 1 of 5; runs of 5: place 0 of 4; runs of 6: none of 3.
    assert ngram_score(written, truth) == pytest.approx((2 / 5 + 1 / 4 + 0) / 3)


def test_a_repeated_loop_is_found_once_only_in_the_multiset():
    truth = arr(1, 1, 1, 2, 2, 2)
    written = arr(1, 1, 1, 1, 1, 1)
    assert found_share(written, truth, 2) == 1.0
    assert found_share(written, truth, 2, once=True) == pytest.approx(2 / 5)
    assert aligned_share(written, truth, 2) == pytest.approx(2 / 5)


@pytest.mark.parametrize("sizes", [(), (0, 4), (4, 4)])
def test_sizes_that_cannot_be_counted(sizes):
    with pytest.raises(EngramError, match="sizes"):
        check_sizes(sizes)
