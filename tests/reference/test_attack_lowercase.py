"""`lowercase` against a loop over both spellings."""

import numpy as np
import pytest

from engram.core import EngramError, Split
from engram.methods.attacks.lowercase import Lowercase, rise


def mean_loss(lm, text, logprobs_of):
    ids, table = logprobs_of(lm, text)
    return -sum(table[place - 1][ids[place]] for place in range(1, len(ids))) / (len(ids) - 1)


def test_is_the_ratio_of_log_perplexities(target, split, run, logprobs_of):
    lm = target.model
    expected = [
        mean_loss(lm, text.lower(), logprobs_of) / mean_loss(lm, text, logprobs_of)
        for text in split.texts
    ]
    np.testing.assert_allclose(Lowercase()(target, split, run).values, expected, rtol=1e-12)


def test_is_the_difference_of_log_perplexities(target, split, run, logprobs_of):
    lm = target.model
    expected = [
        mean_loss(lm, text.lower(), logprobs_of) - mean_loss(lm, text, logprobs_of)
        for text in split.texts
    ]
    scores = Lowercase(how="difference")(target, split, run)
    np.testing.assert_allclose(scores.values, expected, rtol=0, atol=1e-12)


def test_texts_without_capitals_are_neutral_and_cost_nothing(target, run):
    records = Split.of("small", text=["only small letters", "and 12 digits here"])
    np.testing.assert_array_equal(Lowercase()(target, records, run).values, [1.0, 1.0])
    assert run.asked == ["tokens"], "nothing changed, so the model is asked once"


def test_a_text_that_is_too_short_in_lower_case_is_neutral(run, target, split):
    class Forgetful(type(run)):
        """Finds every text in lower case too short to be scored."""

        def tokens(self, target, split):
            signals = super().tokens(target, split)
            if all(text == text.lower() for text in split.texts):
                return super().tokens(target, split.with_texts([""] * len(split)))
            return signals

    forgetful = Forgetful(run.scratch, others=run.others)
    for how, neutral in (("ratio", 1.0), ("difference", 0.0)):
        scores = Lowercase(how=how)(target, split, forgetful)
        np.testing.assert_array_equal(scores.values, neutral)


def test_a_wholly_memorised_text_has_a_finite_ratio():
    values = rise(np.array([0.0, 0.0]), np.array([0.0, 2.0]), "ratio")
    np.testing.assert_allclose(values, [1.0, 2e6])


def test_refuses_another_way():
    method = Lowercase()
    object.__setattr__(method, "how", "product")  # past the type check of the tests
    with pytest.raises(EngramError, match="how is 'product'"):
        method.__post_init__()
