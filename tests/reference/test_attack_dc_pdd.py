"""`dc-pdd` against a slow second implementation and a case worked by hand."""

import math
from collections import Counter

import numpy as np
import pytest

from engram.core import EngramError, Split
from engram.methods.attacks.dc_pdd import DcPdd, calibrated, smoothed


def by_counting(lm, texts, corpus, logprobs_of, cap):
    """From the paper's words, one text and one token after another."""
    counts = Counter(i for text in corpus for i in lm.tokenizer(text)["input_ids"][1:])
    total, size = sum(counts.values()), len(lm.tokenizer)
    scores = []
    for text in texts:
        ids, table = logprobs_of(lm, text)
        seen, alphas = set(), []
        for place in range(1, len(ids)):
            if ids[place] not in seen:
                seen.add(ids[place])
                frequency = (counts[ids[place]] + 1) / (total + size)
                alpha = -math.exp(table[place - 1][ids[place]]) * math.log(frequency)
                alphas.append(min(alpha, cap))
        scores.append(sum(alphas) / len(alphas))
    return scores


@pytest.mark.parametrize("cap", [0.01, 0.5, 100.0])
def test_counts_in_the_audited_records(target, split, run, logprobs_of, cap):
    expected = by_counting(target.model, split.texts, split.texts, logprobs_of, cap)
    found = DcPdd(cap=cap)(target, split, run)
    np.testing.assert_allclose(found.values, expected, rtol=1e-9)


def test_counts_in_a_corpus(target, split, run, logprobs_of):
    texts = ["A corpus of general words.", "Another text, with a river and a gate.", ""]
    run.others["general"] = Split.of("general", text=texts)
    expected = by_counting(target.model, split.texts, texts, logprobs_of, 0.5)
    method = DcPdd(corpus="general", cap=0.5)
    np.testing.assert_allclose(method(target, split, run).values, expected, rtol=1e-9)
    alone = method(target, split.take([3]), run).values
    np.testing.assert_allclose(alone, expected[3:4], rtol=1e-9)


def test_a_worked_case():
    # Four tokens seen 5, 2, 0 and 1 times: (6, 3, 1, 2) / 12.
    frequency = smoothed(np.array([5, 2, 0, 1]))
    np.testing.assert_allclose(frequency, [1 / 2, 1 / 4, 1 / 12, 1 / 6])
    rarity = -np.log(frequency)
    # The second token 1 does not count again; 0.5 log 4 and 0.25 log 12 are both below 1.
    token, probability = np.array([1, 2, 1]), np.array([0.5, 0.25, 0.9])
    expected = (0.5 * math.log(4) + 0.25 * math.log(12)) / 2
    assert calibrated(token, probability, rarity, 1.0) == pytest.approx(expected)
    assert calibrated(token, probability, rarity, 0.65) == pytest.approx(
        (0.25 * math.log(12) + 0.65) / 2
    )


def test_smoothed_frequencies_sum_to_one():
    counts = np.random.default_rng(0).integers(0, 50, 100)
    assert smoothed(counts).sum() == pytest.approx(1)
    assert (smoothed(np.zeros(7, int)) == 1 / 7).all()


def test_members_of_a_model_that_knows_them_score_higher(by_heart, run):
    knows, members, outsiders = by_heart
    both = members.joined(outsiders)
    values = DcPdd(cap=10.0)(knows, both, run).values
    wins = np.mean(values[:12, None] > values[None, 12:])
    assert wins > 0.75


def test_refuses_a_corpus_that_is_audited_or_empty(target, split, run):
    run.others["same"] = Split.of("same", text=["something else", split.texts[2]])
    with pytest.raises(EngramError, match="1 of the 2 records of the corpus 'same'"):
        DcPdd(corpus="same")(target, split, run)
    run.others["blank"] = Split.of("blank", text=["", " "[:0]])
    with pytest.raises(EngramError, match="no tokens to count"):
        DcPdd(corpus="blank")(target, split, run)
    run.others["none"] = Split.of("none", text=["x"]).take([])
    with pytest.raises(EngramError, match="has 0 records"):
        DcPdd(corpus="none")(target, split, run)
    run.others["numbers"] = Split.of("numbers", value=[1, 2])
    with pytest.raises(EngramError, match="no column 'text'"):
        DcPdd(corpus="numbers")(target, split, run)


@pytest.mark.parametrize("cap", [0.0, -1.0, float("nan")])
def test_refuses_other_caps(cap):
    with pytest.raises(EngramError, match="cap is"):
        DcPdd(cap=cap)
