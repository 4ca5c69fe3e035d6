"""Lower bounds on epsilon against numbers worked by hand, sums written out, and simulations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import EngramError, stream
from engram.stats.epsilon import (
    Guesses,
    best_epsilon,
    coin_guesses,
    epsilon_finding,
    guess_counts,
    many_run_epsilon,
    most_possible,
    one_run_epsilon,
    one_run_p_value,
    pair_guesses,
)


def slow_p_value(m, r, v, epsilon, delta):
    """The theorem as sums over every count, with exact binomial coefficients."""
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    chance = [math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]
    beta = sum(chance[v:])
    alpha = 0.0
    for i in range(1, m + 1):
        within = sum(chance[k] for k in range(r + 1) if v - i <= k < v)
        alpha = max(alpha, within / i)
    return min(1.0, beta + 2 * m * delta * alpha)


@settings(deadline=None)  # the first example imports SciPy
@given(
    counts=st.tuples(*[st.integers(0, 12)] * 3).map(sorted),
    epsilon=st.floats(0, 5),
    delta=st.sampled_from([0.0, 1e-5, 0.01, 0.3]),
)
def test_the_p_value_equals_the_theorem_written_out(counts, epsilon, delta):
    right, made, units = counts
    found = one_run_p_value(Guesses(units, made, right), epsilon, delta)
    assert found == pytest.approx(slow_p_value(units, made, right, epsilon, delta), abs=1e-12)


def test_all_of_a_hundred_right_by_hand():
    """(e^eps / (1 + e^eps))^100 = 0.05, so eps = log(q / (1 - q)) with q = 0.05^(1/100)."""
    q = 0.05 ** (1 / 100)
    expected = math.log(q / (1 - q))
    assert expected == pytest.approx(3.49297, abs=1e-5)
    assert one_run_epsilon(Guesses(100, 100, 100)) == pytest.approx(expected, abs=2e-6)
    # An exchange is two steps: half of it.
    half = one_run_epsilon(Guesses(100, 100, 100), steps=2)
    assert half == pytest.approx(expected / 2, abs=2e-6)


def test_a_delta_costs_as_the_theorem_says():
    """v = r = 2 of m = 2: p = q^2 + 4 delta max(2 q (1 - q), (2 q (1 - q) + (1 - q)^2) / 2)."""
    found = one_run_p_value(Guesses(2, 2, 2), math.log(3), 0.01)
    assert found == pytest.approx(0.5625 + 4 * 0.01 * 0.375)
    with_delta = one_run_epsilon(Guesses(100, 100, 100), 1e-3)
    assert 0 < with_delta < one_run_epsilon(Guesses(100, 100, 100))
    assert one_run_epsilon(Guesses(100, 100, 100), 0.4) == 0


def test_two_steps_with_a_delta_are_group_privacy():
    guesses, delta = Guesses(60, 50, 49), 1e-4
    found = one_run_epsilon(guesses, delta, steps=2)
    at = slow_p_value(60, 50, 49, 2 * found, delta * (1 + math.exp(found)))
    assert at == pytest.approx(0.05, abs=1e-5)


@pytest.mark.parametrize("right", [0, 30, 50, 55, 58])
def test_as_many_right_as_by_chance_show_nothing(right):
    """58 of 100 happen with probability 0.067 by tossing coins, 59 with 0.044."""
    assert one_run_epsilon(Guesses(100, 100, right)) == 0
    assert one_run_epsilon(Guesses(100, 100, 59)) > 0


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.floats(0, 0.01), st.floats(0.5, 0.999), st.integers(0, 40))
def test_the_bound_grows_with_what_was_right_and_falls_with_what_is_asked(r, delta, c, more):
    found = [one_run_epsilon(Guesses(r + more, r, v), delta, c) for v in range(0, r + 1, 3)]
    assert found == sorted(found)
    assert min(found) >= 0
    right = Guesses(r + more, r, r)
    assert one_run_epsilon(right, delta, c) >= one_run_epsilon(right, delta, 1 - (1 - c) / 2)
    assert one_run_epsilon(right, delta, c) >= one_run_epsilon(right, min(2 * delta, 0.5), c)


@pytest.mark.parametrize("true", [0.0, 1.0, 2.5])
def test_randomised_response_exceeds_its_epsilon_at_most_once_in_twenty(true):
    """Each of 150 answers is true with probability e^eps / (1 + e^eps): exactly eps-private."""
    accuracy = math.exp(true) / (1 + math.exp(true))
    right = stream(0, "response", int(10 * true)).binomial(150, accuracy, 1000)
    bounds = {v: one_run_epsilon(Guesses(150, 150, v)) for v in set(right.tolist())}
    found = np.array([bounds[v] for v in right.tolist()])
    # 5 % and three standard errors of 1,000 simulations.
    assert np.mean(found > true) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)
    if true:
        assert np.median(found) > 0.6 * true  # and it is not vacuous


def noisy_scores(included, noise, rng):
    return included + noise * rng.laplace(size=included.shape)


def test_choosing_the_best_of_many_looks_keeps_the_confidence():
    """Laplace noise of scale 1 on a bit: epsilon 1. All counts are tried and the best is taken."""
    rng, beyond = stream(0, "looks"), 0
    for _ in range(200):
        included = rng.random(120) < 0.5
        tries = coin_guesses(noisy_scores(included, 1.0, rng), included, rng)
        beyond += best_epsilon(tries)[0] > 1.0
    assert beyond / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


def test_pairs_of_a_fixed_number_keep_the_confidence():
    """60 of 120 are in: exchanging one for another moves two bits, so epsilon is 2 an exchange."""
    rng, beyond, shown = stream(0, "pairs"), 0, []
    for _ in range(200):
        scores = noisy_scores(np.arange(120) < 60, 1.0, rng)
        tries = pair_guesses(scores[:60], rng.permutation(scores[60:]), rng)
        shown.append(best_epsilon(tries)[0])
        beyond += shown[-1] > 2.0
    assert beyond / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
    assert np.median(shown) > 0.3
    assert best_epsilon(tries, steps=2)[0] == pytest.approx(shown[-1] / 2, abs=1e-5)


def test_the_best_look_uncorrected_would_not():
    """What the correction is for: without it, nothing private looks private enough."""
    rng, beyond = stream(0, "cheat"), 0
    for _ in range(100):
        included = rng.random(120) < 0.5
        tries = coin_guesses(rng.random(120), included, rng)
        beyond += max(one_run_epsilon(guesses) for guesses in tries) > 0
    assert beyond / 100 > 0.1


def test_guesses_by_hand():
    scores = np.array([5.0, 4, 3, 2, 1, 0])
    included = np.array([True, True, False, True, False, False])
    (both,) = coin_guesses(scores, included, stream(0))
    assert both == Guesses(6, 6, 4)  # 5, 4, 3 said in, 2, 1, 0 said out
    both, top = coin_guesses(scores, included, stream(0), share=1 / 3)
    assert (both, top) == (Guesses(6, 2, 2), Guesses(6, 2, 2))
    assert pair_guesses(np.array([3.0, 0, 9]), np.array([1.0, 4, 8]), stream(0)) == [
        Guesses(3, 3, 2)
    ]
    surest = pair_guesses(np.array([3.0, 0, 9]), np.array([1.0, 4, 8]), stream(0), 0.34)
    assert surest == [Guesses(3, 1, 0)]


def test_equal_scores_say_nothing_however_the_records_are_ordered():
    included = np.arange(400) < 200
    for design in (
        lambda rng: coin_guesses(np.zeros(400), included, rng, 1.0)[0],
        lambda rng: pair_guesses(np.zeros(400), np.zeros(400), rng, 1.0)[0],
    ):
        shares = [design(stream(0, k)).right / 400 for k in range(20)]
        assert np.mean(shares) == pytest.approx(0.5, abs=0.02)


def test_counts_depend_on_the_number_of_units_alone():
    assert guess_counts(100) == [100, 50, 25, 12]
    assert guess_counts(5) == [5]
    assert guess_counts(0) == []
    assert guess_counts(100, 0.29) == [29]
    assert guess_counts(3, 0.01) == [1]


def test_many_runs_by_hand():
    """No error in 100 runs of each kind: both rates may be 1 - 0.025^(1/100) = 0.0362."""
    rate = 1 - 0.025 ** (1 / 100)
    expected = math.log((1 - 1e-5 - rate) / rate)
    assert many_run_epsilon(0, 100, 0, 100, 1e-5) == pytest.approx(expected)
    assert expected == pytest.approx(3.28, abs=0.01)
    assert many_run_epsilon(50, 100, 50, 100) == 0
    assert many_run_epsilon(100, 100, 100, 100) == 0
    # Certain where it speaks though it rarely does: never a false alarm, 80 % missed.
    assert many_run_epsilon(0, 1000, 800, 1000) > 3


def test_many_runs_of_randomised_response_keep_the_confidence():
    rng, wrong = stream(0, "many"), 1 / (1 + math.e)  # epsilon 1
    errors = rng.binomial(200, wrong, (1000, 2)).tolist()
    found = np.array([many_run_epsilon(a, 200, b, 200) for a, b in errors])
    assert np.mean(found > 1) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)
    assert np.median(found) > 0.4


def test_the_finding_says_what_it_is():
    found = epsilon_finding(1.5, 80, 1e-5, 0.95, "70 of 80 guesses right")
    assert (found.value, found.low, found.high, found.unit) == (1.5, 1.5, 1.5, "")
    assert "at 95 % confidence and delta 1e-05" in found.note
    assert "nothing can be shown" in epsilon_finding(0.0, 80, 0.0, 0.999, "x").note


def test_most_possible_is_all_right():
    tries = [Guesses(50, 50, 20), Guesses(50, 25, 14)]
    assert most_possible(tries) == best_epsilon([Guesses(50, 50, 50), Guesses(50, 25, 25)])[0]


def test_huge_numbers_are_no_trouble():
    bound = one_run_epsilon(Guesses(10**5, 10**5, 10**5), 1e-9)
    # q^n = 0.05 at q = 1 + log(0.05) / n, and epsilon = log(q / (1 - q)).
    assert bound == pytest.approx(math.log(10**5 / -math.log(0.05)), abs=0.01)
    assert one_run_epsilon(Guesses(10**5, 10**5, 50_000), 1e-9) == 0


@pytest.mark.parametrize(
    ("wrong", "fact"),
    [
        (lambda: Guesses(10, 11, 5), "5 right of 11 guesses on 10"),
        (lambda: Guesses(10, 5, 6), "6 right of 5"),
        (lambda: Guesses(10, 5, -1), "-1 right"),
        (lambda: one_run_epsilon(Guesses(1, 1, 1), -0.1), "delta is -0.1"),
        (lambda: one_run_epsilon(Guesses(1, 1, 1), math.nan), "delta is nan"),
        (lambda: one_run_epsilon(Guesses(1, 1, 1), 0.0, 1.0), "confidence is 1.0"),
        (lambda: many_run_epsilon(0, 0, 0, 10), "0 hits in 0 trials"),
        (lambda: many_run_epsilon(0, 10, 0, 10, 1.0), "delta is 1.0"),
        (lambda: best_epsilon([]), "no way of guessing"),
        (lambda: guess_counts(10, 1.5), "share of units to guess on is 1.5"),
        (lambda: pair_guesses(np.zeros(3), np.full(3, np.nan), stream(0)), "score 0 is nan"),
    ],
)
def test_impossible_numbers_are_refused(wrong, fact):
    with pytest.raises(EngramError, match=fact) as caught:
        wrong()
    assert caught.value.hint
