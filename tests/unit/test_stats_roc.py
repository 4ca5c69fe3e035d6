"""ROC numbers on cases small enough to work by hand, and the errors of bad input."""

import time

import numpy as np
import pytest
from scipy.stats import beta

from engram.core.errors import EngramError
from engram.core.finding import Finding
from engram.core.randomness import stream
from engram.stats.checks import check_labelled
from engram.stats.roc import (
    auc,
    balanced_accuracy,
    distance_from_chance,
    roc_curve,
    thin,
    threshold_at_fpr,
    tpr_at_fpr,
)


def labelled(members, outsiders):
    values = np.array([*members, *outsiders], dtype=float)
    return values, np.arange(len(values)) < len(members)


def test_auc_counts_pairs_with_ties_as_half():
    # pairs won: 3 > 1, 3 > 2, 2 > 1; tied: 2 = 2; so (3 + 1/2) / 4
    assert auc(*labelled([3, 2], [1, 2]), stream(0)).value == 3.5 / 4


def test_members_are_the_positive_class():
    values, is_member = labelled([5, 4, 1], [3, 2, 0])
    right = auc(values, is_member, stream(0)).value
    assert right == 7 / 9
    assert auc(values, ~is_member, stream(0)).value == pytest.approx(1 - right)


def test_separated_scores_do_not_claim_certainty():
    found = auc(*labelled(range(10, 20), range(8)), stream(0))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 8))  # 8 independent pairs, all won
    other = auc(*labelled(range(8), range(10, 20)), stream(0))
    assert (other.value, other.low) == (0.0, 0.0)
    assert other.high == pytest.approx(1 - 0.025 ** (1 / 8))


def test_equal_scores_tell_nothing():
    found = auc(*labelled([1] * 30, [1] * 20), stream(0))
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_auc_interval_is_wider_when_owners_are_resampled():
    rng = stream(0, "owners")
    owner = np.repeat(np.arange(40), 10)
    values = rng.normal(size=40)[owner] + 0.1 * rng.normal(size=400)
    is_member = owner < 20
    alone = auc(values, is_member, stream(1))
    together = auc(values, is_member, stream(1), owners=[f"p{i}" for i in owner])
    assert together.value == alone.value
    # ten records of one mood count as one: the interval should be about sqrt(10) times as wide
    assert 2.2 < (together.high - together.low) / (alone.high - alone.low) < 4.5


def test_auc_is_quick_at_fifteen_thousand_records():
    rng = stream(0, "quick")
    is_member = np.arange(15_000) < 13_000
    start = time.process_time()
    auc(rng.normal(size=15_000), is_member, rng, resamples=1000)
    assert time.process_time() - start < 2


def test_the_same_stream_gives_the_same_interval():
    values, is_member = labelled(range(5, 25), range(20))
    assert auc(values, is_member, stream(3)) == auc(values, is_member, stream(3))


