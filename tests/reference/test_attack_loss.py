"""`loss` against a loop over records and tokens, and against a classifier's cross-entropy."""

import math

import numpy as np

from engram.methods.attacks.loss import Loss


def test_is_the_mean_log_probability_of_the_tokens(target, split, run, logprobs_of):
    expected = []
    for text in split.texts:
        ids, table = logprobs_of(target.model, text)
        total = 0.0
        for place in range(1, len(ids)):
            total += table[place - 1][ids[place]]
        expected.append(total / (len(ids) - 1))
    scores = Loss()(target, split, run)
    np.testing.assert_allclose(scores.values, expected, rtol=0, atol=1e-12)


def test_is_the_log_probability_of_a_classifiers_label(classifier, arrays, run):
    expected = []
    for logits, label in zip(run.logits(classifier, arrays), arrays.matrix("label"), strict=True):
        odds = [math.exp(x) for x in logits]
        expected.append(math.log(odds[label] / sum(odds)))
    np.testing.assert_allclose(Loss()(classifier, arrays, run).values, expected, atol=1e-12)
