"""Has it been forgotten, and is the rest still there? The numbers of TOFU and MUSE.

Everything is judged beside a model that was trained again without the records, and by closeness
to it. A number that is "better" than the retrained model's (a lower membership score, a higher
truth ratio) is a deviation like any other: a model that avoids what it should merely not know
gives the forgotten records away by that.

Losses are mean negative log-likelihoods per token of an answer given its question, in nats, so
that exp(-loss) is the answer's probability to the power of one over its length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from warnings import catch_warnings, filterwarnings

import numpy as np
from jaxtyping import Bool, Float

from engram.core.errors import EngramError
from engram.core.finding import Finding
from engram.stats.checks import check_finite, check_lengths
from engram.stats.intervals import LEVEL
from engram.stats.roc import auc

RESAMPLES = 1000
MEANING = (
    "the p-value of a two-sample Kolmogorov-Smirnov test: above 0.05, the truth ratios do not "
    "differ from the retrained model's more than chance allows"
)


def truth_ratio(
    paraphrased: Float[np.ndarray, " n"], perturbed: Float[np.ndarray, "n wrong"]
) -> Float[np.ndarray, " n"]:
    """How likely wrong answers are beside a right one in other words; R_truth of each record.

        R = exp( loss of the paraphrase - mean over wrong answers of their losses )

    Maini et al. (2024), eq. 1, with the geometric mean of the wrong answers' probabilities that
    the authors' published evaluation takes; the formula in print has the arithmetic one
    (`truth_ratio_arithmetic`). Below 1 a model knows the answer; near or above 1 it does not.

    Args:
        paraphrased: Loss of a right answer in other words, nats per token.
        perturbed: Loss of each wrong answer in the same words, nats per token.

    Raises:
        EngramError: The lengths differ, there is no wrong answer, or a loss is not finite.
    """
    _check_answers(paraphrased, perturbed)
    return np.exp(paraphrased - perturbed.mean(1))


def truth_ratio_arithmetic(
    paraphrased: Float[np.ndarray, " n"], perturbed: Float[np.ndarray, "n wrong"]
) -> Float[np.ndarray, " n"]:
    """`truth_ratio` with the arithmetic mean of probabilities: eq. 1 as it is printed."""
    _check_answers(paraphrased, perturbed)
    return np.exp(paraphrased) * np.exp(-perturbed).mean(1)


def _check_answers(paraphrased: np.ndarray, perturbed: np.ndarray) -> None:
    check_lengths("paraphrased answers", len(paraphrased), "rows of wrong ones", len(perturbed))
    if perturbed.ndim != 2 or not perturbed.shape[1]:
        raise EngramError(
            "there are no wrong answers to compare with",
            hint="give each record a list of perturbed answers",
        )
    check_finite(paraphrased, "loss")
    check_finite(perturbed, "loss of a wrong answer")


@dataclass(frozen=True)
class Closeness:
    """Two samples compared: the largest gap of their distribution functions, and its p-value."""

    distance: float
    p_value: float
    n: int


def kolmogorov_smirnov(
    first: Float[np.ndarray, " n"], second: Float[np.ndarray, " m"]
) -> Closeness:
    """The two-sample test; exact up to 10,000 values a side, asymptotic beyond.

    Raises:
        EngramError: A side is empty, or a value is not finite.
    """
    from scipy.stats import ks_2samp

    for side in (first, second):
        check_finite(side, "truth ratio")
    if not len(first) or not len(second):
        raise EngramError(
            f"there are {len(first)} and {len(second)} truth ratios, but both are needed",
            hint="ask both models about the same records",
        )
    with catch_warnings():
        # Where the exact p-value is 1 it may come out above 1; then the asymptotic one is taken.
        filterwarnings("ignore", "ks_2samp: Exact calculation unsuccessful", RuntimeWarning)
        found = ks_2samp(first, second)
    return Closeness(float(found.statistic), float(found.pvalue), len(first) + len(second))


def forget_quality(
    target: Float[np.ndarray, " n"],
    retrained: Float[np.ndarray, " m"],
    rng: np.random.Generator,
) -> tuple[Finding, Finding]:
    """How far the truth ratios on forgotten records are from the retrained model's.

    Returns:
        The p-value of their equality, and the distance D of the two distributions; both with the
        interval that resampling the records of both sides gives.
    """
    found = kolmogorov_smirnov(target, retrained)
    drawn = np.array(
        [
            (again.p_value, again.distance)
            for again in (
                kolmogorov_smirnov(_resampled(target, rng), _resampled(retrained, rng))
                for _ in range(RESAMPLES // 5)
            )
        ]
    )
    p = _finding("forget quality", found.p_value, drawn[:, 0], found.n).tagged(
        note=MEANING, better="higher"
    )
    d = _finding("distance of truth ratios", found.distance, drawn[:, 1], found.n)
    return p, d.tagged(better="lower")


def _resampled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return values[rng.integers(0, len(values), len(values))]


def _finding(name: str, value: float, drawn: np.ndarray, n: int) -> Finding:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Finding(name, value, min(float(low), value), max(float(high), value), n)


def chance_of_answer(
    right: Float[np.ndarray, " n"], wrong: Float[np.ndarray, "n wrong"] | None = None
) -> Float[np.ndarray, " n"]:
    """Probability of each right answer: on its own, or among the answers that are offered.

    Without wrong answers exp(-loss) (Maini et al. (2024), for the fictional
    authors); with them, that over the sum of all (for real authors and world facts).
    """
    check_finite(right, "loss")
    if wrong is None:
        return np.exp(-right)
    _check_answers(right, wrong)
    return 1 / (1 + np.exp(right[:, None] - wrong).sum(1))


def truthfulness(ratio: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """max(0, 1 - R): what a truth ratio adds to a model's utility."""
    return np.maximum(0.0, 1 - ratio)


