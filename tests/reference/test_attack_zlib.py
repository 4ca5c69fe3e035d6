"""`zlib` against a loop, with the compressor fed byte by byte."""

import zlib

import numpy as np
import pytest

from engram.core import EngramError, Split
from engram.methods.attacks.zlib import Zlib, zlib_bits


def bits_one_by_one(text):
    compressor = zlib.compressobj()
    pieces = [compressor.compress(bytes([byte])) for byte in text.encode()]
    return 8 * len(b"".join([*pieces, compressor.flush()]))


@pytest.mark.parametrize("average", [False, True])
def test_is_log_likelihood_over_bits(target, split, run, logprobs_of, average):
    expected = []
    for text in split.texts:
        ids, table = logprobs_of(target.model, text)
        total = sum(table[place - 1][ids[place]] for place in range(1, len(ids)))
        expected.append(total / (len(ids) - 1 if average else 1) / bits_one_by_one(text))
    scores = Zlib(average=average)(target, split, run)
    np.testing.assert_allclose(scores.values, expected, rtol=1e-12)


def test_repetition_costs_few_bits():
    assert zlib_bits("") == 64
    assert zlib_bits("ab" * 500) < zlib_bits("".join(chr(33 + i % 90) for i in range(200)))


def test_equal_lengths_are_ranked_alike_by_sum_and_mean(target, run):
    # Random bytes are one token each, so all three records have equally many tokens.
    records = Split.of("equal", text=["qzjx", "xxqq", "zqjj"])
    assert len(set(run.tokens(target, records).lengths)) == 1
    total, mean = (Zlib(average=a)(target, records, run).values for a in (False, True))
    np.testing.assert_array_equal(np.argsort(total), np.argsort(mean))


def test_names_a_record_that_the_model_cannot_score(target, run):
    records = Split.of("gap", text=["some words", ""], ids=["whole", "empty"])
    with pytest.raises(EngramError, match="'empty' has fewer than two tokens") as caught:
        Zlib()(target, records, run)
    assert caught.value.hint
