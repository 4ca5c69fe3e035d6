"""Forget records exactly by training again what saw them alone: shards, from their slices on.

A sharded model was made for this. A record lies in one shard and one slice; whatever stands before
that slice never saw it and stays. From the state kept there, the shard learns its slice and those
that follow again, without the record, with the streams that it had:

    w'_k,j = w_k,j                                              before the first slice that changes
    w'_k,j = train(w'_k,j-1; (D_k,1 u ... u D_k,j) - forget)      from there on

The result is, bit for bit, the model that the same recipe and seed give where the records never
were, relative to where the others were placed and to the number of classes (see `sisa`). Several
records are forgotten in one go: each shard is trained again at most once. A shard whose last
record leaves is empty and has no say any more; a class whose last record leaves stays among the
answers, without anybody who was taught it.

Differs from the paper: nowhere that we know.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from engram.core import Draft, Paper, Run, Split, Target
from engram.families.classifier import ClassifierModel
from engram.parts.own_settings import made_by
from engram.parts.shard_requests import check_kept
from engram.parts.sharded_models import ShardedModel
from engram.parts.sharding import Placement
from engram.parts.sisa_training import Shard, SisaTraining, joined
from engram.parts.unlearning import check_forget


@dataclass(frozen=True)
class RetrainShards:
    """Exact deletion from a model in shards."""

    paper: ClassVar[Paper] = Paper(
        title="Machine Unlearning",
        authors="Bourtoule et al.",
        year=2021,
        url="https://arxiv.org/abs/1912.03817",
    )
    promise: ClassVar[str] = "exact"
    families: ClassVar[frozenset[str]] = frozenset({"sharded-classifier"})

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return the model that would be there if `forget` had never been.

        Raises:
            EngramError: There is nothing to forget, a record was never placed in a shard or lies
                in none of the kept ones, or the target does not carry the recipe that made it.
        """
        forget = check_forget("retrain-shards", keep, forget)
        model: ShardedModel = target.model
        training, seed = made_by(target, SisaTraining, "sisa")
        rest = model.placement.without(forget.ids)
        check_kept(rest, keep, target.name)
        classes = model.shards[model.alive[0]].layout.classes
        shards, states, traces = list(model.shards), list(model.checkpoints), []
        for k, first in first_changed(model.placement, model.placement.rows(forget.ids)).items():
            before = Shard([c and c.model for c in (*states[k], shards[k])])
            found = training.train_shard(
                k, keep, rest, classes, run, seed=seed, before=before, first=first
            )
            made = [s and ClassifierModel(s) for s in found.states]
            shards[k], states[k] = made[-1], tuple(made[:-1])
            traces.append(found.trace)
        changed = replace(model, shards=tuple(shards), checkpoints=tuple(states), placement=rest)
        return Draft(target.family, changed, joined(traces), promised(len(forget), len(traces)))


def first_changed(placement: Placement, rows: np.ndarray) -> dict[int, int]:
    """By shard that holds one of these records, the first slice that does; in order of shards."""
    found: dict[int, int] = {}
    for k, j in zip(placement.shard[rows].tolist(), placement.slice[rows].tolist(), strict=True):
        found[k] = min(j, found.get(k, j))
    return dict(sorted(found.items()))


def promised(records: int, shards: int) -> dict[str, Any]:
    """What may be said of the weights."""
    return {
        "kind": "exact",
        "value": 0.0,
        "sentence": f"exact: the {shards} shards that saw the {records} records were trained "
        "again without them, from before their slices",
    }
