"""Lower bounds on epsilon: how far from private a training surely was.

A proof of differential privacy bounds epsilon from above, for the worst attack. An audit bounds
it from below: no (epsilon, delta)-private training lets anybody guess so well who was in its data.
A bound of 0 means that nothing was shown, not that nothing leaks.

One run: Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run", 2023.
Many runs: Jagielski, Ullman and Oprea, "Auditing Differentially Private Machine Learning", 2020.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from engram.core.errors import EngramError
from engram.core.finding import Finding
from engram.stats.checks import check_finite, check_lengths
from engram.stats.intervals import LEVEL, clopper_pearson

NAME = "epsilon lower bound"
FEWEST = 8
"""Fewest guesses worth trying on a part of the units: all right, they happen once in 256."""
PRECISION = 1e-6
"""How near bisection comes to the bound, from below."""


@dataclass(frozen=True)
class Guesses:
    """A way of guessing which units were in the data, and how often it was right.

    Attributes:
        units: Records (or pairs of records) whose inclusion was drawn by a fair coin.
        made: On how many of them a guess was made; the others were passed over.
        right: How many guesses were right.
    """

    units: int
    made: int
    right: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.made <= self.units:
            raise EngramError(
                f"{self.right} right of {self.made} guesses on {self.units} units is not possible",
                hint="right <= made <= units",
            )


def one_run_p_value(guesses: Guesses, epsilon: float, delta: float = 0.0) -> float:
    """The most probable that so many right guesses are, if the training is (epsilon, delta)-DP.

        p = beta + 2 m delta alpha,  W ~ Binomial(r, e^epsilon / (1 + e^epsilon))
        beta  = P(W >= v)
        alpha = max over i of  P(v > W >= v - i) / i

    for v right of r guesses on m units (Theorem 5.2).
    """
    from scipy.special import betainc, expit

    made, right = guesses.made, guesses.right
    if right == 0:
        return 1.0
    accuracy = float(expit(epsilon))
    beta = float(betainc(right, made - right + 1, accuracy))
    if delta == 0.0:
        return beta
    below = _binomial(np.arange(right - 1, -1, -1), made, accuracy)  # W = v - 1, v - 2, ..., 0
    alpha = float((np.cumsum(below) / np.arange(1, right + 1)).max())
    return min(1.0, beta + 2 * guesses.units * delta * alpha)


def one_run_epsilon(
    guesses: Guesses, delta: float = 0.0, confidence: float = LEVEL, steps: int = 1
) -> float:
    """The largest epsilon that the guesses refute at this confidence; 0 where they refute none.

    Args:
        guesses: What was guessed, and how often rightly.
        delta: The delta of the claim that is refuted.
        confidence: That the bound holds, over coins and training.
        steps: How many additions or removals of a record one coin decides between: 1 for a
            record that is in or out; 2 where the coin says which of two records is in. Then
            (epsilon, delta) for one of them gives (2 epsilon, (1 + e^epsilon) delta) for both.
    """
    _check(delta, confidence)
    tolerated = 1 - confidence

    def refuted(epsilon: float) -> bool:
        # Group privacy: k steps cost k epsilon and delta (1 + e^epsilon + ... + e^((k-1) epsilon)).
        group = delta * sum(math.exp(step * epsilon) for step in range(steps))
        return one_run_p_value(guesses, steps * epsilon, min(group, 1.0)) < tolerated

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high):
        low, high = high, 2 * high
    while high - low > PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def best_epsilon(
    tries: Sequence[Guesses], delta: float = 0.0, confidence: float = LEVEL, steps: int = 1
) -> tuple[float, Guesses]:
    """The best bound of several ways of guessing, and the way that gave it.

    The best of many looks is too good by itself. Each bound is therefore computed at a
    confidence of 1 - (1 - confidence) / tries, so that all of them hold together (Bonferroni).
    """
    if not tries:
        raise EngramError("no way of guessing was given", hint="give at least one")
    each = 1 - (1 - confidence) / len(tries)
    bounds = [one_run_epsilon(guesses, delta, each, steps) for guesses in tries]
    best = int(np.argmax(bounds))
    return bounds[best], tries[best]


def guess_counts(units: int, share: float = 0.0) -> list[int]:
    """How many guesses to make: all units, half of them, a quarter, ..., down to `FEWEST`.

    These depend on the number of units alone, never on the scores; with `share`, only that many.
    """
    if not 0 <= share <= 1:
        raise EngramError(
            f"the share of units to guess on is {share}, but must be in [0, 1]",
            hint="0 tries all, half, a quarter, ... of them",
        )
    if share:
        return [max(1, int(share * units + 1e-9))] if units else []
    counts = [units >> halvings for halvings in range(max(units, 1).bit_length())]
    return [c for c in counts if c >= FEWEST] or [units] * (units > 0)


def coin_guesses(
    scores: Float[np.ndarray, " m"],
    included: Bool[np.ndarray, " m"],
    rng: np.random.Generator,
    share: float = 0.0,
) -> list[Guesses]:
    """Guess that the highest scores were in and the lowest out (section 3, Algorithm 1).

    For each count, half of the guesses go to either end; and, because a model may show that a
    record was in but rarely that it was not, once more all to the high end.

    Args:
        scores: Higher where the unit is more likely in.
        included: What each unit's own fair coin said.
        rng: Orders equal scores, which must not be ordered by membership.
        share: See `guess_counts`.
    """
    check_lengths("scores", len(scores), "coins", len(included))
    check_finite(scores)
    units = len(scores)
    shuffled = rng.permutation(units)
    said = included[shuffled[np.argsort(scores[shuffled], kind="stable")]]  # lowest score first
    tries = []
    for count in guess_counts(units, share):
        out, inside = count // 2, count - count // 2
        right = np.count_nonzero(~said[:out]) + np.count_nonzero(said[units - inside :])
        tries.append(Guesses(units, count, int(right)))
        if count < units:
            top = np.count_nonzero(said[units - count :])
            tries.append(Guesses(units, count, int(top)))
    return tries


def pair_guesses(
    trained: Float[np.ndarray, " m"],
    held_out: Float[np.ndarray, " m"],
    rng: np.random.Generator,
    share: float = 0.0,
) -> list[Guesses]:
    """Guess which of two records was in: the one with the higher score; surest pairs first.

    Where a fixed number of records was drawn by lot, their coins are not independent. But pair
    each held-out record with a trained one, at random: given the pairs, which of the two was in
    is a fair coin, and these coins are independent.

    Args:
        trained: The score of each pair's trained record.
        held_out: The score of its held-out record.
        rng: Orders equal differences, and guesses where the two scores are equal.
        share: See `guess_counts`.
    """
    check_lengths("trained", len(trained), "held-out records", len(held_out))
    check_finite(trained)
    check_finite(held_out)
    units = len(trained)
    difference = trained - held_out
    right = np.where(difference == 0, rng.random(units) < 0.5, difference > 0)
    shuffled = rng.permutation(units)
    surest = shuffled[np.argsort(-np.abs(difference[shuffled]), kind="stable")]
    return [
        Guesses(units, count, int(np.count_nonzero(right[surest[:count]])))
        for count in guess_counts(units, share)
    ]


def many_run_epsilon(
    false_alarms: int,
    runs_without: int,
    misses: int,
    runs_with: int,
    delta: float = 0.0,
    confidence: float = LEVEL,
) -> float:
    """The bound from many trainings, with and without one and the same record; 0 or above.

        max(log((1 - delta - FPR) / FNR), log((1 - delta - FNR) / FPR))

    with FPR and FNR at the upper ends of their Clopper-Pearson intervals, each at a confidence of
    1 - (1 - confidence) / 2, so that both hold together (Jagielski et al., section 4).

    Args:
        false_alarms: Trainings without the record of which the attack said "with".
        runs_without: Trainings without it.
        misses: Trainings with the record of which the attack said "without".
        runs_with: Trainings with it.
        delta: The delta of the claim that is refuted.
        confidence: That the bound holds.
    """
    _check(delta, confidence)
    fpr = clopper_pearson(false_alarms, runs_without, confidence)[1]
    fnr = clopper_pearson(misses, runs_with, confidence)[1]
    shares = [(1 - delta - fpr, fnr), (1 - delta - fnr, fpr)]
    return max([0.0, *(math.log(top / bottom) for top, bottom in shares if top > 0)])


def most_possible(
    tries: Sequence[Guesses], delta: float = 0.0, confidence: float = LEVEL, steps: int = 1
) -> float:
    """The bound that the same ways of guessing would give if every guess were right."""
    perfect = [Guesses(each.units, each.made, each.made) for each in tries]
    return best_epsilon(perfect, delta, confidence, steps)[0]


def epsilon_finding(
    bound: float, n: int, delta: float, confidence: float, how: str, name: str = NAME
) -> Finding:
    """A bound as a finding: `value`, `low` and `high` are the bound; the true epsilon is above.

    Args:
        bound: At least 0.
        n: Units (or trainings) that it rests on.
        delta: Of the claim that is refuted.
        confidence: That the bound holds.
        how: Where the bound comes from, for the note.
        name: Of the finding.
    """
    at = f"at {100 * confidence:g} % confidence and delta {delta:g}"
    says = f"epsilon is at least this {at}" if bound else f"nothing can be shown {at}"
    note = f"{says}; {how}"
    return Finding.exact(name, bound, n).tagged(note=note, better="lower")


def _binomial(counts: Int[np.ndarray, " k"], n: int, share: float) -> Float[np.ndarray, " k"]:
    """Probabilities of these counts, by logarithms."""
    from scipy.special import gammaln, xlog1py, xlogy

    choices = gammaln(n + 1) - gammaln(counts + 1) - gammaln(n - counts + 1)
    return np.exp(choices + xlogy(counts, share) + xlog1py(n - counts, -share))


def _check(delta: float, confidence: float) -> None:
    if not 0 <= delta < 1:
        raise EngramError(
            f"delta is {delta}, but must be in [0, 1)", hint="1e-5, or less than 1 / records"
        )
    if not 0 < confidence < 1:
        raise EngramError(
            f"the confidence is {confidence}, but must be in (0, 1)", hint="0.95 is usual"
        )
