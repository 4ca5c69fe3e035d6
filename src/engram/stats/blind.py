"""Telling members from outsiders without asking the model.

If a bag of words can do it, so can any attack that merely reacts to words, and its success says
nothing about memory (Duan et al., "Do membership inference attacks work on large language
models?", 2024; Das et al., "Blind baselines beat membership inference attacks for foundation
models", 2024). Each baseline is judged by cross-validation on records that it was not fitted on.
"""

import math
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from engram.core.finding import Finding
from engram.stats.intervals import clopper_pearson
from engram.stats.roc import auc_value, resampled_aucs
from engram.stats.tokens import MAX_CHARACTERS, Units, ngrams

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FOLDS = 5
RESAMPLES = 200
MAX_TERMS = 30_000
"""Words and pairs kept for the bag: those that occur in most records."""
MAX_COMPONENTS = 200
"""Directions kept of wide features: what a linear baseline can use of a few thousand records."""

# The whole part, with commas as grouping; a long row of digits counts as its head.
_NUMBER = re.compile(r"\b(\d{1,3}(?:,\d{3})+|\d{1,15})(?:\.\d+)?")
_DIGITS = re.compile(r"\d+")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_DATE = re.compile(
    r"\b\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}\b"
    r"|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?\s+\d{1,4}\b"
    r"|\b\d{1,2}(?:st|nd|rd|th)?\s+(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\b",
    re.IGNORECASE,
)

Fit = Callable[[Any, Bool[np.ndarray, " train"]], Callable[[Any], Float[np.ndarray, " test"]]]
"""Fits on features and labels; returns what scores other features, higher for members."""


@dataclass(frozen=True)
class Blinds:
    """Folds and clusters that every blind baseline of one audit shares."""

    is_member: Bool[np.ndarray, " n"]
    cluster: Int[np.ndarray, " n"]
    """Records that belong together: of one owner, or identical."""
    fold: Int[np.ndarray, " n"]
    looks: int
    """How many baselines there are: the intervals hold for all of them together."""

    def auc(self, name: str, features: Any, fit: Fit, rng: np.random.Generator) -> Finding:
        """The out-of-fold AUC of one baseline.

        Scores are compared within a fold only: models of different folds have different
        offsets. The interval is wider than a bootstrap of the held-out scores would give, for
        two reasons. The folds' models share most of their records, so the variance is taken
        times 1 + k / (k - 1) for k folds (Nadeau and Bengio, "Inference for the generalization
        error", 2003). And there are several baselines, so each interval is of the level that
        makes all of them cover together in 95 % of audits (Bonferroni).
        """
        if features.shape[1] == 0:
            nothing = Finding.exact(name, 0.5, len(self.is_member))
            return nothing.tagged(note="no two records differ in it, so it tells nothing")
        areas, spreads, weights = [], [], []
        for held in range(int(self.fold.max()) + 1):
            test = self.fold == held
            if not (_both(self.is_member[test]) and _both(self.is_member[~test])):
                continue
            score = fit(features[~test], self.is_member[~test])
            values, labels = score(features[test]), self.is_member[test]
            areas.append(auc_value(values, labels))
            drawn = resampled_aucs(values, labels, self.cluster[test], rng, RESAMPLES)
            spreads.append(float(drawn.std()))
            weights.append(float(labels.sum() * (~labels).sum()))
        if len(areas) < 2:
            return Finding.missing(name, "too few independent records to cross-validate")
        share = np.array(weights) / sum(weights)
        value = float(share @ areas)
        spread = float(np.sqrt((share**2) @ np.square(spreads) * _overlap(len(areas))))
        low, high = self._interval(value, spread)
        return Finding(name, value, low, high, len(self.is_member), better="lower")

    def _interval(self, value: float, spread: float) -> tuple[float, float]:
        from scipy.special import ndtri

        level = 1 - 0.05 / self.looks
        if value in (0.0, 1.0):
            # Wholly separated: the bootstrap sees no spread, so count independent pairs instead.
            sides = (self.cluster[self.is_member], self.cluster[~self.is_member])
            pairs = min(len(np.unique(side)) for side in sides)
            return clopper_pearson(round(value * pairs), pairs, level)
        reach = float(ndtri((1 + level) / 2)) * spread
        return max(0.0, value - reach), min(1.0, value + reach)


