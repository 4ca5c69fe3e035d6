"""Ask about a node twice, with its edges and without, and learn from models like the target.

A graph network that was trained on a node knows it in the company of its neighbours. So two
questions can be put: about the node in its graph, which is how the model was trained (the paper's
2-hop query, for two layers), and about the node alone, by its own features (the 0-hop query).
Models that were trained by the target's recipe on random halves of the nodes show how answers about
trained nodes differ from answers about others; a regression learns it from both answers at once.

    x(v)  = log p(label), and the largest log p, of both answers
    score = log odds that v was trained on, by a logistic regression on the x of the shadows' nodes

A node is told with its edges in the graph that the question brings, to nodes that were held out
too, which no training saw.

Differs from the paper: 1. A logistic regression on a few numbers in place of a network on whole
posteriors. 2. Shadows are trained on the audited nodes, not on a graph of the attacker's own. 3.
For networks of more layers the wide question reaches as far as they do.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from engram.core import Access, EngramError, Paper, Run, Scores, Split, Target
from engram.parts.graph import NODE, OUTSIDE
from engram.parts.labelled import labels_of
from engram.parts.shadow_scores import check_both_sides, check_shadows

QUERIES = ("both", "0-hop", "2-hop")
LARGEST = 3
"""How many of the largest probabilities are looked at."""


@dataclass(frozen=True)
class NodeMembership:
    """Membership of a node from what is said of it with its edges and without."""

    paper: ClassVar[Paper] = Paper(
        title="Node-Level Membership Inference Attacks Against Graph Neural Networks",
        authors="He et al.",
        year=2021,
        url="https://arxiv.org/abs/2102.05429",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    access: ClassVar[Access] = "logits"
    families: ClassVar[frozenset[str]] = frozenset({"graph-nodes", "sharded-graph"})
    relative: ClassVar[bool] = True

    query: Literal["both", "0-hop", "2-hop"] = "both"
    """Which questions: about the node alone (0-hop), in its graph (2-hop), or both."""
    shadows: int = 4
    """Shadow models, an even number."""

    def __post_init__(self) -> None:
        if self.query not in QUERIES:
            raise EngramError(f"query is {self.query!r}", hint=f"it is one of {', '.join(QUERIES)}")
        check_shadows(self.shadows, 2, "half of them see a given record")

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return the log odds that each node was trained on, in nats."""
        if target.family not in self.families:
            raise EngramError(
                f"target {target.name!r} is a {target.family}, which knows no nodes",
                hint=f"node-membership works on {', '.join(sorted(self.families))}",
            )
        if not len(split):
            return Scores(split.ids, np.zeros(0), unit="nats")
        shadows = run.shadows(target, split, self.shadows)
        check_both_sides(shadows.saw, 1)
        theirs = [self.answers(shadow, split, run) for shadow in shadows.targets]
        learnt = odds_of(np.concatenate(theirs), shadows.saw.reshape(-1))
        return Scores(split.ids, learnt(self.answers(target, split, run)), unit="nats")

    def answers(self, target: Target, split: Split, run: Run) -> Float[np.ndarray, "n columns"]:
        """What the chosen questions bring about each node."""
        asked = {"2-hop": [split], "0-hop": [alone(split)], "both": [split, alone(split)]}
        labels = labels_of(split)
        return np.hstack(
            [columns_of(run.logits(target, each), labels) for each in asked[self.query]]
        )


def alone(split: Split) -> Split:
    """The same records, each asked about by its own features: in no graph."""
    place = split.records.column_names.index(NODE)
    nowhere = pa.array(np.full(len(split), OUTSIDE))
    records = split.records.set_column(place, NODE, nowhere)
    return replace(split, name=f"{split.name}-alone", records=records)


def columns_of(
    logits: Float[np.ndarray, "n classes"], labels: np.ndarray
) -> Float[np.ndarray, "n columns"]:
    """Log-probability of the label, and the largest of all, in descending order; in nats."""
    from scipy.special import log_softmax

    told = log_softmax(np.asarray(logits, np.float64), axis=1)
    largest = -np.sort(-told, axis=1)[:, :LARGEST]
    return np.column_stack([told[np.arange(len(labels)), labels], largest])


def odds_of(columns: Float[np.ndarray, "k columns"], member: Bool[np.ndarray, " k"]) -> Any:
    """A function from columns to log odds of membership, learnt from nodes of known membership."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    learnt = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    learnt.fit(columns, member)
    return learnt.decision_function
