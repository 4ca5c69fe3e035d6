"""What must hold for all scores, against slow implementations from the definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from engram.core.randomness import stream
from engram.stats.blind import Blinds, assign_folds, fit_logistic
from engram.stats.many import auc_p_value, bonferroni, holm
from engram.stats.owners import by_owner
from engram.stats.roc import (
    auc,
    auc_value,
    resampled_aucs,
    roc_curve,
    thin,
    tpr_at_fpr,
)

few = settings(deadline=None, max_examples=40)


@st.composite
def scored(draw, least=1):
    """Scores with many ties, and at least `least` records a side."""
    side = st.lists(st.integers(-4, 4), min_size=least, max_size=25)
    members, outsiders = draw(side), draw(side)
    values = np.array(members + outsiders, dtype=float)
    order = np.array(draw(st.permutations(range(len(values)))))
    return values[order], (np.arange(len(values)) < len(members))[order]


def by_pairs(values, is_member):
    pairs = [(m, o) for m in values[is_member] for o in values[~is_member]]
    return sum((m > o) + (m == o) / 2 for m, o in pairs) / len(pairs)


def by_trying_every_threshold(values, is_member, fpr):
    rates = [
        (np.mean(values[is_member] >= t), np.mean(values[~is_member] >= t))
        for t in [*values, np.inf]
    ]
    return max(tpr for tpr, false in rates if false <= fpr + 1e-12)


@few
@given(scored())
def test_auc_is_the_share_of_pairs(case):
    assert auc_value(*case) == pytest.approx(by_pairs(*case))


@few
@given(scored())
def test_auc_is_the_area_under_the_curve(case):
    fpr, tpr, _ = roc_curve(*case)
    assert np.trapezoid(tpr, fpr) == pytest.approx(auc_value(*case))


@few
@given(scored())
def test_swapping_the_labels_gives_one_minus_the_auc(case):
    values, is_member = case
    assert auc_value(values, ~is_member) == pytest.approx(1 - auc_value(*case))


@few
@given(scored())
def test_only_the_order_of_scores_matters(case):
    values, is_member = case
    assert auc_value(np.exp(values) * 3 + 1, is_member) == auc_value(*case)
    found, same = (tpr_at_fpr(v, is_member, 0.25) for v in (values, np.exp(values)))
    assert found == same


@few
@given(scored(), st.permutations(range(50)))
def test_the_order_of_records_does_not_matter(case, shuffle):
    values, is_member = case
    order = np.array([row for row in shuffle if row < len(values)])
    assert auc_value(values[order], is_member[order]) == pytest.approx(auc_value(*case))


@few
@given(scored(least=4), st.sampled_from([0.25, 0.3, 0.5, 0.75, 0.9]))
def test_tpr_is_the_best_of_every_threshold(case, fpr):
    found = tpr_at_fpr(*case, fpr)
    assert found.value == pytest.approx(by_trying_every_threshold(*case, fpr))
    assert found.low <= found.value <= found.high


@few
@given(scored())
def test_roc_climbs_from_nothing_to_everything(case):
    fpr, tpr, thresholds = roc_curve(*case)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    assert (np.diff(thresholds) < 0).all()
    for index in range(1, len(fpr)):
        called = case[0] >= thresholds[index]
        assert tpr[index] == pytest.approx(called[case[1]].mean())
        assert fpr[index] == pytest.approx(called[~case[1]].mean())


@few
@given(scored(), st.integers(5, 20))
def test_a_thinned_curve_lies_on_the_curve(case, points):
    fpr, tpr, _ = roc_curve(*case)
    few_fpr, few_tpr = thin(fpr, tpr, points)
    assert len(few_fpr) <= points
    assert set(zip(few_fpr, few_tpr, strict=True)) <= set(zip(fpr, tpr, strict=True))


@few
@given(scored(least=2))
def test_the_interval_holds_the_value(case):
    found = auc(*case, stream(0), resamples=60)
    assert 0 <= found.low <= found.value <= found.high <= 1


def slow_resamples(values, is_member, cluster, rng, resamples):
    """The bootstrap as its definition says: draw records, then compare every pair."""
    areas = []
    for _ in range(resamples):
        rows = []
        for side in (False, True):
            here = np.flatnonzero(is_member == side)
            names = np.unique(cluster[here])
            for name in names[rng.integers(0, len(names), len(names))]:
                rows += [row for row in here if cluster[row] == name]
        areas.append(by_pairs(values[rows], is_member[rows]))
    return np.array(areas)


@pytest.mark.parametrize("size", [1, 3])
def test_the_quick_bootstrap_draws_like_the_slow_one(size):
    rng = stream(0, "bootstrap")
    values = rng.integers(0, 6, 24).astype(float)
    cluster = np.arange(24) // size
    is_member = np.arange(24) < 12
    quick = resampled_aucs(values, is_member, cluster, rng, 2000)
    slow = slow_resamples(values, is_member, cluster, rng, 1000)
    assert quick.mean() == pytest.approx(slow.mean(), abs=0.015)
    assert quick.std() == pytest.approx(slow.std(), rel=0.1)


@pytest.mark.parametrize(("members", "outsiders"), [(60, 60), (150, 30)])
def test_the_auc_interval_covers_chance_as_often_as_it_says(members, outsiders):
    is_member = np.arange(members + outsiders) < members
    covered = 0
    for seed in range(200):
        rng = stream(seed, "null")
        found = auc(rng.normal(size=len(is_member)), is_member, rng, resamples=300)
        covered += found.low <= 0.5 <= found.high
    # A percentile bootstrap of so few records covers in 94 to 96 %; the rest is 200 tosses' luck.
    assert binom.ppf(0.001, 200, 0.94) <= covered <= binom.ppf(0.999, 200, 0.96)


@few
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_the_raw_values_and_bonferroni(p_values):
    raw = np.array(p_values)
    adjusted = holm(raw)
    assert (adjusted >= raw).all()
    assert (adjusted <= bonferroni(raw) + 1e-15).all()
    order = np.argsort(raw, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


def test_auc_p_value_agrees_with_permutations():
    rng = stream(0, "permutations")
    is_member = np.arange(60) < 25
    values = np.round(rng.normal(size=60) + 0.4 * is_member, 1)
    seen = auc_value(values, is_member)
    above = [auc_value(values, rng.permutation(is_member)) >= seen for _ in range(4000)]
    assert auc_p_value(values, is_member) == pytest.approx(np.mean(above), abs=0.02)


@few
@given(scored(), st.integers(0, 10**6))
def test_owner_means_agree_with_a_dictionary(case, seed):
    values, is_member = case
    draws = stream(seed).integers(0, 3, len(values))
    # members and outsiders have other owners, so that none is dropped
    owners = [f"{'m' if m else 'o'}{d}" for m, d in zip(is_member, draws, strict=True)]
    found = by_owner(values, is_member, owners)
    groups = {}
    for owner, value in zip(owners, values, strict=True):
        groups.setdefault(owner, []).append(value)
    assert found.owners == tuple(groups)
    np.testing.assert_allclose(found.values, [np.mean(group) for group in groups.values()])
    assert [owner[0] == "m" for owner in found.owners] == found.is_member.tolist()
    assert found.dropped_records == 0


def test_blind_intervals_are_as_wide_as_blind_aucs_scatter():
    """The folds share records, so held-out scores scatter half as much again as they seem to."""
    is_member = np.arange(80) < 40
    standard = []
    for seed in range(120):
        rng = stream(seed, "blind")
        cluster = np.arange(80)
        fold = assign_folds(cluster, is_member, rng)
        blinds = Blinds(is_member, cluster, fold, looks=1)
        found = blinds.auc("blind", rng.normal(size=(80, 40)), fit_logistic, rng)
        standard.append((found.value - 0.5) / ((found.high - found.low) / 2 / 1.96))
    # 0.2 is three standard errors of a deviation over 120 draws
    assert np.std(standard) == pytest.approx(1.0, abs=0.2)
    assert np.mean(standard) < 0.3
