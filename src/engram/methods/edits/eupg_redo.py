"""Forget records by fine-tuning again without them, from a model that saw them protected alone.

A target that `eupg` or `eupg-boosting` made holds two models: one that answers, and the one that it
was fine-tuned from, which saw all records in a protected form. Here the first is thrown away, and
the brief fine-tuning is done again on what is kept:

    M_F = train(M'; kept records, e epochs)          from the same M', with the recipe's seed

M' stays as it is, bit by bit. Requests add up: what was forgotten before is not among the kept. If
M' is given, the result is exactly that of a fine-tuning that never had the records; but M' is not,
for it saw their protected form. So this is no exact forgetting: what is left of a forgotten record
is what the protection lets through, within its guarantee.

Differs from the paper: nowhere that we know.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from engram.core import Draft, EngramError, Paper, Run, Split, Target
from engram.core.pseudonyms import pseudonym
from engram.families.classifier import ClassifierModel
from engram.families.estimator import EstimatorModel
from engram.families.protected_estimator import FAMILY as TREES
from engram.parts.own_settings import made_by
from engram.parts.protected_models import ProtectedModel
from engram.parts.protected_training import ProtectedBoosting, ProtectedTraining
from engram.parts.unlearning import check_forget


@dataclass(frozen=True)
class EupgRedo:
    """Fine-tuning done again from the stored protected model."""

    paper: ClassVar[Paper] = Paper(
        title="Efficient Unlearning with Privacy Guarantees",
        authors="Domingo-Ferrer, Jebreel and Sánchez",
        year=2025,
        url="https://arxiv.org/abs/2507.04771",
    )
    promise: ClassVar[str] = "protection"
    families: ClassVar[frozenset[str]] = frozenset({"protected-classifier", "protected-estimator"})

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return the protected model as it was, and what is tuned from it on `keep`.

        Raises:
            EngramError: There is nothing to forget, a record to keep was forgotten before, or the
                target does not carry the recipe that made it.
        """
        forget = check_forget("eupg-redo", keep, forget)
        check_not_forgotten(target, keep)
        model: ProtectedModel = target.model
        if target.family == TREES.name:
            trees, seed = made_by(target, ProtectedBoosting, "eupg-boosting")
            run.progress(0, 1, "growing trees")
            arrays = trees.tune(model.protected.arrays, keep, seed)
            before: EstimatorModel = model.deployed
            deployed: Any = replace(before, arrays=arrays)
            trace: tuple[Any, ...] = ({"step": 0, "loss": float(TREES.losses(
                replace(model, deployed=deployed), keep).mean())},)  # fmt: skip
            run.progress(1, 1, "growing trees")
        else:
            training, seed = made_by(target, ProtectedTraining, "eupg")
            network, found = training.tune(model.protected.model, keep, run, seed)
            deployed, trace = ClassifierModel(network), tuple(found)
        changed = replace(model, deployed=deployed)
        return Draft(target.family, changed, trace, promised(model.promise, len(forget)))


def check_not_forgotten(target: Target, keep: Split) -> None:
    """Refuse to learn again what an earlier request took out."""
    if target.known is None:
        return
    gone = set(target.known.having("forgotten"))
    if again := [i for i in keep.ids if i in gone or pseudonym(i, "id") in gone]:
        raise EngramError(
            f"record {again[0]!r} is to be kept, but target {target.name!r} has forgotten it "
            f"({len(again)} such records)",
            hint="requests add up: keep only what the target's ledger says it was trained on",
        )


def promised(protection: Mapping[str, Any], records: int) -> dict[str, Any]:
    """What may be said of the weights."""
    return {
        "kind": protection["kind"],
        "value": protection["value"],
        "sentence": f"{protection['sentence']}. Not exact: the pre-training saw the protected form "
        f"of the {records} records; the fine-tuning was done again without them",
    }