def test_tpr_at_fpr_by_hand():
    # 10 outsiders; at 20 % two may be above, so the threshold is the third largest: 7
    values, is_member = labelled([20, 7.5, 7, 1], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    found = tpr_at_fpr(values, is_member, 0.2)
    assert threshold_at_fpr(values[~is_member], 0.2) == 7
    assert found.name == "TPR@20%FPR"
    assert found.value == 0.5  # 20 and 7.5; the member at 7 is tied and does not count
    assert found.n == 4
    assert found.low == pytest.approx(beta.ppf(0.025, 2, 3))
    assert found.high == pytest.approx(beta.ppf(0.975, 3, 2))


def test_ties_at_the_threshold_count_against_the_attack():
    values, is_member = labelled([1] * 50, [1] * 50)
    assert tpr_at_fpr(values, is_member, 0.1).value == 0.0


@pytest.mark.parametrize(("n", "measurable"), [(999, False), (1000, True)])
def test_not_measurable_where_no_outsider_can_be_the_share(n, measurable):
    found = tpr_at_fpr(*labelled(range(50), range(n)), 0.001)
    assert (found.value is not None) == measurable
    if not measurable:
        assert "1,000 outsiders, has 999" in found.note


def test_shares_that_floating_point_rounds_down_keep_their_outsider():
    # 0.29 * 100 is 28.999999999999996; 29 of 100 outsiders may be above
    assert threshold_at_fpr(np.arange(100.0), 0.29) == 70


@pytest.mark.parametrize("fpr", [0.0, 1.0, -0.1, float("nan")])
def test_a_false_positive_rate_is_a_fraction(fpr):
    with pytest.raises(EngramError, match="fpr is"):
        tpr_at_fpr(*labelled([1, 2], [0, 1]), fpr)


def test_roc_curve_by_hand():
    fpr, tpr, thresholds = roc_curve(*labelled([3, 2], [2, 1]))
    np.testing.assert_array_equal(thresholds, [np.inf, 3, 2, 1])
    np.testing.assert_array_equal(fpr, [0, 0, 0.5, 1])
    np.testing.assert_array_equal(tpr, [0, 0.5, 1, 1])


def test_thinning_keeps_points_of_the_curve_and_both_ends():
    rng = stream(0, "thin")
    is_member = np.arange(8000) < 4000
    fpr, tpr, _ = roc_curve(rng.normal(size=8000) + is_member, is_member)
    thin_fpr, thin_tpr = thin(fpr, tpr, points=100)
    assert 60 < len(thin_fpr) <= 100
    assert set(zip(thin_fpr, thin_tpr, strict=True)) <= set(zip(fpr, tpr, strict=True))
    assert (thin_fpr[0], thin_tpr[0], thin_fpr[-1], thin_tpr[-1]) == (0, 0, 1, 1)
    # evenly spaced on a logarithmic axis: the smallest hundredth has as many points as it should
    assert np.sum(thin_fpr <= 0.01) > 15


def test_short_curves_are_not_thinned():
    fpr = tpr = np.array([0.0, 0.5, 1.0])
    assert thin(fpr, tpr)[0] is fpr


def test_balanced_accuracy_does_not_flatter_noise():
    is_member = np.arange(40) < 20
    values = [
        balanced_accuracy(stream(i).normal(size=40), is_member, stream(i, "b")) for i in range(200)
    ]
    # the best threshold in hindsight would average above 0.6 here
    assert np.mean([v.value for v in values]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([v.low <= 0.5 <= v.high for v in values]) > 0.93


def test_balanced_accuracy_of_a_perfect_attack():
    found = balanced_accuracy(*labelled(range(100, 200), range(100)), stream(0))
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.9 < found.low < 1


def test_balanced_accuracy_needs_two_a_side():
    assert balanced_accuracy(*labelled([1], [0, 1]), stream(0)).value is None


def test_an_auc_near_zero_is_no_success():
    low = distance_from_chance(Finding("AUC", 0.02, 0.01, 0.05, 100))
    assert (low.value, low.low, low.high) == pytest.approx((0.48, 0.45, 0.49))
    chance = distance_from_chance(Finding("AUC", 0.48, 0.40, 0.55, 100))
    assert (chance.value, chance.low, chance.high) == pytest.approx((0.02, 0.0, 0.1))
    assert distance_from_chance(Finding.missing("AUC", "no records")).note == "no records"


@pytest.mark.parametrize(
    ("values", "is_member", "fact"),
    [
        ([0.0, np.nan, 1.0, 2.0], [1, 1, 0, 0], "score 1 is nan"),
        ([0.0, 1.0, np.inf, 2.0], [1, 1, 0, 0], "score 2 is inf"),
        ([0.0, 1.0], [1, 1], "2 members and 0 outsiders"),
        ([0.0, 1.0], [0, 0], "0 members and 2 outsiders"),
        ([], [], "0 members and 0 outsiders"),
        ([0.0, 1.0, 2.0], [1, 0], "3 scores but 2 membership labels"),
    ],
)
def test_bad_scores_are_refused_with_a_hint(values, is_member, fact):
    with pytest.raises(EngramError, match=fact) as caught:
        check_labelled(np.array(values, dtype=float), np.array(is_member, dtype=bool))
    assert caught.value.hint


@pytest.mark.parametrize(
    "number",
    [
        lambda v, y: auc(v, y, stream(0)),
        roc_curve,
        lambda v, y: tpr_at_fpr(v, y, 0.5),
        lambda v, y: balanced_accuracy(v, y, stream(0)),
    ],
)
def test_every_number_refuses_nan(number):
    with pytest.raises(EngramError, match="score 0 is nan"):
        number(*labelled([np.nan, 1], [0, 1]))


def test_few_members_make_a_wide_interval():
    """Six records: the interval is not narrower than Hanley and McNeil's, worked by hand."""
    from engram.stats.roc import hanley_mcneil

    low, high = hanley_mcneil(0.8, 6, 100)
    # Q1 = 0.8/1.2, Q2 = 2*0.64/1.8; variance (0.16 + 5*(Q1-0.64) + 99*(Q2-0.64))/600
    variance = (0.16 + 5 * (2 / 3 - 0.64) + 99 * (1.28 / 1.8 - 0.64)) / 600
    np.testing.assert_allclose([low, high], [0.8 - 1.959964 * variance**0.5, 1.0], atol=1e-9)
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(1.0, 0.01, 6), rng.normal(0, 1, 100)])
    found = auc(values, np.arange(106) < 6, rng)
    wide = hanley_mcneil(found.value, 6, 100)
    assert found.low <= wide[0]
    assert found.high >= wide[1]