def _overlap(folds: int) -> float:
    return 1 + folds / (folds - 1)


def _both(is_member: Bool[np.ndarray, " n"]) -> bool:
    return bool(is_member.any() and not is_member.all())


def clusters(owner: Int[np.ndarray, " n"], keys: Sequence[Hashable]) -> Int[np.ndarray, " n"]:
    """Join records of one owner and identical records, directly or through others.

    Args:
        owner: the number of each record's owner.
        keys: equal for identical records.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    seen: dict[Hashable, int] = {}
    content = np.array([seen.setdefault(key, len(seen)) for key in keys])
    n, owners = len(keys), int(owner.max()) + 1
    rows = np.concatenate([np.arange(n), np.arange(n)])
    columns = np.concatenate([n + owner, n + owners + content])
    size = n + owners + len(seen)
    edges = coo_array((np.ones(2 * n, dtype=np.int8), (rows, columns)), shape=(size, size))
    return connected_components(edges, directed=False)[1][:n].astype(np.int64)


def assign_folds(
    cluster: Int[np.ndarray, " n"],
    is_member: Bool[np.ndarray, " n"],
    rng: np.random.Generator,
    folds: int = FOLDS,
) -> Int[np.ndarray, " n"]:
    """Give whole clusters to folds, the largest first, each to where its kind is scarcest."""
    index = np.unique(cluster, return_inverse=True)[1]
    members = np.bincount(index, weights=is_member) / is_member.sum()
    outsiders = np.bincount(index, weights=~is_member) / (~is_member).sum()
    order = rng.permutation(len(members))
    order = order[np.argsort(-np.bincount(index)[order], kind="stable")]
    load = [(0.0, 0.0)] * folds
    fold = np.zeros(len(members), dtype=np.int64)
    for each in order.tolist():
        more, less = float(members[each]), float(outsiders[each])
        best = min(range(folds), key=lambda f: load[f][0] * more + load[f][1] * less)
        load[best] = (load[best][0] + more, load[best][1] + less)
        fold[each] = best
    return fold[index]


def fit_logistic(
    features: Any,
    is_member: Bool[np.ndarray, " train"],
) -> Callable[[Any], Float[np.ndarray, " test"]]:
    """Logistic regression with balanced classes; dense or sparse features.

    The solver is a trust-region Newton method: it needs few steps whatever the scale of the
    columns, and time in the words that occur rather than in the whole vocabulary.
    """
    from sklearn.linear_model import LogisticRegression

    # The tolerance is relative to the first gradient, and is the solver's own default.
    model = LogisticRegression(solver="liblinear", class_weight="balanced", tol=1e-2, max_iter=1000)
    return model.fit(features, is_member).decision_function


def fit_trees(
    features: Float[np.ndarray, "train d"], is_member: Bool[np.ndarray, " train"]
) -> Callable[[Float[np.ndarray, "test d"]], Float[np.ndarray, " test"]]:
    """Extremely randomised trees: they see what no straight line separates."""
    from sklearn.ensemble import ExtraTreesClassifier

    model = ExtraTreesClassifier(
        n_estimators=60, min_samples_leaf=5, class_weight="balanced", random_state=0
    ).fit(features, is_member)
    return lambda rows: model.predict_proba(rows)[:, 1]


def bag_of_words(units: Units) -> "csr_array":
    """TF-IDF of words and pairs of words, without looking at any label."""
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import TfidfTransformer

    parts = [ngrams(units, length) for length in (1, 2)]
    row = np.concatenate([part[0] for part in parts])
    distinct, column = np.unique(np.concatenate([part[1] for part in parts]), return_inverse=True)
    shape = (len(units.sizes), len(distinct))
    # Cells that occur again are added up, so the ones become counts.
    counts = csr_array((np.ones(len(row)), (row, column)), shape=shape)
    frequency = np.bincount(counts.indices, minlength=len(distinct))
    # A term of one record alone cannot carry over from one fold to another.
    common = np.argsort(-frequency, kind="stable")[:MAX_TERMS]
    common = common[frequency[common] >= 2]
    if not len(common):
        return csr_array((len(units.sizes), 0))
    weighted = csr_array(TfidfTransformer(sublinear_tf=True).fit_transform(counts[:, common]))
    # The solver reads 32-bit indices only; MAX_TERMS and the records looked at keep far below.
    index, starts = (each.astype(np.int32) for each in (weighted.indices, weighted.indptr))
    return csr_array((weighted.data, index, starts), shape=weighted.shape)


def length_features(texts: Sequence[str], units: Units) -> Float[np.ndarray, "n 3"]:
    """Logarithms of characters and of words (of what is read), and characters a word."""
    size = np.array([len(text) for text in texts], dtype=np.float64)
    read = np.minimum(size, MAX_CHARACTERS)
    count = units.sizes.astype(np.float64)
    return np.column_stack([np.log1p(size), np.log1p(count), read / np.maximum(count, 1)])


def number_features(texts: Sequence[str]) -> Float[np.ndarray, "n 8"]:
    """Digits, numbers, dates and years: what gives away that one side is later than the other."""
    return np.array([_numbers(text[:MAX_CHARACTERS]) for text in texts], dtype=np.float64)


def _numbers(text: str) -> list[float]:
    numbers = [float(found.replace(",", "")) for found in _NUMBER.findall(text)]
    years = [float(found) for found in _YEAR.findall(text)] or [math.nan]
    digits = sum(map(len, _DIGITS.findall(text)))
    return [
        math.log1p(digits),
        digits / max(len(text), 1),
        math.log1p(len(numbers)),
        math.log1p(sum(numbers) / len(numbers)) if numbers else math.nan,
        math.log1p(len(_DATE.findall(text))),
        sum(years) / len(years),
        min(years),
        max(years),
    ]


def binned(features: Float[np.ndarray, "n d"], bins: int = 10) -> Float[np.ndarray, "n k"]:
    """Standardised columns and one 0/1 column for each quantile bin of each of them.

    So a linear model sees a dependence of any shape. NaN means *there is none of it* and gets a
    column of its own. Columns without variety are left out.
    """
    parts = []
    for column in features.T:
        known = ~np.isnan(column)
        if not known.all():
            parts.append(known.astype(np.float64)[:, None])
        if not known.any():
            continue
        filled = np.where(known, column, np.mean(column[known]))
        edges = np.unique(np.quantile(column[known], np.linspace(0, 1, bins + 1)[1:-1]))
        place = np.searchsorted(edges, filled, side="right")
        parts += [standardised(filled[:, None]), np.eye(len(edges) + 1)[place]]
    joined = np.concatenate(parts, axis=1) if parts else np.zeros((len(features), 0))
    return joined[:, np.ptp(joined, axis=0) > 0]


def standardised(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Columns of mean 0 and deviation 1; a column that never changes becomes 0."""
    spread = features.std(axis=0)
    return (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def compressed(
    features: Float[np.ndarray, "n d"], rng: np.random.Generator
) -> Float[np.ndarray, "n k"]:
    """Standardised features, wide ones on their first principal directions."""
    scaled = standardised(features)
    if scaled.shape[1] <= MAX_COMPONENTS or len(scaled) <= MAX_COMPONENTS:
        return scaled
    from sklearn.decomposition import PCA

    seed = int(rng.integers(2**31))
    solver = PCA(MAX_COMPONENTS, svd_solver="randomized", random_state=seed)
    return standardised(solver.fit_transform(scaled))
