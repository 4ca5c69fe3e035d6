"""How a target was trained, from what it carries: its recipe's settings, and the seed."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from engram.core import EngramError, Target


def made_by(target: Target, kind: type[Any], recipe: str) -> tuple[Any, int]:
    """The settings of the recipe that trained a target, and from which seed.

    Args:
        target: One of ours.
        kind: A dataclass with the fields of that recipe, and no others.
        recipe: What the recipe is called, for the hint.

    Returns:
        An instance of `kind`, and the seed.

    Raises:
        EngramError: The target does not say, or another kind of recipe made it.
    """
    lineage = target.lineage.recipe()
    if lineage.kind != "recipes" or set(lineage.config) != {f.name for f in fields(kind)}:
        raise EngramError(
            f"target {target.name!r} does not carry the recipe that trained it",
            hint=f"train it with `engram train {recipe}`",
        )
    return kind(**as_fields(lineage.config)), lineage.seed


def as_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they were read from JSON, with tuples for lists again."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
