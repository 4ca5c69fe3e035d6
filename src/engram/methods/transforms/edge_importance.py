"""Say of each edge of measured cells whether it raises or lowers the risk to members.

Of many searched networks the membership AUC was measured. Which part of a cell is it that makes
members easy to tell? Learn to predict the AUC from the cell; then exchange an edge for each of its
alternatives, and see how the prediction changes. Records are measured cells; what comes out is a
table with an edge a line.

    f(g)     = ridge regression of the AUC on the edges of genotype g
    OI(e, g) = mean over g' in N(g, e) of f(g') - f(g)
    N(g, e)  = g with another of the six operations on e, or with e from another earlier node

averaged over the cells most at risk that have the edge: there, a negative importance raises the
risk (`set` is "most at risk"); and over those least at risk, where a positive one lowers it.

Differs from the paper: as `rewrite-cells` does, which brings these edges into cells: ridge
regression, shares of all cells, edges counted in every slot, no noise.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram.core import Paper, Run, Split
from engram.parts.cells.rewrite import DIRECTIONS
from engram.parts.cells.survey import Learning, read_survey

SETS = {"promote": "most at risk", "demote": "least at risk"}


@dataclass(frozen=True)
class EdgeImportance:
    """Importance of each edge for the membership AUC of measured cells."""

    paper: ClassVar[Paper] = Paper(
        title="On the Privacy Risks of Cell-Based NAS Architectures",
        authors="Huang et al.",
        year=2022,
        url="https://arxiv.org/abs/2209.01688",
    )
    columns: ClassVar[tuple[str, ...]] = ("genotype", "auc")

    share: float = 0.11
    """Share of the measured cells in which edges are judged: those most, or least, at risk."""
    least: int = 15
    """How many of those must have an edge; with few measured cells, 2."""
    counts: bool = True
    """Whether operations have weights of their own, which helps where few cells were measured."""

    def __post_init__(self) -> None:
        Learning(self.share, self.least, self.counts)

    def __call__(self, split: Split, run: Run) -> Split:
        """Return an edge a record.

        Columns: `text` (the edge in words), `set`, `cell`, `source`, `node`, `operation`,
        `importance` (in AUC), `frequency` (cells of the set that have it), `pattern` (its place in
        the pattern that `rewrite-cells` uses; 0: it is in none).
        """
        survey, learning = read_survey(split), Learning(self.share, self.least, self.counts)
        regressor, rows = learning.regressor(survey), []
        for direction in DIRECTIONS:
            patterns = learning.patterns(survey, direction, "dual", regressor)
            for found in learning.importances(survey, direction, regressor):
                chosen = patterns[found.edge.cell]
                place = chosen.index(found.edge) + 1 if found.edge in chosen else 0
                rows.append((found, SETS[direction], place))
        edges = [found.edge for found, _, _ in rows]
        return Split.of(
            "edges",
            text=[f"{edge} ({named})" for edge, (_, named, _) in zip(edges, rows, strict=True)],
            set=[named for _, named, _ in rows],
            cell=[edge.cell for edge in edges],
            source=[edge.source for edge in edges],
            node=[edge.node for edge in edges],
            operation=[edge.operation for edge in edges],
            importance=[found.value for found, _, _ in rows],
            frequency=[found.frequency for found, _, _ in rows],
            pattern=[place for _, _, place in rows],
        )
