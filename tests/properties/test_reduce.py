"""What must hold of the reduction whatever the logits are."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engram.signals.reduce import Head, reduce_hidden, reduce_logits

ROUTES = ["torch", "numba"] if find_spec("numba") else ["torch"]
pytestmark = pytest.mark.parametrize("route", ROUTES)
few = settings(max_examples=25, deadline=None)

numbers = st.floats(-50, 50, width=32)
logits = st.tuples(st.integers(1, 5), st.integers(1, 40)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=numbers)
)


def reduced(z, tokens, route):
    return reduce_logits(torch.from_numpy(z.copy()), torch.as_tensor(tokens), route=route)


def close(found, expected, atol=2e-5):
    for one, other in zip(found.columns(), expected.columns(), strict=True):
        np.testing.assert_allclose(one, other, atol=atol)


@few
@given(logits, st.data())
def test_numbers_are_what_their_names_say(route, z, data):
    tokens = data.draw(arrays(np.int64, len(z), elements=st.integers(0, z.shape[1] - 1)))
    found = reduced(z, tokens, route)
    assert (found.logprob <= 1e-5).all()
    assert (found.mean <= 1e-5).all()
    assert (found.mean >= -np.log(z.shape[1]) - 1e-5).all()
    assert (found.deviation >= 0).all()
    assert ((found.rank >= 0) & (found.rank < z.shape[1])).all()
    assert (found.rank[found.greedy] == 0).all()


@few
@given(logits, st.randoms(use_true_random=False))
def test_renaming_the_tokens_changes_nothing_but_ties(route, z, random):
    order = list(range(z.shape[1]))
    random.shuffle(order)
    tokens = np.zeros(len(z), np.int64)
    found = reduced(z, tokens, route)
    renamed = reduced(np.ascontiguousarray(z[:, order]), tokens + order.index(0), route)
    np.testing.assert_allclose(renamed.logprob, found.logprob, atol=2e-5)
    np.testing.assert_allclose(renamed.deviation, found.deviation, atol=2e-5)
    np.testing.assert_array_equal(renamed.rank, found.rank)


@few
@given(logits)
def test_over_all_tokens_the_definitions_hold(route, z):
    """Asking for every token of one row gives p itself, so mean and deviation can be checked."""
    row = z[:1]
    vocabulary = row.shape[1]
    found = reduced(np.repeat(row, vocabulary, 0), np.arange(vocabulary), route)
    logp = found.logprob.astype(np.float64)
    p = np.exp(logp)
    np.testing.assert_allclose(p.sum(), 1, atol=1e-4)
    mean = (p * logp).sum()
    np.testing.assert_allclose(found.mean, mean, atol=2e-4)
    np.testing.assert_allclose(found.deviation**2, (p * (logp - mean) ** 2).sum(), atol=1e-2)
    assert found.greedy.sum() == 1


@few
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 9), st.integers(0, 99))
def test_chunks_do_not_show(route, vocabulary, n, rows, seed):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, 6, generator=generator)
    head = Head(torch.randn(vocabulary, 6, generator=generator))
    tokens = torch.randint(vocabulary, (n,), generator=generator)
    chunked = reduce_hidden(hidden, head, tokens, route=route, rows=rows)
    whole = reduce_logits(hidden @ head.weight.T, tokens, route=route, rows=n)
    close(chunked, whole)
