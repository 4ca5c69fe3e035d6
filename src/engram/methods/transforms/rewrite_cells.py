"""Change searched cells so that their networks give members away less, or more.

Networks that a search found differ in how well members can be told, and a part of that lies in
their cells. So measure some cells, learn from them which edges go with a high or a low membership
AUC, and bring a few of these into a cell before it is trained: to demote its risk, or to promote
it. Records are measured cells; those without an AUC are changed too, but nothing is learnt from
them.

    f(g)     = ridge regression of the AUC on the edges of genotype g
    OI(e, g) = mean over g' in N(g, e) of f(g') - f(g),   N: edge e exchanged for another
    pattern  = edges with OI < 0 in cells most at risk (promote), OI > 0 in those least (demote),
               greedily, hanging together, at most two into a node and one from node to node
    g*       = g with the first `budget` edges of the pattern

Effects are small, and are those of the cells, the data and the training that were measured: train
what comes out, and measure again. AUC goes with the gap between training and test loss; so part of
what is learnt is which cells overfit.

Differs from the paper: 1. Ridge regression stands for its graph network. 2. Operations have weights
of their own beside edges (`counts`). 3. The cells most and least at risk are shares of all, not
those beyond fixed AUCs. 4. Edges are counted in whichever slot of a node they stand; the authors'
code looks at every second slot only, because it divides by `/`. 5. No noise is added to predictions
when edges are compared. 6. An edge of the pattern whose two nodes are joined already takes the
place of what joins them, so that every genotype that comes out is valid.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from engram.core import Paper, Run, Split
from engram.parts.cells.rewrite import changes, check_plan, rewrite
from engram.parts.cells.survey import Learning, read_survey, with_columns


@dataclass(frozen=True)
class RewriteCells:
    """Demote or promote the privacy risk of cells under a budget of edits."""

    paper: ClassVar[Paper] = Paper(
        title="On the Privacy Risks of Cell-Based NAS Architectures",
        authors="Huang et al.",
        year=2022,
        url="https://arxiv.org/abs/2209.01688",
    )
    columns: ClassVar[tuple[str, ...]] = ("genotype", "auc")

    direction: Literal["demote", "promote"] = "demote"
    """demote: lower the risk; promote: raise it, to see how much lies in the cell."""
    where: Literal["normal", "reduce", "dual"] = "reduce"
    """Which cells are changed; dual: both, each by the budget."""
    budget: int = 4
    """Edges of the pattern to bring into a cell, from 0 to 8."""
    share: float = 0.11
    """Share of the measured cells in which edges are judged: those most, or least, at risk."""
    least: int = 15
    """How many of those must have an edge; with few measured cells, 2."""
    counts: bool = True
    """Whether operations have weights of their own, which helps where few cells were measured."""

    def __post_init__(self) -> None:
        Learning(self.share, self.least, self.counts)
        check_plan(self.direction, self.where, self.budget)

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the records with genotypes changed.

        Columns are added: `edits` (edges changed), and the regressor's `predicted_before` and
        `predicted_after`. The column `auc` goes: it was not measured on the new genotypes.
        """
        survey, learning = read_survey(split), Learning(self.share, self.least, self.counts)
        regressor = learning.regressor(survey)
        patterns = learning.patterns(survey, self.direction, self.where, regressor)
        after = [rewrite(each, patterns, self.budget) for each in survey.genotypes]
        pairs = zip(survey.genotypes, after, strict=True)
        added = {
            "edits": [changes(old, new) for old, new in pairs],
            "predicted_before": regressor(survey.genotypes).tolist(),
            "predicted_after": regressor(after).tolist(),
        }
        return with_columns(split, [str(each) for each in after], added)
