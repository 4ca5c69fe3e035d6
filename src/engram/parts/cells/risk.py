"""What in a cell goes with a high membership AUC: a regressor, and what each edge does in it.

From measured cells, ridge regression learns how the AUC depends on the edges. An edge matters as
much as the predicted AUC changes when it is exchanged for another, over all genotypes that differ
in this edge alone.

    f(g) = b + sum over edges e of g of w_e  (+ w_o for the operation of each)
    OI(e, g) = mean over g' in N(g, e) of f(g') - f(g)

So an edge with a negative importance raises the risk: without it, the risk is lower.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from engram.core import EngramError
from engram.parts.cells.genotype import KINDS, OPERATIONS, Edge, Genotype, every_edge

PENALTIES = np.logspace(-2, 4, 20)
FOLDS = 5
FEWEST = 10
"""Measured cells below which nothing is learnt from them."""


@cache
def _places() -> dict[Edge, int]:
    return {edge: place for place, edge in enumerate(every_edge())}


@cache
def _belongs() -> Float[np.ndarray, "edges operations"]:
    """Which operation of which cell an edge is."""
    found = np.zeros((len(every_edge()), len(KINDS) * len(OPERATIONS)))
    for place, edge in enumerate(every_edge()):
        column = KINDS.index(edge.cell) * len(OPERATIONS) + OPERATIONS.index(edge.operation)
        found[place, column] = 1.0
    return found


def one_hots(genotypes: Sequence[Genotype]) -> Float[np.ndarray, "n edges"]:
    """Which of the 196 edges each genotype has, in the order of `every_edge`."""
    found = np.zeros((len(genotypes), len(_places())))
    for row, genotype in enumerate(genotypes):
        found[row, [_places()[edge] for edge in genotype.edges]] = 1.0
    return found


def operation_counts(genotypes: Sequence[Genotype]) -> Float[np.ndarray, "n operations"]:
    """How often each genotype has each operation in its normal, then in its reduction cell."""
    return one_hots(genotypes) @ _belongs()


def features(genotypes: Sequence[Genotype], counts: bool) -> Float[np.ndarray, "n features"]:
    """Edges, and with `counts` how often each operation stands in each cell beside them.

    With counts, edges of one operation share a part of their weight: few cells then say something
    of edges too that hardly any of them has.
    """
    edges = one_hots(genotypes)
    return np.hstack([edges, operation_counts(genotypes)]) if counts else edges


@dataclass(frozen=True, eq=False)
class Regressor:
    """Ridge regression from a genotype to its membership AUC.

    Attributes:
        weights: Of each feature.
        constant: What is added.
        penalty: Of the squared weights; chosen by leaving one cell out.
        counts: Whether features hold operation counts.
    """

    weights: Float[np.ndarray, " features"]
    constant: float
    penalty: float
    counts: bool

    def __call__(self, genotypes: Sequence[Genotype]) -> Float[np.ndarray, " n"]:
        """The predicted AUC of each."""
        return features(genotypes, self.counts) @ self.weights + self.constant

    def edge_weights(self) -> Float[np.ndarray, " edges"]:
        """What each edge adds to the AUC, in the order of `every_edge`."""
        edges = len(every_edge())
        if not self.counts:
            return self.weights
        return self.weights[:edges] + _belongs() @ self.weights[edges:]


def fit(
    genotypes: Sequence[Genotype], risk: Float[np.ndarray, " n"], counts: bool = True
) -> Regressor:
    """Learn from measured cells.

    Args:
        genotypes: At least `FEWEST`.
        risk: The membership AUC of each, in [0, 1].
        counts: Whether operations have weights of their own, beside edges.

    Raises:
        EngramError: Too few cells, another number of AUCs, or an AUC that is none.
    """
    check_survey(genotypes, risk)
    return _ridge(genotypes, risk, counts)


def cross_validated(
    genotypes: Sequence[Genotype],
    risk: Float[np.ndarray, " n"],
    rng: np.random.Generator,
    counts: bool = True,
) -> Float[np.ndarray, " n"]:
    """What a regressor that did not see a cell, nor others with the same edges, says of it.

    Args:
        genotypes: Measured cells.
        risk: The AUC of each.
        rng: Deals them to `FOLDS` folds.
        counts: As in `fit`.
    """
    check_survey(genotypes, risk)
    groups: dict[frozenset[Edge], int] = {}
    group = np.array([groups.setdefault(g.edges, len(groups)) for g in genotypes])
    fold = rng.permutation(len(groups))[group] % FOLDS
    found = np.full(len(genotypes), float(np.mean(risk)))
    for number in np.unique(fold):
        seen, asked = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if len(seen) >= 2:
            known = _ridge([genotypes[i] for i in seen], risk[seen], counts)
            found[asked] = known([genotypes[i] for i in asked])
    return found


def _ridge(genotypes: Sequence[Genotype], risk: Float[np.ndarray, " n"], counts: bool) -> Regressor:
    from sklearn.linear_model import RidgeCV

    found = RidgeCV(PENALTIES).fit(features(genotypes, counts), risk)
    return Regressor(found.coef_, float(found.intercept_), float(found.alpha_), counts)


@dataclass(frozen=True)
class Importance:
    """What one edge does: the mean of OI(e, g) over the genotypes that have it, and how many."""

    edge: Edge
    value: float
    frequency: int


def edge_importances(
    genotypes: Sequence[Genotype], regressor: Regressor, least: int = 1
) -> tuple[Importance, ...]:
    """The importance of every edge that at least `least` of these genotypes have.

    The regressor is linear, so that a prediction changes by what the new edge weighs more than the
    old one. Edges are counted by what they are, in whatever slot of their node they stand.

    Args:
        genotypes: The cells at risk, or those that are not.
        regressor: What predicts their AUC.
        least: How many genotypes must have an edge.

    Returns:
        In the order of `every_edge`.
    """
    values: dict[Edge, list[float]] = {}
    weights = regressor.edge_weights()
    for genotype in genotypes:
        for kind in KINDS:
            slots = genotype.slots(kind)
            for slot, edge in enumerate(slots):
                others = _exchanged(edge, slots[slot ^ 1].source)
                change = weights[list(others)].mean() - weights[_places()[edge]]
                values.setdefault(edge, []).append(float(change))
    return tuple(
        Importance(edge, float(np.mean(values[edge])), len(values[edge]))
        for edge in every_edge()
        if len(values.get(edge, ())) >= least
    )


@cache
def _exchanged(edge: Edge, sibling: int) -> tuple[int, ...]:
    """The places of the edges that may stand for this one beside one from `sibling`."""
    found = [replace(edge, operation=name) for name in OPERATIONS if name != edge.operation]
    sources = set(range(edge.node)) - {edge.source, sibling}
    found += [replace(edge, source=source) for source in sorted(sources)]
    return tuple(_places()[each] for each in found)


def extreme(
    risk: Float[np.ndarray, " n"], share: float, highest: bool
) -> Int[np.ndarray, " chosen"]:
    """The cells with the highest (or lowest) AUC: this share of all, and at least one."""
    if not 0 < share <= 1:
        raise EngramError(f"share is {share}, but must be in (0, 1]", hint="0.11 is the paper's")
    order = np.argsort(-risk if highest else risk, kind="stable")
    return np.sort(order[: max(1, round(share * len(risk)))])


def check_survey(genotypes: Sequence[Genotype], risk: Float[np.ndarray, " n"]) -> None:
    """Refuse measured cells that nothing can be learnt from."""
    if len(genotypes) != len(risk):
        raise EngramError(
            f"there are {len(genotypes)} genotypes, but {len(risk)} AUCs",
            hint="give each genotype the AUC that was measured on it",
        )
    if len(genotypes) < FEWEST:
        raise EngramError(
            f"{len(genotypes)} measured cells are too few to learn from",
            hint=f"measure at least {FEWEST}; the paper has 2,678",
        )
    wrong = ~(np.isfinite(risk) & (risk >= 0) & (risk <= 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise EngramError(
            f"the AUC of cell {row + 1} is {risk[row]}, but must be in [0, 1]",
            hint="an AUC in per cent is divided by 100",
        )
