"""The fused reduction against whole logits in float64."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch.nn import functional

from engram.core import EngramError
from engram.signals.reduce import (
    Head,
    TokenRows,
    chunk_rows,
    pick_route,
    reduce_hidden,
    reduce_logits,
)

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="numba is an extra")
ROUTES = [pytest.param("numba", marks=needs_numba), "torch"]
pytestmark = pytest.mark.parametrize("route", ROUTES)
CLOSE = 1e-5


def by_whole_logits(logits, true_token):
    """From the definitions, all logits at once, in float64."""
    z = logits.double()
    logp = torch.log_softmax(z, 1)
    p = logp.exp()
    held = torch.where(p > 0, logp, 0.0)
    mean = (p * held).sum(1)
    deviation = (p * (held - mean[:, None]) ** 2).sum(1).sqrt()
    rows = torch.arange(len(z))
    true = z[rows, true_token]
    rank = [int(np.sum(row > t)) for row, t in zip(z.numpy(), true.numpy(), strict=True)]
    first = np.array([np.flatnonzero(row == row.max())[0] for row in z.numpy()])
    return TokenRows(
        logp[rows, true_token].numpy(),
        mean.numpy(),
        deviation.numpy(),
        np.array(rank),
        first == true_token.numpy(),
    )


def assert_same(found, expected, atol=CLOSE):
    np.testing.assert_allclose(found.logprob, expected.logprob, atol=atol, rtol=0)
    np.testing.assert_allclose(found.mean, expected.mean, atol=atol, rtol=0)
    np.testing.assert_allclose(found.deviation, expected.deviation, atol=atol, rtol=0)
    np.testing.assert_array_equal(found.rank, expected.rank)
    np.testing.assert_array_equal(found.greedy, expected.greedy)


def some_tokens(logits, generator):
    """Random true tokens, of which every third is the likeliest one."""
    tokens = torch.randint(logits.shape[1], (len(logits),), generator=generator)
    tokens[::3] = logits[::3].argmax(1)
    return tokens


@pytest.mark.parametrize("spread", [0.0, 1e-3, 0.4, 3.0, 12.0])
@pytest.mark.parametrize("vocabulary", [2, 17, 1024, 1025, 32_003])
def test_equals_whole_logits(route, vocabulary, spread):
    generator = torch.Generator().manual_seed(vocabulary)
    logits = torch.randn(24, vocabulary, generator=generator) * spread
    tokens = some_tokens(logits, generator)
    before = logits.clone()
    found = reduce_logits(logits, tokens, route=route, rows=7)
    assert_same(found, by_whole_logits(logits, tokens))
    assert torch.equal(logits, before)


def test_two_tokens_by_hand(route):
    # p = (3/4, 1/4): log p has mean 3/4 log(3/4) + 1/4 log(1/4) and deviation
    # sqrt(3/16) (log(3/4) - log(1/4)) = sqrt(3)/4 log(3).
    logits = torch.tensor([[np.log(3), 0.0], [np.log(3), 0.0]], dtype=torch.float32)
    found = reduce_logits(logits, torch.tensor([0, 1]), route=route)
    np.testing.assert_allclose(found.logprob, np.log([0.75, 0.25]), atol=1e-6)
    np.testing.assert_allclose(found.mean, 0.75 * np.log(0.75) + 0.25 * np.log(0.25), atol=1e-6)
    np.testing.assert_allclose(found.deviation, np.sqrt(3) / 4 * np.log(3), atol=1e-6)
    assert found.rank.tolist() == [0, 1]
    assert found.greedy.tolist() == [True, False]


def test_of_equal_largest_logits_greedy_takes_the_first(route):
    logits = torch.tensor([[1.0, 5.0, 5.0, 2.0]] * 4)
    found = reduce_logits(logits, torch.arange(4), route=route)
    assert found.rank.tolist() == [3, 0, 0, 2]
    assert found.greedy.tolist() == [False, True, False, False]


@pytest.mark.parametrize("gap", [1.0, 5.0, 12.0, 30.0, 60.0])
def test_nearly_one_hot_and_nearly_uniform_rows_keep_their_deviation(route, gap):
    """One token stands out from tens of thousands that are nearly, or quite, equal."""
    generator = torch.Generator().manual_seed(3)
    logits = (
        torch.randn(6, 40_000, generator=generator) * torch.tensor([0, 1e-4, 1e-2] * 2)[:, None]
    )
    logits[:, 11] += gap
    tokens = torch.tensor([11, 12] * 3)
    assert_same(reduce_logits(logits, tokens, route=route), by_whole_logits(logits, tokens))


@pytest.mark.parametrize("vocabulary", [40_000, 128_256])
@pytest.mark.parametrize("gap", [5.0, 8.0, 9.5, 15.0])
def test_many_equal_numbers_are_not_all_rounded_the_same_way(route, gap, vocabulary):
    """Long sums of equal numbers in float32 would drift: their roundings do not cancel."""
    logits = torch.zeros(2, vocabulary)
    logits[:, 11] += gap
    tokens = torch.tensor([11, 12])
    found = reduce_logits(logits, tokens, route=route)
    assert_same(found, by_whole_logits(logits, tokens))


def test_large_offsets_cost_only_their_own_rounding(route):
    logits = torch.randint(-30, 30, (8, 500), generator=torch.Generator().manual_seed(1)).float()
    tokens = torch.arange(8)
    expected = by_whole_logits(logits, tokens)
    assert_same(reduce_logits(logits + 50_000, tokens, route=route), expected)


def test_tokens_that_a_model_rules_out_have_no_weight(route):
    logits = torch.randn(5, 300, generator=torch.Generator().manual_seed(5))
    logits[:, ::2] = -torch.inf
    logits[:, 1] = torch.finfo(torch.float32).min
    tokens = torch.tensor([3, 5, 7, 9, 2])
    found = reduce_logits(logits, tokens, route=route)
    expected = by_whole_logits(logits, tokens)
    assert_same(found, expected)
    assert found.logprob[4] == -np.inf


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_logits_give_nan_and_only_in_their_rows(route, bad):
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(5))
    logits[1, 20] = bad
    found = reduce_logits(logits, torch.tensor([1, 2, 3]), route=route)
    for column in (found.logprob, found.mean, found.deviation):
        assert np.isnan(column).tolist() == [False, True, False]
    assert found.rank[1] == -1
    assert not found.greedy[1]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [False, True])
def test_head_in_the_models_own_number_type(route, kind, bias):
    generator = torch.Generator().manual_seed(9)
    hidden = torch.randn(40, 48, generator=generator).to(kind)
    weight = torch.randn(611, 48, generator=generator).to(kind)
    offset = torch.randn(611, generator=generator).to(kind) if bias else None
    tokens = torch.randint(611, (40,), generator=generator)
    whole = functional.linear(hidden, weight, offset)
    assert whole.dtype == kind
    found = reduce_hidden(hidden, Head(weight, offset), tokens, route=route, rows=13)
    assert_same(found, by_whole_logits(whole.float(), tokens), atol=2e-5)


def test_scale_and_soft_cap(route):
    generator = torch.Generator().manual_seed(2)
    hidden, weight = (
        torch.randn(9, 16, generator=generator),
        torch.randn(70, 16, generator=generator),
    )
    tokens = torch.randint(70, (9,), generator=generator)
    whole = 5 * torch.tanh(0.25 * (hidden @ weight.T) / 5)
    found = reduce_hidden(hidden, Head(weight, scale=0.25, softcap=5.0), tokens, route=route)
    assert_same(found, by_whole_logits(whole, tokens))


def test_no_positions_at_all(route):
    found = reduce_hidden(
        torch.empty(0, 4), Head(torch.ones(5, 4)), torch.empty(0, dtype=torch.int64), route=route
    )
    assert all(len(column) == 0 for column in found.columns())


def test_weights_that_are_not_contiguous(route):
    generator = torch.Generator().manual_seed(4)
    hidden, weight = torch.randn(6, 8, generator=generator), torch.randn(8, 30, generator=generator)
    tokens = torch.arange(6)
    found = reduce_hidden(hidden, Head(weight.T), tokens, route=route)
    assert_same(found, by_whole_logits(hidden @ weight, tokens))


def test_routes_that_cannot_be_taken_are_errors(route):
    with pytest.raises(EngramError, match="route is 'nunba'") as caught:
        pick_route("nunba", "cpu")
    assert "numba" in caught.value.hint
    with pytest.raises(EngramError, match="cannot be taken on cuda"):
        pick_route("numba", "cuda")
    assert pick_route("auto", "cuda") == "torch"
    assert pick_route(route, "cpu") == route


def test_chunks_are_never_the_whole(route):
    assert chunk_rows(32_000, "cpu") * 32_000 < 2**23
    assert chunk_rows(10**9, "cuda") == 1
