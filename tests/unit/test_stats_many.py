"""Many looks, owners and intervals: hand-worked cases, and claims about noise."""

import numpy as np
import pytest

from engram.core.errors import EngramError
from engram.core.randomness import stream
from engram.stats.intervals import clopper_pearson, mean_finding, paired_difference, proportion
from engram.stats.many import auc_p_value, bonferroni, half_of, headline, holm
from engram.stats.owners import by_owner, owner_index


def test_holm_by_hand():
    # smallest first: 0.01 x 4, 0.02 x 3, 0.03 x 2 (held up at 0.06), 0.5 x 1
    adjusted = holm(np.array([0.03, 0.01, 0.5, 0.02]))
    np.testing.assert_allclose(adjusted, [0.06, 0.04, 0.5, 0.06])
    np.testing.assert_allclose(bonferroni(np.array([0.03, 0.5])), [0.06, 1.0])


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_p_values_are_probabilities(bad):
    with pytest.raises(EngramError, match="p-value 1 is"):
        holm(np.array([0.5, bad]))


def test_auc_p_value_exact_case():
    # 3 members above 3 outsiders: one ordering of C(6, 3) = 20
    is_member = np.arange(6) < 3
    assert auc_p_value(np.array([6.0, 5, 4, 3, 2, 1]), is_member) == pytest.approx(1 / 20)
    assert auc_p_value(np.array([1.0, 2, 3, 4, 5, 6]), is_member) == pytest.approx(1)
    assert auc_p_value(np.ones(6), is_member) == 1.0


def test_the_headline_of_pure_noise_is_not_flattered():
    is_member = np.arange(200) < 100
    flattered, honest, covers = [], [], []
    for seed in range(60):
        rng = stream(seed, "noise")
        scores = {f"a{i}": rng.normal(size=200) for i in range(20)}
        best = headline(scores, is_member, rng, resamples=200)
        flattered.append(best.chosen_with)
        honest.append(best.finding.value)
        covers.append(best.finding.low <= 0.5 <= best.finding.high)
    assert np.mean(flattered) > 0.58  # the best of twenty looks good where it was chosen
    assert np.mean(honest) == pytest.approx(0.5, abs=0.025)
    assert np.mean(covers) > 0.85


def test_the_headline_finds_the_attack_that_works():
    rng = stream(0, "works")
    is_member = np.arange(400) < 200
    scores = {"noise": rng.normal(size=400), "good": rng.normal(size=400) + 2 * is_member}
    best = headline(scores, is_member, rng)
    assert (best.attack, best.finding.method, best.turned, best.looks) == ("good", "good", False, 2)
    assert best.finding.low > 0.8
    assert best.finding.n == best.judged_on.sum() == 200
    assert is_member[best.judged_on].sum() == 100


def test_scores_that_point_away_are_turned_and_said_so():
    rng = stream(0, "away")
    is_member = np.arange(400) < 200
    scores = {"noise": rng.normal(size=400), "away": rng.normal(size=400) - 2 * is_member}
    best = headline(scores, is_member, rng)
    assert (best.attack, best.turned) == ("away", True)
    assert best.finding.low > 0.8
    assert "turned round" in best.finding.note


def test_one_attack_is_judged_on_everybody():
    is_member = np.arange(100) < 50
    best = headline({"only": np.arange(100.0)}, is_member, stream(0))
    assert (best.finding.value, best.finding.n, best.chosen_with) == (0.0, 100, None)
    assert not best.turned


def test_too_few_to_choose_is_said_and_not_guessed():
    scores = {"a": np.arange(4.0), "b": np.arange(4.0)}
    best = headline(scores, np.array([True, False, False, False]), stream(0))
    assert best.attack == ""
    assert best.finding.value is None


def test_halves_never_split_an_owner():
    rng = stream(0, "half")
    cluster = rng.integers(0, 60, 500)
    is_member = cluster % 3 == 0
    half = half_of(cluster, is_member, rng)
    assert not set(cluster[half]) & set(cluster[~half])
    assert len(set(cluster[half & is_member])) == 10
    assert len(set(cluster[half & ~is_member])) == 20