def model_utility(
    parts: Mapping[str, Float[np.ndarray, " _"]], rng: np.random.Generator
) -> Finding:
    """Harmonic mean of the means of several numbers, each in [0, 1] and higher where better.

    In TOFU there are nine: probability, ROUGE-L recall and truthfulness on kept records, real
    authors and world facts. One of them at 0 makes it 0. Records are resampled for the interval:
    numbers of one set of records (names that agree up to the first ": ") are drawn together.

    Raises:
        EngramError: There are no numbers, or one is outside [0, 1].
    """
    if not parts or not all(len(values) for values in parts.values()):
        raise EngramError(
            "model utility has nothing to average", hint="give at least one number for every part"
        )
    for name, values in parts.items():
        check_finite(values, name)
        if values.min() < 0 or values.max() > 1:
            raise EngramError(
                f"{name} lies between {values.min():g} and {values.max():g}, not in [0, 1]",
                hint="model utility averages probabilities and shares",
            )
    value = harmonic_mean([float(values.mean()) for values in parts.values()])
    drawn = np.array([_drawn_utility(parts, rng) for _ in range(RESAMPLES)])
    n = sum({name.split(": ")[0]: len(values) for name, values in parts.items()}.values())
    return _finding("model utility", value, drawn, n).tagged(better="higher")


def _drawn_utility(parts: Mapping[str, np.ndarray], rng: np.random.Generator) -> float:
    rows: dict[tuple[str, int], np.ndarray] = {}
    means = []
    for name, values in parts.items():
        key = (name.split(": ")[0], len(values))
        if key not in rows:
            rows[key] = rng.integers(0, len(values), len(values))
        means.append(float(values[rows[key]].mean()))
    return harmonic_mean(means)


def harmonic_mean(values: Sequence[float]) -> float:
    """The number of values over the sum of their inverses; 0 where one of them is 0."""
    if min(values) <= 0:
        return 0.0
    return len(values) / sum(1 / value for value in values)


def extraction_strength(greedy: Bool[np.ndarray, " tokens"]) -> float:
    """The share of a text that a model writes on its own, once it is told the beginning.

        ES = 1 - k / T,   k = fewest leading tokens from which on greedy decoding writes the rest

    Carlini et al. (2023); Wang et al. (2025). Greedy decoding writes the rest of a text
    exactly if it chooses each of its tokens given the true ones before it, so the hits of one
    pass over the text tell it, and nothing has to be generated.

    Args:
        greedy: Whether greedy decoding chooses each token, given the true tokens before it.
    """
    misses = np.flatnonzero(~np.asarray(greedy, bool))
    if not len(greedy):
        return 0.0
    told = int(misses[-1]) + 1 if len(misses) else 0
    return 1 - told / len(greedy)


@dataclass(frozen=True)
class Privacy:
    """Membership of forgotten records against never-seen ones, beside the retrained model.

    Attributes:
        target: The AUC for the model in question.
        retrained: The AUC for the model that was trained without the records.
        gap: |target - retrained|; 0 is perfect, both directions count.
        leak: (target - retrained) / retrained, MUSE's PrivLeak as a fraction: above 0 the model
            still knows the records, below 0 it stands out by avoiding them.
    """

    target: Finding
    retrained: Finding
    gap: Finding
    leak: Finding


def two_sided_privacy(
    target: Float[np.ndarray, " n"],
    retrained: Float[np.ndarray, " n"],
    forgotten: Bool[np.ndarray, " n"],
    rng: np.random.Generator,
) -> Privacy:
    """Compare the membership AUC of the forgotten with that of the retrained model.

    MUSE (Shi et al., 2024): PrivLeak, with the sign that a positive number leaks. Records
    are resampled together for both models, so that what they have in common drops out.

    Args:
        target: Scores of all records by the model in question; higher: more likely a member.
        retrained: Scores of the same records by the retrained model.
        forgotten: Which of the records are the forgotten ones; the others nobody ever saw.
        rng: The stream of this number.
    """
    check_lengths("scores", len(target), "scores of the retrained model", len(retrained))
    areas = [auc(values, forgotten, rng) for values in (target, retrained)]
    mine, its = (float(area.value or 0.0) for area in areas)
    inside, outside = np.flatnonzero(forgotten), np.flatnonzero(~forgotten)
    drawn = np.empty((RESAMPLES, 2))
    for row in range(RESAMPLES):
        pick = (_resampled(inside, rng), _resampled(outside, rng))
        drawn[row] = [_area(values[pick[0]], values[pick[1]]) for values in (target, retrained)]
    difference = drawn[:, 0] - drawn[:, 1]
    low, high = np.quantile(difference, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    gap = abs(mine - its)
    least = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    most = max(abs(low), abs(high), gap)
    n = len(forgotten)
    leak = (mine - its) / max(its, 1e-9)
    leaks = difference / np.maximum(drawn[:, 1], 1e-9)
    return Privacy(
        areas[0],
        areas[1],
        Finding("privacy gap", gap, min(float(least), gap), float(most), n, better="lower"),
        _finding("privacy leak", leak, leaks, n),
    )


def _area(inside: np.ndarray, outside: np.ndarray) -> float:
    """Share of pairs in which the first is higher; ties count half."""
    ordered = np.sort(outside)
    below = np.searchsorted(ordered, inside, "left") + np.searchsorted(ordered, inside, "right")
    return float(below.sum() / (2 * len(inside) * len(outside)))
