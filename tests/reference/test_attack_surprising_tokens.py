"""`surprising-tokens` against a slow second implementation and a case worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.core import EngramError
from engram.methods.attacks.min_k import MinK
from engram.methods.attacks.surprising_tokens import SurprisingTokens, surprise


def by_sorting(logprobs, entropies, fraction, limit):
    """From the paper's words: the least likely tokens, and of those the ones of low entropy."""
    count = max(1, math.ceil(fraction * len(logprobs) - 1e-9))
    border = sorted(logprobs)[count - 1]
    unlikely = [i for i, x in enumerate(logprobs) if x <= border]
    sure = [i for i in unlikely if entropies[i] < limit]
    chosen = sure or unlikely
    return sum(logprobs[i] for i in chosen) / len(chosen)


def test_agrees_with_whole_distributions(target, split, run, logprobs_of):
    expected = []
    for text in split.texts:
        ids, table = logprobs_of(target.model, text)
        logprobs = [table[place - 1][ids[place]] for place in range(1, len(ids))]
        entropies = [-sum(math.exp(x) * x for x in row) for row in table]
        expected.append(by_sorting(logprobs, entropies, 0.5, 3.0))
    found = SurprisingTokens(fraction=0.5, entropy=3.0)(target, split, run)
    np.testing.assert_allclose(found.values, expected, atol=1e-10)


def test_a_worked_case():
    logprob = np.array([-1.0, -6.0, -2.0, -5.0, -3.0])
    entropy = np.array([0.5, 3.0, 0.1, 1.0, 1.0])
    # Half of five tokens, rounded up, are three: -6, -5 and -3; at -6 the model was not sure.
    assert surprise(logprob, entropy, 0.5, 2.0) == -4.0
    # A fifth is -6 alone, at which the model was not sure: so it stands for itself.
    assert surprise(logprob, entropy, 0.2, 2.0) == -6.0
    assert surprise(logprob, entropy, 0.2, 3.5) == -6.0
    # The border is strict: an entropy of exactly 1 is not below 1.
    assert surprise(logprob, entropy, 0.5, 1.0) == pytest.approx(-14 / 3)


token = st.tuples(st.floats(-30, 0), st.floats(0, 6))


@given(st.lists(token, min_size=1, max_size=30), st.floats(0.01, 1), st.floats(0.1, 6))
def test_agrees_with_sorting(tokens, fraction, limit):
    logprobs, entropies = (list(column) for column in zip(*tokens, strict=True))
    found = surprise(np.array(logprobs), np.array(entropies), fraction, limit)
    assert found == pytest.approx(by_sorting(logprobs, entropies, fraction, limit))


def test_without_a_limit_on_entropy_it_is_min_k(target, split, run):
    found = SurprisingTokens(fraction=0.3, entropy=1e9)(target, split, run)
    np.testing.assert_allclose(found.values, MinK(0.3)(target, split, run).values, atol=1e-12)


NAN = float("nan")
BAD = [{"fraction": 0.0}, {"fraction": 1.1}, {"fraction": NAN}, {"entropy": 0.0}, {"entropy": NAN}]


@pytest.mark.parametrize("fields", BAD)
def test_refuses(fields):
    with pytest.raises(EngramError, match="must be"):
        SurprisingTokens(**fields)


def test_refuses_a_text_without_scored_tokens(target, split, run):
    with pytest.raises(EngramError, match="fewer than two tokens"):
        SurprisingTokens()(target, split.take([0]).with_texts([""]), run)
