"""Recipes that prepare for deletion: what a request would cost, had one of them made the target.

Such a recipe (SISA, EUPG, GraphEraser) says which edit answers a request (`forgets_by`) and for
which families of plain models it stands in (`instead_of`). For a comparison it is trained on the
very records that the target was trained on, with the target's own settings as far as it has them,
and then asked to forget.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from engram import catalog
from engram.core import EngramError, Split, Target, nearest
from engram.engine.records import Known
from engram.engine.run import EngineRun
from engram.engine.shadows import own_recipe
from engram.engine.train import edit, train_on

ALL, EXACT = "all", "retrain"


@dataclass(frozen=True)
class Suited:
    """What can answer a request on a target.

    Attributes:
        edits: Unlearners of the target itself, by name.
        recipes: Recipes that would have prepared for the request, by name.
    """

    edits: Mapping[str, Any]
    recipes: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.edits) + len(self.recipes)


def suited(target: Target, wanted: Sequence[str]) -> Suited:
    """What was named, or all that suits the target's family, ready for use.

    Raises:
        EngramError: One of them is not known, or is not for this family.
    """
    if list(wanted) == [ALL]:
        edits = {name: entry.load() for name, entry in catalog.entries("edits").items()}
        return Suited(
            {n: k() for n, k in edits.items() if target.family in k.families and n != EXACT},
            {n: adopted(k, target) for n, k in ready_recipes(target.family).items()},
        )
    found = Suited(
        {n: _edit(n, target)() for n in wanted if n != EXACT and not _is_recipe(n)},
        {n: adopted(_recipe(n, target), target) for n in wanted if _is_recipe(n)},
    )
    if not len(found):
        raise EngramError(
            "--compare names no unlearner beside retrain",
            hint="--compare all, or names with commas between them",
        )
    return found


def _is_recipe(name: str) -> bool:
    return name in catalog.entries("recipes") and name not in catalog.entries("edits")


def _edit(name: str, target: Target) -> Any:
    known = catalog.entries("edits")
    if name not in known:
        raise EngramError(
            f"there is no unlearner called {name!r}",
            hint=nearest(name, known, "`engram ls edits` lists them; all takes every one"),
        )
    kind = known[name].load()
    if target.family not in kind.families:
        raise EngramError(
            f"{name} edits {', '.join(sorted(kind.families))}, but target {target.name!r} is "
            f"a {target.family}",
            hint="--compare all takes those that suit it",
        )
    return kind


def _recipe(name: str, target: Target) -> Any:
    ready = ready_recipes(target.family)
    if name not in ready:
        stands = ", ".join(ready) or "no recipe"
        raise EngramError(
            f"{name} is a recipe that does not stand in for a {target.family}",
            hint=f"{stands} would; --compare all takes what suits the target",
        )
    return ready[name]


def ready_recipes(family: str) -> dict[str, Any]:
    """The recipes that prepare for deletion and stand in for plain models of a family."""
    kinds = {name: entry.load() for name, entry in catalog.entries("recipes").items()}
    return {n: k for n, k in kinds.items() if family in getattr(k, "instead_of", ())}


def answering(target: Target) -> str:
    """The edit by which a target that was prepared for requests answers them; "" for others."""
    lineage = target.lineage.recipe()
    if lineage.kind != "recipes" or lineage.method not in catalog.entries("recipes"):
        return ""
    return getattr(catalog.find("recipes", lineage.method).load(), "forgets_by", "")


def adopted(kind: Any, target: Target) -> Any:
    """The recipe with the settings of the one that made the target, as far as it has them."""
    own = asdict(own_recipe(target, "a recipe is compared on the records of a target of ours"))
    return kind(**{f.name: own[f.name] for f in fields(kind) if f.init and f.name in own})


def prepare(recipe: Any, target: Target, known: Known, run: EngineRun) -> Target:
    """The target that the recipe makes of the same records, with the same ones held out."""
    lineage = target.lineage.recipe()
    trained = set(known.trained.ids)
    return train_on(
        recipe,
        known.everything,
        np.array([i in trained for i in known.everything.ids]),
        replace(run, seed=lineage.seed),
        source=lineage.data,
        options=lineage.data_options,
    )


def answer(recipe: Any, before: Target, keep: Split, records: Split, run: EngineRun) -> Target:
    """What the prepared target becomes when it is asked to forget."""
    method = catalog.find("edits", recipe.forgets_by).load()()
    return edit(method, before, keep, records, run)
