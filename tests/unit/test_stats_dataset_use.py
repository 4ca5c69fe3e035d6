"""Tests on whole sets: exact by enumeration, by hand, and by how often they are wrong."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import EngramError, stream
from engram.stats.dataset_use import fit_guess, permutation_test, share_at_least, share_used


def every_relabelling(values, suspect):
    """Share of all choices of the suspects whose difference of means is at least the real one."""
    n, k = len(values), int(suspect.sum())

    def difference(chosen):
        rest = [values[i] for i in range(n) if i not in chosen]
        return np.mean([values[i] for i in chosen]) - np.mean(rest)

    real = difference(tuple(np.flatnonzero(suspect)))
    all_of_them = [difference(chosen) for chosen in combinations(range(n), k)]
    return np.mean([d >= real - 1e-12 for d in all_of_them])


@settings(max_examples=20, deadline=None)
@given(
    values=st.lists(st.integers(-3, 3), min_size=4, max_size=9),
    seed=st.integers(0, 1000),
)
def test_the_p_value_equals_that_of_every_relabelling(values, seed):
    values = np.array(values, float)
    rng = stream(seed, "marks")
    suspect = np.arange(len(values)) < rng.integers(1, len(values))
    found = permutation_test(values, suspect, rng, permutations=4000)
    assert found.p_value == pytest.approx(every_relabelling(values, suspect), abs=0.04)
    assert found.low <= found.p_value <= found.high
    assert found.p_value >= 1 / 4001


def test_a_p_value_by_hand():
    """The two largest of five are the suspects: one choice of ten is as good."""
    values = np.array([1.0, 2, 3, 10, 11])
    found = permutation_test(values, values > 5, stream(0), permutations=20_000)
    assert found.p_value == pytest.approx(0.1, abs=0.01)
    assert permutation_test(-values, values > 5, stream(0)).p_value == 1.0


def test_under_no_use_the_p_value_is_uniform():
    found = []
    for seed in range(300):
        rng = stream(seed, "uniform")
        values = rng.standard_t(2, size=40)  # heavy tails, where a t-test would be off
        found.append(permutation_test(values, np.arange(40) < 15, rng, permutations=199).p_value)
    found = np.array(found)
    for alpha in (0.05, 0.2, 0.5, 0.8):
        share = np.mean(found <= alpha)
        assert abs(share - alpha) <= 3 * np.sqrt(alpha * (1 - alpha) / 300) + 0.005


def test_owners_stay_together():
    """Twenty owners of ten equal records are twenty observations, not two hundred."""
    wrong_by_record = wrong_by_owner = 0
    for seed in range(100):
        rng = stream(seed, "owners")
        owner = np.repeat(np.arange(20), 10)
        values, suspect = rng.normal(size=20)[owner], owner < 10
        wrong_by_record += permutation_test(values, suspect, rng, None, 199).p_value <= 0.05
        wrong_by_owner += permutation_test(values, suspect, rng, owner, 199).p_value <= 0.05
    assert wrong_by_owner <= 5 + 3 * np.sqrt(100 * 0.05 * 0.95)
    assert wrong_by_record > 20


def test_large_sets_are_tested_in_pieces(monkeypatch):
    values = stream(0, "large").normal(size=50)
    whole = permutation_test(values, np.arange(50) < 25, stream(1), permutations=400)
    monkeypatch.setattr("engram.stats.dataset_use.BLOCK", 500)
    parts = permutation_test(values, np.arange(50) < 25, stream(1), permutations=400)
    assert whole == parts


def slow_least_squares(features, is_member):
    """By the normal equations of a weighted ridge regression, column by column."""
    low, high = np.quantile(features, [0.025, 0.975], axis=0)
    clipped = np.minimum(np.maximum(features, low), high)
    weight = np.array([0.5 / sum(is_member == m) for m in is_member])
    centre = sum(w * row for w, row in zip(weight, clipped, strict=True))
    variance = sum(w * (row - centre) ** 2 for w, row in zip(weight, clipped, strict=True))
    standard = (clipped - centre) / np.sqrt(variance)
    root = np.sqrt(weight)[:, None]
    width = features.shape[1]
    design = np.concatenate([standard * root, np.sqrt(1e-3) * np.eye(width)])
    answers = np.concatenate([(is_member - 0.5) * root[:, 0], np.zeros(width)])
    weights = np.linalg.lstsq(design, answers, rcond=None)[0]
    return np.clip(0.5 + standard @ weights, 0, 1)


def test_the_guess_equals_least_squares_written_out():
    rng = stream(0, "squares")
    is_member = rng.random(80) < 0.3
    features = rng.normal(size=(80, 4)) * [1, 100, 0.01, 5] + is_member[:, None]
    features[0] = 1e9  # an outlier is clipped
    expected = slow_least_squares(features, is_member)
    np.testing.assert_allclose(fit_guess(features, is_member)(features), expected, atol=1e-9)


def test_the_guess_finds_the_direction_by_itself():
    rng = stream(0, "direction")
    is_member = np.arange(200) < 100
    features = np.stack([-1.0 * is_member + rng.normal(size=200), rng.normal(size=200)], 1)
    guess = fit_guess(features, is_member)(features)
    assert guess[:100].mean() > guess[100:].mean() + 0.1
    assert ((guess >= 0) & (guess <= 1)).all()


def test_a_feature_that_is_the_same_everywhere_does_no_harm():
    is_member = np.arange(20) < 10
    flat = np.full((20, 2), 0.1)
    np.testing.assert_array_equal(fit_guess(flat, is_member)(flat), 0.5)
    repeated = np.repeat(np.arange(20.0)[:, None], 5, axis=1)  # a singular matrix but for the ridge
    assert np.isfinite(fit_guess(repeated, is_member)(repeated)).all()


def test_a_share_by_hand():
    """Guesses of 0 and 1: 60 % say yes, of members 90 %, of outsiders 10 %: (0.6 - 0.1) / 0.8."""
    suspect, members = np.repeat([1.0, 0.0], [60, 40]), np.repeat([1.0, 0.0], [90, 10])
    found = share_used(suspect, members, 1 - members)
    assert found.value == pytest.approx(0.625)
    assert found.power == pytest.approx(0.8)
    # Both ends satisfy Fieller's equation: the distance is 1.96 standard errors.
    for p, sign in ((found.low, 1), (found.high, -1)):
        distance = 0.6 - 0.9 * p - 0.1 * (1 - p)
        variance = (0.24 + p**2 * 0.09 + (1 - p) ** 2 * 0.09) / 99
        assert distance == pytest.approx(sign * 1.959964 * np.sqrt(variance), abs=1e-6)


@pytest.mark.parametrize("effect", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("truth", [0.0, 0.1, 0.5, 1.0])
def test_the_interval_covers_the_true_share(effect, truth):
    hits, widths = 0, []
    for seed in range(200):
        rng = stream(seed, "coverage")
        used = rng.random(150) < truth  # of the set itself, not of the population
        suspect = rng.normal(size=150) + effect * used
        known = rng.normal(size=(2, 400))
        known[0] += effect
        first, rest = known[:, :200], known[:, 200:]
        guess = fit_guess(np.concatenate(first)[:, None], np.arange(400) < 200)
        found = share_used(*(guess(each[:, None]) for each in (suspect, *rest)))
        hits += found.low <= used.mean() <= found.high
        widths.append(found.high - found.low)
    assert hits / 200 >= 0.9
    if effect == 3.0:
        assert np.mean(widths) < 0.2


def test_weak_guesses_give_a_wide_interval_not_a_wrong_one():
    rng = stream(0, "weak")
    suspect, members, outsiders = rng.random((3, 100))
    found = share_used(suspect, members, outsiders)
    assert (found.low, found.high) == (0.0, 1.0)


def test_guesses_that_are_all_equal_are_not_certain():
    found = share_used(np.ones(10), np.ones(10), np.zeros(10))
    assert found.value == 1.0
    assert 0.5 < found.low < 0.95
    assert share_used(np.zeros(10), np.zeros(10), np.zeros(10)).power == 0.0


def test_a_set_beyond_both_sides_is_the_nearer_end():
    rng = stream(0, "beyond")
    members, outsiders = 0.6 + 0.01 * rng.random(100), 0.4 + 0.01 * rng.random(100)
    found = share_used(np.full(100, 0.9), members, outsiders)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_owners_widen_the_interval():
    rng = stream(0, "clusters")
    owner = np.repeat(np.arange(20), 10)
    one, two, three = (rng.normal(size=20)[owner] for _ in range(3))
    alone = share_used(one, two + 5, three)
    owned = share_used(one, two + 5, three, (owner, owner, owner))
    assert owned.high - owned.low > 2 * (alone.high - alone.low)
    single = np.arange(200)
    again = share_used(one, two + 5, three, (single, single, single))
    assert (again.low, again.high) == pytest.approx((alone.low, alone.high))


def test_the_lower_bound_holds_and_is_not_vacuous():
    beyond, found = 0, []
    for seed in range(300):
        rng = stream(seed, "least")
        used = rng.random(500) < 0.6
        bound = share_at_least(rng.normal(size=500) + 3 * used, rng.normal(size=500))
        found.append(bound)
        beyond += bound > 0.6
    assert beyond / 300 <= 0.05
    assert np.median(found) > 0.35
    same = [share_at_least(*stream(seed, "same").random((2, 200))) for seed in range(200)]
    assert np.mean(np.array(same) > 0) <= 0.05


def test_the_lower_bound_by_hand():
    """All of 200 suspects above all of 200 outsiders; each side moves by sqrt(log 40 / 400)."""
    band = np.sqrt(np.log(40) / 400)
    found = share_at_least(np.full(200, 2.0), np.zeros(200))
    assert found == pytest.approx((1 - band - band) / (1 - band))
    assert share_at_least(np.zeros(200), np.full(200, 2.0)) == 0
    assert share_at_least(np.ones(2), np.zeros(2)) == 0


@pytest.mark.parametrize(
    ("wrong", "fact"),
    [
        (lambda: permutation_test(np.zeros(4), np.ones(4, bool), stream(0)), "0 outsiders"),
        (lambda: permutation_test(np.zeros(4), np.arange(4) < 2, stream(0), None, 5), "is 5"),
        (
            lambda: permutation_test(np.full(4, np.nan), np.arange(4) < 2, stream(0)),
            "value 0 is nan",
        ),
        (
            lambda: permutation_test(
                np.zeros(4), np.arange(4) < 2, stream(0), np.array([0, 1, 1, 2])
            ),
            "1 owners",
        ),
        (lambda: share_used(np.zeros(1), np.zeros(5), np.zeros(5)), "1 suspect records"),
        (lambda: share_used(np.zeros(5), np.zeros(5), np.array([])), "0 outsider records"),
        (lambda: share_used(np.zeros(5), np.full(5, np.inf), np.zeros(5)), "member guess 0 is inf"),
        (lambda: share_at_least(np.array([]), np.zeros(5)), "no scores on one side"),
        (lambda: fit_guess(np.full((4, 1), np.inf), np.arange(4) < 2), "record 0 is"),
        (lambda: fit_guess(np.zeros((4, 1)), np.ones(4, bool)), "0 outsiders"),
    ],
)  # fmt: skip
def test_what_cannot_be_tested_is_refused(wrong, fact):
    with pytest.raises(EngramError, match=fact) as caught:
        wrong()
    assert caught.value.hint
