"""Properties of schedules, batches and pieces, for any sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import stream
from engram.parts.labelled import features_of, neighbours, noise_records
from engram.parts.token_examples import cut
from engram.parts.training import SCHEDULES, Plan, learning_rate, shuffled_batches

quick = settings(deadline=None, max_examples=60)


@quick
@given(st.integers(1, 400), st.floats(1e-6, 1.0), st.floats(0, 0.99), st.sampled_from(SCHEDULES))
def test_a_learning_rate_rises_once_and_never_again(steps, peak, warmup, schedule):
    plan = Plan(steps, peak, warmup, schedule)
    rates = np.array([learning_rate(plan, s) for s in range(steps)])
    warm = int(warmup * steps)
    assert (rates > 0).all()
    assert rates.max() <= peak * (1 + 1e-12)
    assert (np.diff(rates[: warm + 1]) > 0).all()
    assert (np.diff(rates[warm:]) <= 0).all()
    if warm < steps:
        assert rates[warm] == pytest.approx(peak)


@quick
@given(st.lists(st.integers(1, 50), max_size=120), st.integers(1, 20), st.integers(0, 5))
def test_every_example_is_in_one_batch_of_an_epoch(sizes, batch_size, epoch):
    sizes = np.array(sizes, np.int64)
    batches = shuffled_batches(sizes, batch_size, stream(0, "batches", epoch), pool=3)
    assert sorted(np.concatenate([[], *batches])) == list(range(len(sizes)))
    assert len(batches) == -(-len(sizes) // batch_size)
    assert all(len(b) <= batch_size for b in batches)
    again = shuffled_batches(sizes, batch_size, stream(0, "batches", epoch), pool=3)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


@quick
@given(st.lists(st.integers(0, 9), max_size=80), st.integers(2, 20))
def test_pieces_predict_every_token_but_the_first_once(tokens, context):
    pieces = cut(tokens, context)
    assert all(2 <= len(p) <= context for p in pieces)
    assert [t for p in pieces for t in p[1:]] == tokens[1:]
    assert [p[0] for p in pieces[1:]] == [p[-1] for p in pieces[:-1]]


@quick
@given(st.integers(2, 40), st.integers(1, 12), st.floats(0.01, 1.0), st.integers(0, 3))
def test_neighbours_take_values_that_the_column_has(n, width, strength, seed):
    before = noise_records(n, width, 3, stream(seed))
    after = features_of(neighbours(before, strength, stream(seed, "near")))
    original = features_of(before)
    assert ((after != original).sum(1) <= np.ceil(strength * width)).all()
    assert all(set(after[:, j]) <= set(original[:, j]) for j in range(width))
