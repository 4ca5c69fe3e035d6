"""Properties of the maths behind the attacks, on inputs that hypothesis invents."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.methods.attacks.lowercase import rise
from engram.methods.attacks.min_k import MinK
from engram.methods.attacks.min_k_plus_plus import standardised
from engram.methods.attacks.neighbourhood import excess_loss
from engram.methods.attacks.zlib import zlib_bits
from engram.parts.ngram_memorisation import aligned_shares
from engram.parts.paraphrasers.fillers import draws_from
from engram.parts.paraphrasers.plan import Cut, plans
from engram.parts.record_bootstrap import ratio_interval
from engram.parts.token_scores import smallest_mean

quick = settings(deadline=None, max_examples=60)
logprobs = st.lists(st.floats(-50, 0), min_size=1, max_size=40).map(np.array)
fractions = st.floats(0.01, 1)


@quick
@given(logprobs, fractions)
def test_smallest_mean_agrees_with_sorting(values, fraction):
    keep = [x for rank, x in enumerate(sorted(values)) if rank < fraction * len(values) - 1e-9]
    np.testing.assert_allclose(
        smallest_mean(values, fraction), sum(keep) / len(keep), rtol=0, atol=1e-9
    )


@quick
@given(logprobs, fractions, fractions)
def test_smallest_mean_grows_with_the_fraction(values, one, other):
    less, more = sorted((one, other))
    assert smallest_mean(values, less) <= smallest_mean(values, more) + 1e-9
    assert smallest_mean(values, 1.0) == pytest.approx(values.mean(), abs=1e-9)


@quick
@given(st.integers(1, 400), st.integers(1, 100))
def test_a_percentage_of_tokens_is_counted_exactly(tokens, percent):
    # count = ceil(percent * tokens / 100) in whole numbers, whatever floating point says.
    count = -(-percent * tokens // 100)
    values = np.arange(tokens, dtype=float)
    assert smallest_mean(values, percent / 100) == pytest.approx((count - 1) / 2)


@quick
@given(logprobs, st.floats(-5, 5), st.floats(0.1, 10))
def test_standardising_undoes_shift_and_scale(values, shift, scale):
    z = standardised(
        values * scale + shift, np.full(len(values), shift), np.full(len(values), scale)
    )
    np.testing.assert_allclose(z, values, rtol=1e-9, atol=1e-9)


@quick
@given(logprobs, st.floats(0, 1e-7))
def test_standardising_stays_finite(values, deviation):
    z = standardised(values, np.zeros(len(values)), np.full(len(values), deviation))
    assert np.isfinite(z).all()


@quick
@given(st.lists(st.floats(0, 20), min_size=1, max_size=9).map(np.array))
def test_unchanged_losses_are_neutral_in_lower_case(losses):
    np.testing.assert_array_equal(rise(losses, losses, "ratio"), 1.0)
    np.testing.assert_array_equal(rise(losses, losses, "difference"), 0.0)


@quick
@given(
    st.lists(st.floats(-300, 300), min_size=2, max_size=30).map(np.array),
    st.data(),
)
def test_draws_are_allowed_and_never_the_original(logits, data):
    size = len(logits)
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    original = data.draw(st.integers(0, size - 1))
    allowed[(original + 1) % size] = True
    uniforms = data.draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5))
    drawn = draws_from(logits, allowed, original, uniforms)
    assert len(drawn) == len(uniforms)
    assert all(allowed[token] and token != original for token in drawn)


@quick
@given(st.integers(0, 40), st.integers(1, 5), fractions, st.integers(0, 2**32))
def test_plans_replace_the_share_without_repeating_a_place(tokens, neighbours, share, seed):
    made = plans(range(1, tokens), tokens, neighbours, share, np.random.default_rng(seed))
    assert len(made) == (neighbours if tokens > 1 else 0)
    for plan in made:
        assert len(set(plan.places)) == len(plan.places) == len(plan.uniforms)
        assert len(plan.places) == min(tokens - 1, max(1, round(share * tokens)))
        assert set(plan.places) <= set(range(1, tokens))
        assert list(plan.places) == sorted(plan.places)


@quick
@given(st.lists(st.text("abc ", min_size=1, max_size=4), min_size=1, max_size=8), st.data())
def test_replacing_touches_only_its_own_characters(pieces, data):
    ends = np.cumsum([0, *map(len, pieces)]).tolist()
    spans = tuple(pairwise(ends))
    cut = Cut("".join(pieces), (), tuple(range(len(pieces))), spans, ())
    places = data.draw(st.sets(st.integers(1, len(pieces)).map(lambda i: i - 1)))
    changed = ["X" if i in places else piece for i, piece in enumerate(pieces)]
    assert cut.replaced(dict.fromkeys(places, "X")) == "".join(changed)


@quick
@given(st.lists(st.floats(0, 9), min_size=1, max_size=6).map(np.array), st.integers(1, 4))
def test_neighbours_as_hard_as_the_text_score_zero(own, count):
    rows = np.repeat(np.arange(len(own)), count)
    np.testing.assert_allclose(excess_loss(own, own[rows], rows), 0, atol=1e-12)


@quick
@given(st.text(max_size=60))
def test_zlib_counts_whole_bytes_of_any_text(text):
    assert zlib_bits(text) >= 64
    assert zlib_bits(text) % 8 == 0


@quick
@given(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32))
def test_ngram_shares_agree_with_a_loop(rows, length, n, seed):
    n = min(n, length)
    rng = np.random.default_rng(seed)
    truth, made = rng.integers(0, 2, (2, rows, length))
    expected = [
        np.mean([list(m[i : i + n]) == list(t[i : i + n]) for i in range(length - n + 1)])
        for m, t in zip(made, truth, strict=True)
    ]
    np.testing.assert_allclose(aligned_shares(made, truth, n), expected)


@quick
@given(st.lists(st.tuples(st.floats(0, 50), st.integers(1, 30)), min_size=2, max_size=20))
def test_ratio_intervals_hold_the_value_and_lie_within_the_records(pairs):
    top, bottom = (np.array(side, np.float64) for side in zip(*pairs, strict=True))
    low, high = ratio_interval(top, bottom, np.random.default_rng(0), resamples=100)
    assert low <= top.sum() / bottom.sum() <= high
    assert min(top / bottom) - 1e-9 <= low
    assert high <= max(top / bottom) + 1e-9


def test_min_k_of_everything_is_the_loss(target, split, run):
    expected = -run.losses(target, split)
    np.testing.assert_allclose(MinK(1.0)(target, split, run).values, expected, atol=1e-12)
