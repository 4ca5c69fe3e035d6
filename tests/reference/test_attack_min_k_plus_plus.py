"""`min-k-plus-plus` against a loop over the whole vocabulary in float64."""

import math

import numpy as np
import pytest

from engram.methods.attacks.min_k_plus_plus import MinKPlusPlus, standardised


def z_scores(ids, table):
    """Standardised log-probabilities, summed token by token over the vocabulary."""
    found = []
    for place in range(1, len(ids)):
        row = [float(x) for x in table[place - 1]]
        mu = math.fsum(math.exp(x) * x for x in row)
        variance = math.fsum(math.exp(x) * (x - mu) ** 2 for x in row)
        found.append((row[ids[place]] - mu) / math.sqrt(variance))
    return found


@pytest.mark.parametrize("fraction", [0.2, 1.0])
def test_agrees_with_the_whole_vocabulary(target, split, run, logprobs_of, fraction):
    few = split.take([0, 1, 2, 6, 7, 9])
    expected = []
    for text in few.texts:
        z = sorted(z_scores(*logprobs_of(target.model, text)))
        keep = z[: math.ceil(fraction * len(z))]
        expected.append(sum(keep) / len(keep))
    scores = MinKPlusPlus(fraction)(target, few, run)
    np.testing.assert_allclose(scores.values, expected, rtol=0, atol=1e-6)


def test_a_worked_token():
    # p = (1/2, 1/4, 1/4): mean of log p = -1.5 log 2, its deviation = 0.5 log 2.
    log2 = math.log(2)
    z = standardised(np.array([-log2, -2 * log2]), np.full(2, -1.5 * log2), np.full(2, 0.5 * log2))
    np.testing.assert_allclose(z, [1.0, -1.0])


def test_a_model_without_preferences_scores_zero():
    z = standardised(np.array([-3.0]), np.array([-3.0]), np.array([0.0]))
    np.testing.assert_array_equal(z, [0.0])
    surprised = standardised(np.array([-30.0]), np.array([-1e-12]), np.array([0.0]))
    assert np.isfinite(surprised).all()
    assert surprised[0] < 0
