"""Regressions that tell a middle and a spread for each row: small, seeded, of few assumptions."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

Rows = Float[np.ndarray, "rows columns"]
Spread = tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]
Told = Callable[[Rows], Spread]
"""What a regression says of new rows: their middle and their spread."""

FOLDS = 5
SHRINKAGE = (0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)
"""Strengths of ridge regression to choose from."""
SIDES = (0.158655, 0.5, 0.841345)
"""Quantiles one standard deviation below and above the middle of a normal distribution."""
FLOOR = 0.05
"""Least spread, as a share of that of all values."""
LARGEST = 2.0
"""Most that the logarithm of a spread may be away from its mean."""


def gaussian(
    features: Float[np.ndarray, "n columns"],
    values: Float[np.ndarray, " n"],
    rng: np.random.Generator,
) -> Told:
    """Mean by ridge regression, spread by another one on the logarithm of its errors.

    Errors are taken on rows that were left out of the fit, since within it they are too small.
    The spread is scaled so that the squares of those errors, in units of it, average 1.
    """
    scale = _scaler(features)
    rows = scale(features)
    fold = rng.permutation(len(rows)) % FOLDS
    error = values - _left_out(rows, values, fold)
    floor = max(FLOOR * float(values.std()), np.finfo(float).tiny ** 0.25)
    size = np.log(np.maximum(np.abs(error), floor))
    guessed = _bounded(_left_out(rows, size, fold), float(size.mean()))
    factor = np.sqrt(np.mean((error / np.exp(guessed)) ** 2))
    middle, spread = _ridge(rows, values), _ridge(rows, size)

    def tell(new: Rows) -> Spread:
        if not len(new):
            return np.zeros(0), np.zeros(0)
        scaled = scale(new)
        width = factor * np.exp(_bounded(spread.predict(scaled), float(size.mean())))
        return middle.predict(scaled), np.maximum(width, floor)

    return tell


def quantiles(
    features: Float[np.ndarray, "n columns"],
    values: Float[np.ndarray, " n"],
    rng: np.random.Generator,
) -> Told:
    """Three quantiles by boosted trees under the pinball loss: the middle, and half the width."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    seed = int(rng.integers(2**31))
    trees = [
        HistGradientBoostingRegressor(
            loss="quantile",
            quantile=side,
            max_iter=60,
            max_leaf_nodes=8,
            min_samples_leaf=max(10, len(values) // 50),
            early_stopping=False,
            random_state=seed,
        ).fit(features, values)
        for side in SIDES
    ]
    floor = max(FLOOR * float(values.std()), np.finfo(float).tiny ** 0.25)

    def tell(new: Rows) -> Spread:
        if not len(new):
            return np.zeros(0), np.zeros(0)
        low, middle, high = (each.predict(new) for each in trees)
        return middle, np.maximum((high - low) / 2, floor)

    return tell


def _scaler(features: Float[np.ndarray, "n columns"]) -> Callable[[Rows], Rows]:
    """Columns of mean 0 and deviation 1; new values are kept within what was seen."""
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    low, high = features.min(axis=0), features.max(axis=0)
    return lambda rows: (np.clip(rows, low, high) - mean) / spread


def _ridge(rows: Float[np.ndarray, "n columns"], values: Float[np.ndarray, " n"]) -> Any:
    from sklearn.linear_model import RidgeCV

    return RidgeCV(SHRINKAGE).fit(rows, values)


def _left_out(
    rows: Float[np.ndarray, "n columns"],
    values: Float[np.ndarray, " n"],
    fold: np.ndarray,
) -> Float[np.ndarray, " n"]:
    """The prediction of each row by a regression that did not see it."""
    found = np.zeros(len(values))
    for held in range(FOLDS):
        test = fold == held
        found[test] = _ridge(rows[~test], values[~test]).predict(rows[test])
    return found


def _bounded(logarithms: Float[np.ndarray, " n"], mean: float) -> Float[np.ndarray, " n"]:
    return np.clip(logarithms, mean - LARGEST, mean + LARGEST)
