"""`accuracy` against loops over records and over tokens."""

import numpy as np
import pytest

from engram.core import EngramError, Split
from engram.methods.measures.accuracy import Accuracy
from engram.stats.intervals import clopper_pearson


def test_counts_right_classes(classifier, arrays, run):
    right = 0
    for logits, label in zip(run.logits(classifier, arrays), arrays.matrix("label"), strict=True):
        right += int(max(range(3), key=lambda c: logits[c]) == label)
    (found,) = Accuracy()(classifier, {"all": arrays}, run)
    assert found.value == right / len(arrays)
    assert (found.low, found.high) == clopper_pearson(right, len(arrays))
    assert found.name == "accuracy"


def test_counts_tokens_that_greedy_decoding_would_write(target, split, run, logprobs_of):
    right, tokens = 0, 0
    for text in split.texts:
        ids, table = logprobs_of(target.model, text)
        for place in range(1, len(ids)):
            right += int(np.argmax(table[place - 1])) == ids[place]
            tokens += 1
    (found,) = Accuracy()(target, {"all": split}, run)
    assert found.value == pytest.approx(right / tokens, rel=1e-6)
    assert found.low <= found.value <= found.high
    assert found.name == "next-token accuracy"


def test_refuses_labels_that_are_no_numbers(classifier, run):
    records = Split.of("named", features=np.zeros((2, 4), np.float32), label=["cat", "dog"])
    with pytest.raises(EngramError, match="not whole numbers"):
        Accuracy()(classifier, {"all": records}, run)


def test_names_the_columns_there_are(classifier, run):
    records = Split.of("bare", features=np.zeros((2, 4), np.float32), kind=[0, 1])
    with pytest.raises(EngramError, match=r"no column 'label'.*kind"):
        Accuracy()(classifier, {"all": records}, run)


def test_classes_that_are_not_counted_from_zero(run):
    from engram.core import Target, stream
    from engram.methods.recipes.fit_estimator import FitEstimator

    rng = stream(0, "classes")
    label = np.repeat([3, 7, 20], 20)
    features = (label[:, None] + rng.normal(0, 0.1, (60, 2))).astype(np.float32)
    split = Split.of("far apart", features=features, label=label)
    model = FitEstimator("gaussian-naive-bayes")(split, run).model

    class Asked(type(run)):
        def logits(self, target, split):
            from engram.families.estimator import FAMILY

            return FAMILY.logits(target.model, split)

    target = Target("bayes", "estimator", model, "bayes")
    (found,) = Accuracy()(target, {"all": split}, Asked(run.scratch))
    assert found.value == 1.0
    swapped = Split.of("swapped", features=features, label=np.repeat([7, 3, 20], 20))
    (found,) = Accuracy()(target, {"all": swapped}, Asked(run.scratch))
    assert found.value == pytest.approx(1 / 3)
