"""Forget records by training again without them: exact, and dear.

What was never seen is not known. The target carries the recipe that made it, with all its settings
and its seed; the same recipe on what is kept gives the very model that would be there if the
records had never been:

    theta_new = recipe(keep; seed)

Every other unlearner is judged by how near it comes to this.

Differs from the paper: there, only sums that the model is made of are changed, since its models
are such; here everything is trained again.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram.core import Draft, Paper, Run, Split, Target
from engram.parts.unlearning import check_forget


@dataclass(frozen=True)
class Retrain:
    """The exact reference: the target's own recipe and seed, on what is kept."""

    paper: ClassVar[Paper] = Paper(
        title="Towards Making Systems Forget with Machine Unlearning",
        authors="Cao and Yang",
        year=2015,
        url="https://doi.org/10.1109/SP.2015.35",
    )
    promise: ClassVar[str] = "exact"
    families: ClassVar[frozenset[str]] = frozenset(
        {
            "causal-lm",
            "classifier",
            "estimator",
            "graph-nodes",
            "masked-lm",
            "sharded-classifier",
            "sharded-graph",
        }
    )

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a model that was trained without `forget`.

        Raises:
            EngramError: The target does not carry the recipe that made it.
        """
        check_forget("retrain", keep, forget)
        fresh = run.fit(target, keep)
        return Draft(fresh.family, fresh.model)
