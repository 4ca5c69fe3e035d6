"""`perplexity` against a loop over all tokens, and against a model without opinions."""

import math

import numpy as np
import pytest

from engram.core import EngramError, Split, Target
from engram.methods.measures.perplexity import Perplexity


def test_weighs_every_token_alike(target, split, run, logprobs_of):
    total, tokens = 0.0, 0
    for text in split.texts:
        ids, table = logprobs_of(target.model, text)
        for place in range(1, len(ids)):
            total -= table[place - 1][ids[place]]
            tokens += 1
    (found,) = Perplexity()(target, {"all": split}, run)
    assert found.value == pytest.approx(math.exp(total / tokens), rel=1e-12)
    assert found.low < found.value < found.high
    assert (found.n, found.split, found.better) == (len(split), "all", "lower")


def test_a_model_without_opinions_hesitates_between_all_tokens(make_lm, split, run):
    import torch

    lm = make_lm(5)
    with torch.no_grad():
        lm.model.transformer.wte.weight.zero_()  # tied to the output: all logits are 0
    (found,) = Perplexity()(Target("flat", "causal-lm", lm, "flat"), {"all": split}, run)
    vocabulary = lm.model.config.vocab_size
    np.testing.assert_allclose([found.low, found.value, found.high], vocabulary, rtol=1e-9)


def test_the_interval_is_that_of_owners_where_they_are_known(target, split, run):
    alone = Split.of("alone", text=split.texts)
    one_each = Split.of("each", text=split.texts, owners=[f"p{i}" for i in range(len(split))])
    (owned,), (plain,), (same,) = (
        Perplexity()(target, {"all": records}, run) for records in (split, alone, one_each)
    )
    assert owned.value == plain.value == same.value
    assert owned.note == "interval by owner"
    assert plain.note == same.note == ""
    assert (owned.low, owned.high) != (plain.low, plain.high)
    # The same by hand: five totals, one an owner, are resampled.
    signals = run.tokens(target, split)
    nll, tokens = signals.losses() * signals.lengths, signals.lengths.astype(float)
    rng, drawn = run.stream("perplexity", "all"), []
    for _ in range(1000):
        pick = [2 * k + j for k in rng.integers(0, 5, 5) for j in (0, 1)]
        drawn.append(nll[pick].sum() / tokens[pick].sum())
    expected = np.exp(np.quantile(drawn, [0.025, 0.975]))
    np.testing.assert_allclose([owned.low, owned.high], expected, rtol=1e-12)


def test_one_record_has_no_interval(target, split, run):
    (found,) = Perplexity()(target, {"one": split.take([0])}, run)
    assert found.value is None
    assert "fewer than two records" in found.note


def test_a_hopeless_model_is_missing_rather_than_infinite(target, split, run):
    class Hopeless(type(run)):
        def tokens(self, target, split):
            signals = super().tokens(target, split)
            signals.logprob[:] = -1000.0
            return signals

    (found,) = Perplexity()(target, {"all": split}, Hopeless(run.scratch))
    assert found.value is None
    assert "1000 nats" in found.note


def test_unscored_records_do_not_count(target, split, run):
    with_gap = Split.of("gap", text=[*split.texts, ""])
    (whole,) = Perplexity()(target, {"all": split}, run)
    (gap,) = Perplexity()(target, {"all": with_gap}, run)
    assert (gap.value, gap.n) == (whole.value, whole.n)


def test_refuses_too_few_resamples():
    with pytest.raises(EngramError, match="resamples is 3"):
        Perplexity(resamples=3)
