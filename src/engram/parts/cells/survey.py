"""Measured cells as records: a genotype and its membership AUC a line."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from engram.core import EngramError, Split, nearest
from engram.parts.cells.genotype import Edge, Genotype, Kind, genotype_of
from engram.parts.cells.rewrite import DIRECTIONS, Direction, cells_of, pattern
from engram.parts.cells.risk import (
    Importance,
    Regressor,
    check_survey,
    edge_importances,
    extreme,
    fit,
)

TEXT = ("genotype", "text")
"""Where a genotype may stand."""
RISK = "auc"


@dataclass(frozen=True, eq=False)
class Survey:
    """Cells, and the AUC of those that were measured.

    Attributes:
        genotypes: One a record.
        risk: The membership AUC of each; NaN where none was measured.
    """

    genotypes: tuple[Genotype, ...]
    risk: Float[np.ndarray, " n"]

    @property
    def measured(self) -> Bool[np.ndarray, " n"]:
        """Which have an AUC."""
        return ~np.isnan(self.risk)

    def known(self) -> "Survey":
        """The measured cells alone.

        Raises:
            EngramError: They are too few, or an AUC is none.
        """
        rows = np.flatnonzero(self.measured)
        found = Survey(tuple(self.genotypes[i] for i in rows), self.risk[rows])
        check_survey(found.genotypes, found.risk)
        return found


@dataclass(frozen=True)
class Learning:
    """How patterns are learnt from measured cells; see `parts.cells.risk`.

    Attributes:
        share: Of the cells, those with the highest AUC, or the lowest, in which edges are judged.
        least: How many of those must have an edge.
        counts: Whether operations have weights of their own, beside edges.
    """

    share: float = 0.11
    least: int = 15
    counts: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.share <= 0.5:
            raise EngramError(
                f"share is {self.share}, but must be in (0, 0.5]",
                hint="0.11 as in the paper; a third where few cells were measured",
            )
        if self.least < 1:
            raise EngramError(
                f"least is {self.least}", hint="15 as in the paper; 2 where few were measured"
            )

    def regressor(self, survey: Survey) -> Regressor:
        """From genotype to AUC."""
        known = survey.known()
        return fit(known.genotypes, known.risk, self.counts)

    def importances(
        self, survey: Survey, direction: Direction, regressor: Regressor
    ) -> tuple[Importance, ...]:
        """Of each edge: in the cells most at risk to promote, in those least at risk to demote."""
        if direction not in DIRECTIONS:
            raise EngramError(f"direction is {direction!r}", hint="it is demote or promote")
        known = survey.known()
        rows = extreme(known.risk, self.share, highest=direction == "promote")
        return edge_importances([known.genotypes[i] for i in rows], regressor, self.least)

    def patterns(
        self, survey: Survey, direction: Direction, where: str, regressor: Regressor | None = None
    ) -> dict[Kind, tuple[Edge, ...]]:
        """The pattern of each cell that is to be changed."""
        found = self.importances(survey, direction, regressor or self.regressor(survey))
        return {kind: pattern(found, kind, direction) for kind in cells_of(where)}


def read_survey(split: Split) -> Survey:
    """The cells of a table: a column `genotype` (or `text`), and `auc` where it was measured.

    Raises:
        EngramError: A column is missing, a genotype is not valid, or an AUC is no number.
    """
    name = next((name for name in TEXT if name in split.columns), None)
    if name is None or RISK not in split.columns:
        missing = RISK if name else TEXT[0]
        raise EngramError(
            f"split {split.name!r} has no column {missing!r}; it has {', '.join(split.columns)}",
            hint=nearest(missing, split.columns, "give a genotype and its membership AUC a line"),
        )
    genotypes = []
    for record, text in zip(split.ids, split.column(name).to_pylist(), strict=True):
        try:
            genotypes.append(genotype_of(text or ""))
        except EngramError as problem:
            raise EngramError(f"record {record!r}: {problem}", hint=problem.hint) from None
    return Survey(tuple(genotypes), _numbers(split))


def _numbers(split: Split) -> Float[np.ndarray, " n"]:
    """The AUCs; a file without types holds them as text."""
    found = []
    for record, value in zip(split.ids, split.column(RISK).to_pylist(), strict=True):
        try:
            found.append(np.nan if value is None or value == "" else float(value))
        except (TypeError, ValueError):
            raise EngramError(
                f"the AUC of record {record!r} is {value!r}",
                hint="it is a number in [0, 1], or empty where the cell was not measured",
            ) from None
    return np.array(found, np.float64)


def with_columns(split: Split, texts: list[str], columns: dict[str, list[object]]) -> Split:
    """The same records with other genotypes and more columns, and without their AUC."""
    name = next(name for name in TEXT if name in split.columns)
    table = split.records.drop_columns([c for c in (RISK, *columns) if c in split.columns])
    table = table.set_column(table.column_names.index(name), name, pa.array(texts, pa.string()))
    for column, values in columns.items():
        table = table.append_column(column, pa.array(values))
    return Split(split.name, table, split.ids, split.owners, split.canaries, split.shared)
