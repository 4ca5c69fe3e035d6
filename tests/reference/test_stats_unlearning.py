"""Forget quality, utility, extraction strength and two-sided privacy, against others' numbers."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.core import EngramError, stream
from engram.parts.rouge import longest_common, rouge_l
from engram.stats.unlearning import (
    chance_of_answer,
    extraction_strength,
    forget_quality,
    harmonic_mean,
    kolmogorov_smirnov,
    model_utility,
    truth_ratio,
    truth_ratio_arithmetic,
    truthfulness,
    two_sided_privacy,
)

FOLDER = Path(os.environ.get("ENGRAM_DATA", "")) / "tofu_eval_logs"
needs_logs = pytest.mark.skipif(
    not (os.environ.get("ENGRAM_DATA") and FOLDER.is_dir()),
    reason="needs tofu_eval_logs in ENGRAM_DATA",
)
LLAMA = "ft_epoch5_lr1e-05_llama2-7b_{}_wd0.01.json.gz"


def log(model):
    with gzip.open(FOLDER / LLAMA.format(model)) as file:
        return json.load(file)


def column(part, name):
    return np.array(list(part[name].values()))


def ratio(part):
    right = "avg_paraphrased_loss"
    return truth_ratio(column(part, right), column(part, "average_perturb_loss"))


@needs_logs
@pytest.mark.parametrize(
    ("retained", "p", "d"),
    [
        ("retain90", 1.834066e-21, 0.396667),
        ("retain95", 6.504459e-16, 0.38),
        ("retain99", 2.345177e-06, 0.428333),
    ],
)
def test_published_forget_quality(retained, p, d):
    sides = [ratio(log(model)["eval_log_forget.json"]) for model in ("full", retained)]
    found = kolmogorov_smirnov(*sides)
    assert found.p_value == pytest.approx(p, rel=1e-6)
    assert found.distance == pytest.approx(d, abs=1e-6)


@needs_logs
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("full", 0.622677),
        ("retain90", 0.613745),
        ("retain95", 0.600577),
        ("retain99", 0.620744),
    ],
)
def test_published_model_utility(model, expected):
    parts = {}
    for file in ("eval_log", "eval_real_author_wo_options", "eval_real_world_wo_options"):
        part = log(model)[f"{file}.json"]
        wrong = None if file == "eval_log" else column(part, "average_perturb_loss")
        parts[f"{file}: chance"] = chance_of_answer(column(part, "avg_gt_loss"), wrong)
        parts[f"{file}: rouge"] = column(part, "rougeL_recall")
        parts[f"{file}: truth"] = truthfulness(ratio(part))
    found = model_utility(parts, stream(0))
    assert found.value == pytest.approx(expected, abs=1e-6)
    assert found.low < expected < found.high
    assert found.n == 300 + 100 + 117


def test_truth_ratio_by_hand():
    # A paraphrase at probability 1/2 a token, wrong answers at 1/4 and 1/16: geometric mean 1/8.
    right, wrong = np.log([2.0]), np.log([[4.0, 16.0]])
    assert truth_ratio(right, wrong) == pytest.approx([(1 / 8) / (1 / 2)])
    assert truth_ratio_arithmetic(right, wrong) == pytest.approx([(5 / 32) / (1 / 2)])


def test_a_retrained_model_compared_with_itself_has_a_p_value_of_one():
    values = stream(1).random(50)
    p, d = forget_quality(values, values, stream(2))
    assert p.value == 1
    assert d.value == 0


def test_distance_by_hand():
    # All of the first lie below all of the second.
    assert kolmogorov_smirnov(np.array([1.0, 2.0]), np.array([3.0, 4.0])).distance == 1
    assert kolmogorov_smirnov(np.array([1.0, 3.0]), np.array([2.0, 4.0])).distance == 0.5


def test_distributions_as_near_as_can_be_are_surely_not_apart():
    """The exact p-value is 1, and rounding brings it above that."""
    once = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    other = np.array([0.1, 0.2, 0.3, 0.4, 0.6])
    assert kolmogorov_smirnov(once, other).p_value == pytest.approx(1, abs=1e-6)


def test_chance_among_answers_by_hand():
    right, wrong = np.log([2.0]), np.log([[4.0, 4.0]])
    assert chance_of_answer(right) == pytest.approx([0.5])
    assert chance_of_answer(right, wrong) == pytest.approx([0.5])


def test_harmonic_mean_by_hand():
    assert harmonic_mean([1.0, 0.5]) == pytest.approx(2 / 3)
    assert harmonic_mean([1.0, 0.0]) == 0


def test_utility_refuses_what_is_no_share():
    with pytest.raises(EngramError, match=r"not in \[0, 1\]"):
        model_utility({"a": np.array([0.5, 1.5])}, stream(0))
    with pytest.raises(EngramError, match="nothing to average"):
        model_utility({}, stream(0))


@pytest.mark.parametrize(
    ("hits", "expected"),
    [([1, 1, 1, 1], 1.0), ([0, 1, 1, 1], 0.75), ([1, 0, 1, 1], 0.5), ([1, 1, 1, 0], 0.0), ([], 0)],
)
def test_extraction_strength_by_hand(hits, expected):
    assert extraction_strength(np.array(hits, bool)) == expected


def strength_by_search(hits):
    for told in range(len(hits) + 1):
        if all(hits[told:]):
            return 1 - told / len(hits)
    raise AssertionError


@given(st.lists(st.booleans(), min_size=1))
def test_extraction_strength_agrees_with_a_search(hits):
    assert extraction_strength(np.array(hits)) == pytest.approx(strength_by_search(hits))


def test_over_forgetting_is_no_success():
    forgotten = np.arange(200) < 100
    draw = stream(3).normal(size=200)
    avoids = np.where(forgotten, draw - 3, draw)
    found = two_sided_privacy(avoids, draw, forgotten, stream(4))
    assert found.target.value < 0.1
    assert found.gap.value > 0.3
    assert found.gap.low > 0.2
    assert found.leak.high < 0
    same = two_sided_privacy(draw, draw, forgotten, stream(4))
    assert same.gap.value == 0
    assert same.leak.low <= 0 <= same.leak.high


def common_by_table(first, second):
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
            )
    return table[-1][-1]


@given(st.lists(st.sampled_from("abc"), max_size=80), st.lists(st.sampled_from("abc"), max_size=80))
def test_longest_common_agrees_with_the_usual_table(first, second):
    assert longest_common(first, second) == common_by_table(first, second)


def test_rouge_by_hand():
    # Lin (2004), section 3.1: "police killed the gunman" against two candidates.
    reference = "police killed the gunman"
    assert rouge_l("Police kill the gunman.", reference).recall == 0.75
    assert rouge_l("the gunman kill police", reference).recall == 0.5
    found = rouge_l("the gunman", reference)
    assert (found.recall, found.precision) == (0.5, 1.0)
    assert found.f1 == pytest.approx(2 / 3)
    assert rouge_l("", reference).f1 == 0
