"""`min-k` against sorting, from the paper's words alone."""

import numpy as np
import pytest

from engram.core import EngramError, TokenSignals
from engram.methods.attacks.min_k import MinK


def by_sorting(logprobs, fraction):
    keep = [x for rank, x in enumerate(sorted(logprobs)) if rank < fraction * len(logprobs)]
    return sum(keep) / len(keep)


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5, 1.0])
def test_is_the_mean_of_the_least_likely_tokens(target, split, run, logprobs_of, fraction):
    expected = []
    for text in split.texts:
        ids, table = logprobs_of(target.model, text)
        logprobs = [table[place - 1][ids[place]] for place in range(1, len(ids))]
        expected.append(by_sorting(logprobs, fraction))
    scores = MinK(fraction)(target, split, run)
    np.testing.assert_allclose(scores.values, expected, rtol=0, atol=1e-12)


def test_a_worked_case(target, split, run):
    logprob = np.array([-1.0, -5.0, -2.0, -4.0, -3.0, -0.5])
    fixed = with_logprobs(run, split.take([0, 1]), [logprob[:5], logprob[5:]])
    # Two tenths of five tokens are one, of a single token are one too.
    scores = MinK(0.2)(target, split.take([0, 1]), fixed)
    np.testing.assert_allclose(scores.values, [-5.0, -0.5])
    # Half of five tokens, rounded up, are three.
    scores = MinK(0.5)(target, split.take([0, 1]), fixed)
    np.testing.assert_allclose(scores.values, [-4.0, -0.5])


def with_logprobs(run, split, pieces):
    """A run whose records have these log-probabilities."""
    offsets = np.cumsum([0, *map(len, pieces)])
    flat = np.concatenate(pieces)
    zeros = np.zeros(len(flat))
    signals = TokenSignals(
        split.ids, offsets, zeros.astype(int), flat, zeros - 1, zeros + 1, zeros.astype(int),
        zeros.astype(bool),
    )  # fmt: skip

    class Fixed(type(run)):
        def tokens(self, target, split):
            return signals

    return Fixed(run.scratch)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5])
def test_refuses_other_fractions(fraction):
    with pytest.raises(EngramError, match=r"must be in \(0, 1\]"):
        MinK(fraction)
