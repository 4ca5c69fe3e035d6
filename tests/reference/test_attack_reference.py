"""`reference` against two loops, and what it refuses to compare."""

from dataclasses import replace

import numpy as np
import pytest

from engram.core import EngramError, Lineage, Target
from engram.methods.attacks.reference import Reference


def mean_loss(lm, text, logprobs_of):
    ids, table = logprobs_of(lm, text)
    return -sum(table[place - 1][ids[place]] for place in range(1, len(ids))) / (len(ids) - 1)


def test_is_reference_loss_minus_own(target, base, split, run, logprobs_of):
    expected = [
        mean_loss(base.model, text, logprobs_of) - mean_loss(target.model, text, logprobs_of)
        for text in split.texts
    ]
    scores = Reference()(target, split, run)
    np.testing.assert_allclose(scores.values, expected, rtol=0, atol=1e-12)


def test_a_named_reference_is_used_instead_of_the_base(target, split, run):
    run.others["itself"] = target
    np.testing.assert_array_equal(Reference("itself")(target, split, run).values, 0.0)


def test_compares_classifiers_by_their_losses(classifier, arrays, run):
    other = run.target("base classifier")
    expected = run.losses(other, arrays) - run.losses(classifier, arrays)
    np.testing.assert_allclose(Reference()(classifier, arrays, run).values, expected)
    assert np.ptp(expected) > 0


def test_needs_a_base(target, split, run):
    with pytest.raises(EngramError, match="does not say which base") as caught:
        Reference()(replace(target, lineage=Lineage()), split, run)
    assert "--reference" in caught.value.hint


def test_refuses_another_family(target, classifier, split, run):
    run.others["base"] = classifier
    with pytest.raises(EngramError, match="is a classifier"):
        Reference()(target, split, run)


def test_refuses_another_tokenizer(target, split, run, lms):
    from engram.families.causal_lm import LanguageModel, byte_tokenizer

    coarse = byte_tokenizer(split.texts, 270, 192)
    run.others["base"] = Target("coarse", "causal-lm", LanguageModel(lms[1].model, coarse), "c")
    with pytest.raises(EngramError, match="cuts the texts into other tokens") as caught:
        Reference()(target, split.take([0, 1, 2]), run)
    assert "tokenizer" in caught.value.hint
