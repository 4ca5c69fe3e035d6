"""Shadow models: the target's own recipe, on random shares of the records that are asked about."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np

from engram import catalog, families
from engram.core import EngramError, Shadows, Split, Target, seed_of
from engram.engine.executor import Fit
from engram.engine.run import EngineRun
from engram.parts.own_settings import as_fields
from engram.parts.partition import choose


def own_recipe(target: Target, hint: str) -> Any:
    """The recipe that made a target, with all its fields.

    Args:
        target: One of ours, or one whose lineage says how it was trained.
        hint: What to do where it does not.

    Raises:
        EngramError: The target does not carry its recipe.
    """
    lineage = target.lineage.recipe()
    if lineage.kind != "recipes":
        raise EngramError(
            f"target {target.name!r} does not carry the recipe that made it", hint=hint
        )
    config = {**lineage.config, **({"base": lineage.base} if lineage.base else {})}
    return catalog.find("recipes", lineage.method).load()(**as_fields(config))


def shadows(run: EngineRun, target: Target, split: Split, count: int, share: float) -> Shadows:
    """Train `count` shadows, or find them; see `engram.core.Run.shadows`."""
    if count < 1:
        raise EngramError(f"{count} shadows were asked for", hint="16 is a good start")
    recipe = own_recipe(
        target,
        "shadow models are trained as the target was: train it with `engram train`, or leave the "
        "attacks that need shadows out",
    )
    families.find(recipe.family).check(split)
    saw = memberships(run, split, count, share)
    # The records in an order that does not depend on how the split was shuffled, so that the same
    # shadows are found again.
    rows = np.argsort(split.ids)
    jobs = [
        Fit(recipe, split.take(rows[saw[k][rows]]).renamed("shadow"), shadow_seed(run, k))
        for k in range(count)
    ]
    run.executor.fit(jobs, run)
    return Shadows(_Trained(run, tuple(jobs)), saw)


def retrained(
    run: EngineRun, target: Target, splits: Sequence[Split], name: str
) -> Sequence[Target]:
    """Train a model on each split, or find it; see `engram.core.Run.retrained`."""
    recipe = own_recipe(
        target, "models are trained anew as the target was: train it with `engram train`"
    )
    jobs = tuple(
        Fit(recipe, split.renamed(name), seed_of(run.seed, name, number) % 2**63)
        for number, split in enumerate(splits)
    )
    run.executor.fit(jobs, run)
    return _Trained(run, jobs)


def shadow_seed(run: EngineRun, number: int) -> int:
    """The root of a shadow's own random streams."""
    return seed_of(run.seed, "shadow", number) % 2**63


def memberships(run: EngineRun, split: Split, count: int, share: float) -> np.ndarray:
    """Which shadow is to see which record; (count, n)."""
    saw = np.zeros((count, len(split)), bool)
    for k in range(count):
        if share == 0.5 and k % 2:
            saw[k] = ~saw[k - 1]
        else:
            saw[k] = choose(split, share, run.stream("shadow records", k))
    return saw


@dataclass(frozen=True, eq=False)
class _Trained(Sequence[Target]):
    """Targets in the store, opened one at a time: many may not fit into memory together."""

    run: EngineRun
    jobs: tuple[Fit, ...]

    def __len__(self) -> int:
        return len(self.jobs)

    @overload
    def __getitem__(self, place: int) -> Target: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Target]: ...
    def __getitem__(self, place: int | slice) -> Target | Sequence[Target]:
        if isinstance(place, slice):
            return _Trained(self.run, self.jobs[place])
        job = self.jobs[place]
        return replace(self.run, seed=job.seed).fit(job.recipe, job.split).sealed()

    def __iter__(self) -> Iterator[Target]:
        return (self[place] for place in range(len(self)))
