import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import EngramError
from engram.signals.windows import Sight, Window, windows

sizes = st.integers(2, 40).flatmap(
    lambda window: st.tuples(st.integers(0, 200), st.just(window), st.integers(1, window - 1))
)


@settings(deadline=None)
@given(sizes)
def test_every_token_but_the_first_is_scored_once_with_enough_context(given_sizes):
    tokens, window, stride = given_sizes
    cut = list(windows(tokens, window, stride))
    scored = [t for w in cut for t in range(w.first, w.stop)]
    assert scored == list(range(1, tokens))
    for number, w in enumerate(cut):
        assert w.stop - w.start <= window
        assert 0 <= w.start < w.first < w.stop <= tokens
        if number:
            assert w.stop - w.start == window
            assert w.first - w.start >= window - stride


def test_by_hand():
    assert list(windows(10, 4, 3)) == [Window(0, 4, 1), Window(3, 7, 4), Window(6, 10, 7)]
    assert list(windows(9, 4, 3)) == [Window(0, 4, 1), Window(3, 7, 4), Window(5, 9, 7)]
    assert list(windows(4, 4, 2)) == [Window(0, 4, 1)]
    assert list(windows(1, 4, 2)) == list(windows(0, 4, 2)) == []


def test_what_was_not_asked_for_is_filled_in():
    assert Sight.of(100) == Sight(100, 50)
    assert Sight.of(100, 2) == Sight(2, 1)
    assert Sight.of(100, 30, 7) == Sight(30, 7)


@pytest.mark.parametrize("window", [1, 101])
def test_a_window_that_the_model_has_not(window):
    with pytest.raises(EngramError, match=f"window is {window}, .* context of 100"):
        Sight.of(100, window)


@pytest.mark.parametrize("stride", [-1, 30, 31])
def test_a_stride_that_leaves_tokens_out(stride):
    with pytest.raises(EngramError, match=f"stride is {stride}, .* from 1 to 29"):
        Sight.of(100, 30, stride)
