"""Forget ratios by hand, correlations beside SciPy's, probes beside scikit-learn's own."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from engram.core import EngramError, stream
from engram.parts.layer_states import layer_states
from engram.parts.linear_probe import probe_hits
from engram.stats.forgetting import forget_gap, forget_ratio, rank_correlation, total_variance


@pytest.mark.parametrize(
    ("before", "after", "chance", "ratio"),
    [(0.9, 0.6, 0.5, 0.75), (1.0, 0.25, 0.25, 1.0), (0.8, 0.8, 0.5, 0.0), (0.9, 0.4, 0.5, 1.25),
     (0.9, 1.0, 0.5, -0.25), (0.55, 0.5, 0.5, 1.0)],
)  # fmt: skip
def test_forget_ratio_by_hand(before, after, chance, ratio):
    assert forget_ratio(before, after, chance) == pytest.approx(ratio)
    assert forget_gap(before, after) == pytest.approx(ratio * (before - chance))


@pytest.mark.parametrize("before", [0.3, 0.5, 0.549])
def test_there_is_no_ratio_where_there_was_no_skill(before):
    assert math.isnan(forget_ratio(before, 0.5, 0.5))


def test_percents_are_refused():
    with pytest.raises(EngramError, match="'before' is 90") as caught:
        forget_ratio(90.0, 60.0, 50.0)
    assert "percent" in caught.value.hint


def test_rank_correlation_is_scipys_on_the_pairs_that_are_whole():
    x = np.array([1.0, 4.0, 2.0, 2.0, 9.0, np.nan, 3.0])
    y = np.array([2.0, 3.0, 1.0, 5.0, 8.0, 4.0, np.nan])
    found = rank_correlation(x, y, "r", stream(0, "r"), resamples=200)
    assert found.value == pytest.approx(spearmanr(x[:5], y[:5]).statistic)
    assert found.n == 5
    assert -1 <= found.low <= found.value <= found.high <= 1
    picks = stream(0, "r").integers(5, size=(200, 5))
    drawn = [spearmanr(x[p], y[p]).statistic for p in picks if np.ptp(x[p]) and np.ptp(y[p])]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, (0.025, 0.975))))


@pytest.mark.parametrize(("x", "y"), [([1.0, 2.0], [2.0, 1.0]), ([1.0] * 4, [1.0, 2.0, 3.0, 4.0])])
def test_too_little_for_a_correlation(x, y):
    assert rank_correlation(np.array(x), np.array(y), "r", stream(0, "r")).value is None


def test_total_variance_by_hand():
    states = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    assert total_variance(states) == pytest.approx(1)
    assert total_variance(states + 10) == pytest.approx(1 / 201)  # mean square 201, spread 1
    assert total_variance(np.ones((3, 2))) == 0


def test_probes_are_scikit_learns():
    rng = stream(0, "probe")
    labels = rng.integers(3, size=90)
    states = rng.normal(size=(2, 90, 6)).astype(np.float32) * 5 + 3
    states[1] += 20 * np.eye(6, dtype=np.float32)[labels]
    hits = probe_hits(states[:, :60], labels[:60], states[:, 60:], labels[60:], strength=0.1)
    for layer, own in enumerate(states.astype(np.float64)):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
        said = probe.fit(own[:60], labels[:60]).predict(own[60:])
        assert hits[layer].tolist() == (said == labels[60:]).tolist()
    assert hits[1].mean() > 0.8 > hits[0].mean()


def test_a_label_that_was_never_learnt_is_a_miss():
    states = np.array([[[0.0], [0.1], [5.0], [5.1]]], np.float32)
    said = probe_hits(states, ["no", "no", "yes", "yes"], states, ["no", "maybe", "yes", "no"])
    assert said.tolist() == [[True, False, True, False]]


def test_probes_refuse_labels_of_another_number():
    states = np.zeros((1, 4, 2), np.float32)
    with pytest.raises(EngramError, match="3 labels for 4 records to learn from"):
        probe_hits(states, ["no"] * 3, states, ["no"] * 4)
    with pytest.raises(EngramError, match="strength is 0"):
        probe_hits(states, ["no"] * 4, states, ["no"] * 4, strength=0.0)


def test_states_are_those_of_each_prompt_read_alone(lms):
    prompts = ["one two", "A short one.", "one two three four five six seven eight " * 3]
    found = layer_states(lms[0], prompts)
    assert found.shape == (3, 3, 32)
    for row, prompt in enumerate(prompts):
        ids = torch.tensor([lms[0].tokenizer(prompt)["input_ids"]])
        with torch.no_grad():
            states = lms[0].model(ids, output_hidden_states=True).hidden_states
        for layer in range(3):
            np.testing.assert_allclose(found[layer, row], states[layer][0, -1], atol=1e-5)
