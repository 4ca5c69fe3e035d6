"""Ensembles of attacks: no leak between halves, honest intervals, and worth having."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from engram.core import EngramError
from engram.stats import auc
from engram.stats.ensemble import _normal_scores, _weights, cross_fitted_auc, ensemble
from engram.stats.roc import auc_value


def made(n, attacks, seed, signal=0.0):
    """Half members; independent attacks that each shift members by `signal` deviations."""
    rng = np.random.default_rng(seed)
    is_member = rng.permutation(np.arange(n) % 2 == 0)
    scores = {f"a{k}": rng.normal(size=n) + signal * is_member for k in range(attacks)}
    return scores, is_member


def test_weak_attacks_together_are_stronger_than_the_best():
    scores, is_member = made(2000, 6, 0, signal=0.4)
    found = ensemble(scores, is_member, np.random.default_rng(1))
    together = auc_value(found.values, is_member[found.judged_on])
    best = max(auc_value(v[found.judged_on], is_member[found.judged_on]) for v in scores.values())
    assert together > best + 0.08
    assert all(weight > 0 for weight in found.weights.values())
    # Six independent shifts of 0.4 add up to one of 0.4 * sqrt(6): an AUC of 0.756.
    assert together == pytest.approx(0.756, abs=0.04)


def test_an_attack_that_points_the_other_way_gets_a_negative_weight():
    scores, is_member = made(1000, 2, 0, signal=0.8)
    scores["a1"] = -scores["a1"]
    found = ensemble(scores, is_member, np.random.default_rng(1))
    assert found.weights["a0"] > 0 > found.weights["a1"]


def test_scale_and_outliers_do_not_matter():
    scores, is_member = made(400, 3, 0, signal=0.5)
    found = ensemble(scores, is_member, np.random.default_rng(1))
    bent = {"a0": np.exp(5 * scores["a0"]), "a1": 1e6 * scores["a1"] + 3, "a2": scores["a2"] ** 3}
    again = ensemble(bent, is_member, np.random.default_rng(1))
    np.testing.assert_allclose(again.values, found.values)


def test_owners_are_never_on_both_sides():
    scores, is_member = made(300, 3, 0, signal=0.5)
    rng = np.random.default_rng(2)
    owners = [f"{'m' if m else 'o'}{rng.integers(40)}" for m in is_member]
    found = ensemble(scores, is_member, rng, owners)
    theirs = np.array(owners)
    assert not set(theirs[found.judged_on]) & set(theirs[~found.judged_on])
    assert 0.3 < found.judged_on.mean() < 0.7


def test_a_judged_score_depends_on_the_teaching_half_and_on_itself_alone():
    scores, is_member = made(200, 3, 0, signal=0.5)
    found = ensemble(scores, is_member, np.random.default_rng(1))
    teachers = table(scores)[~found.judged_on]
    weights, intercept = _weights(teachers, is_member[~found.judged_on])
    for place, row in enumerate(np.flatnonzero(found.judged_on)[:20]):
        alone = _normal_scores(teachers, table(scores)[[row]]) @ weights + intercept
        assert alone[0] == pytest.approx(found.values[place])


def table(scores):
    return np.column_stack(list(scores.values()))


def test_on_null_data_the_interval_contains_a_half_as_often_as_it_says():
    covered, areas = 0, []
    for seed in range(200):
        scores, is_member = made(200, 5, seed)
        rng = np.random.default_rng(seed)
        found = ensemble(scores, is_member, rng)
        area = auc(found.values, is_member[found.judged_on], rng, resamples=100)
        covered += area.low <= 0.5 <= area.high
        areas.append(area.value)
    # 190 are expected; 181 or more come with a chance of 99.7 %.
    assert covered >= 181
    assert np.mean(areas) == pytest.approx(0.5, abs=0.012)


def test_judged_on_its_own_teachers_it_would_flatter_itself():
    flattered = []
    for seed in range(30):
        scores, is_member = made(100, 10, seed)
        found = ensemble(scores, is_member, np.random.default_rng(seed))
        teachers = ~found.judged_on
        weights = np.array(list(found.weights.values()))
        values = _normal_scores(table(scores)[teachers], table(scores)[teachers]) @ weights
        flattered.append(auc_value(values, is_member[teachers]))
    assert np.mean(flattered) > 0.65


def test_cross_fitted_intervals_hold_on_null_data_too():
    covered = naive = 0
    for seed in range(200):
        scores, is_member = made(120, 1, seed)
        found = cross_fitted_auc(scores, is_member, np.random.default_rng(seed), resamples=50)
        covered += found.low <= 0.5 <= found.high
        half = (found.high - found.low) / 2 / np.sqrt(2)
        naive += abs(found.value - 0.5) <= half
    # Taken as independent, the two areas would promise too much: about 171 of 200.
    assert naive < 181 <= covered
    assert "taught each other" in found.note


def test_cross_fitted_finds_a_signal():
    scores, is_member = made(1000, 4, 0, signal=0.4)
    found = cross_fitted_auc(scores, is_member, np.random.default_rng(0), resamples=100)
    # Four shifts of 0.4: an AUC of 0.714.
    assert found.low < 0.714 < found.high
    assert found.low > 0.6
    assert found.n == 1000


def test_normal_scores_by_hand():
    from scipy.special import ndtri

    known = np.array([[1.0, 5.0], [2.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    rows = np.array([[0.0, 1.0], [2.0, 9.0], [9.0, 5.0]])
    found = _normal_scores(known, rows)
    # Of four known: none below; one below and two ties; all below.
    np.testing.assert_allclose(found[:, 0], ndtri(np.array([0.5, 2.5, 4.5]) / 5))
    np.testing.assert_array_equal(found[:, 1], 0)


@pytest.mark.parametrize("learn", [ensemble, cross_fitted_auc])
def test_refuses(learn):
    rng = np.random.default_rng(0)
    is_member = np.array([True, False] * 10)
    with pytest.raises(EngramError, match="no attacks"):
        learn({}, is_member, rng)
    with pytest.raises(EngramError, match="score of 'a'"):
        learn({"a": np.full(20, np.nan)}, is_member, rng)
    # The type checker of the tests is quicker than the function's own check.
    with pytest.raises((EngramError, TypeCheckError), match="19"):
        learn({"a": np.zeros(19)}, is_member, rng)
    with pytest.raises(EngramError, match="20 members and 0 outsiders"):
        learn({"a": np.zeros(20)}, np.ones(20, bool), rng)
    owners = ["one" if m else "two" for m in is_member]
    with pytest.raises(EngramError, match="cannot be learnt and judged"):
        learn({"a": np.arange(20.0)}, is_member, rng, owners)


def test_attacks_that_say_nothing_give_equal_scores():
    is_member = np.array([True, False] * 10)
    found = ensemble({"a": np.zeros(20)}, is_member, np.random.default_rng(0))
    assert np.ptp(found.values) == 0