def test_headline_by_owner_judges_whole_owners():
    rng = stream(0, "by owner")
    owners = [f"p{i}" for i in np.repeat(np.arange(40), 5)]
    is_member = np.arange(200) < 100
    best = headline({n: rng.normal(size=200) for n in "ab"}, is_member, rng, owners)
    judged = {o for o, seen in zip(owners, best.judged_on, strict=True) if seen}
    chosen = {o for o, seen in zip(owners, best.judged_on, strict=True) if not seen}
    assert not judged & chosen


@pytest.mark.parametrize(
    ("scores", "fact"),
    [
        ({}, "no attacks"),
        ({"x": np.array([1.0, 2.0, np.nan])}, "score 2 of 'x' is nan"),
        ({"x": np.array([1.0])}, "1 scores of 'x' but 3"),
    ],
)
def test_a_bad_battery_is_refused_by_name(scores, fact):
    from engram.stats.many import _check_battery

    with pytest.raises(EngramError, match=fact):
        _check_battery(scores, np.array([True, False, True]))


def test_owner_scores_by_hand():
    found = by_owner(
        np.array([1.0, 3.0, 5.0, 7.0, 9.0, 11.0]),
        np.array([True, True, False, True, False, False]),
        ["ann", "ann", "bob", "eve", "eve", ""],
    )
    assert found.owners == ("ann", "bob")
    np.testing.assert_array_equal(found.values, [2.0, 5.0])
    np.testing.assert_array_equal(found.is_member, [True, False])
    assert found.dropped_records == 3
    assert "2 records of 1 owners with records on both sides" in found.note
    assert "1 records without an owner" in found.note


def test_owners_all_on_both_sides_leave_nothing_to_compare():
    with pytest.raises(EngramError, match="0 owners are members") as caught:
        by_owner(np.arange(2.0), np.array([True, False]), ["ann", "ann"])
    assert "partition by owner" in caught.value.hint


def test_records_without_an_owner_are_not_one_person():
    np.testing.assert_array_equal(owner_index(["a", None, "", "a"], 4), [0, 1, 2, 0])
    with pytest.raises(EngramError, match="3 records but 1 owners"):
        owner_index(["a"], 3)


def test_clopper_pearson_tails_are_exact():
    from scipy.stats import binom

    low, high = clopper_pearson(3, 20)
    assert binom.sf(2, 20, low) == pytest.approx(0.025)
    assert binom.cdf(3, 20, high) == pytest.approx(0.025)
    assert clopper_pearson(0, 20) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert clopper_pearson(20, 20)[1] == 1.0


@pytest.mark.parametrize(("hits", "n"), [(5, 4), (-1, 4), (1, 0)])
def test_impossible_proportions_are_refused(hits, n):
    with pytest.raises(EngramError, match="is not a proportion"):
        proportion(hits, n, "share")


def test_nothing_to_count_is_missing():
    assert proportion(0, 0, "share").value is None


def test_mean_interval_covers_the_mean_of_skewed_values():
    covered, high_side = [], []
    for seed in range(300):
        rng = stream(seed, "skewed")
        found = mean_finding(rng.exponential(size=40), "loss", "nats", rng, resamples=300)
        covered.append(found.low <= 1 <= found.high)
        high_side.append(found.high - found.value > found.value - found.low)
    assert np.mean(covered) == pytest.approx(0.93, abs=0.045)
    assert np.mean(high_side) > 0.9  # BCa reaches further where the tail is


def test_mean_of_special_cases():
    assert mean_finding(np.array([2.0]), "x", "", stream(0)).value is None
    constant = mean_finding(np.full(9, 2.5), "x", "nats", stream(0))
    assert (constant.value, constant.low, constant.high, constant.unit) == (2.5, 2.5, 2.5, "nats")
    with pytest.raises(EngramError, match="no values"):
        mean_finding(np.array([]), "x", "", stream(0))
    with pytest.raises(EngramError, match="value 1 is nan"):
        mean_finding(np.array([1.0, np.nan]), "x", "", stream(0))


def test_pairing_removes_what_the_records_share():
    rng = stream(0, "pairs")
    easy = rng.normal(scale=10, size=200)
    noise = rng.normal(scale=0.1, size=200)
    found = paired_difference(easy + 0.5 + noise, easy, "gap", "nats", rng)
    assert found.low < 0.5 < found.high
    assert found.high - found.low < 0.05
    with pytest.raises(EngramError, match="2 first values but 3 second values"):
        paired_difference(np.arange(2.0), np.arange(3.0), "gap", "", rng)
