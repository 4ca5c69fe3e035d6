"""Four nouns (Split, Target, Scores, Finding) and five arrows between them.

Importing this package imports neither torch nor NumPy: each name is fetched on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engram.core.arrows import (
        Attack,
        Edit,
        Measure,
        Owner,
        Recipe,
        Run,
        Sampler,
        Transform,
        Validated,
    )
    from engram.core.errors import DivergedError, EngramError, nearest
    from engram.core.finding import Finding
    from engram.core.ledger import Ledger, Role
    from engram.core.paper import Paper
    from engram.core.randomness import seed_of, stream, torch_seeded, torch_stream
    from engram.core.scores import Scores
    from engram.core.shadows import Shadows
    from engram.core.signals import SCORED, TOO_SHORT, TokenSignals
    from engram.core.split import Split, check_disjoint
    from engram.core.target import ACCESS, Access, Draft, Lineage, Target

_HOMES = {
    "arrows": (
        "Attack",
        "Edit",
        "Measure",
        "Owner",
        "Recipe",
        "Run",
        "Sampler",
        "Transform",
        "Validated",
    ),
    "errors": ("DivergedError", "EngramError", "nearest"),
    "finding": ("Finding",),
    "ledger": ("Ledger", "Role"),
    "paper": ("Paper",),
    "randomness": ("seed_of", "stream", "torch_seeded", "torch_stream"),
    "scores": ("Scores",),
    "shadows": ("Shadows",),
    "signals": ("SCORED", "TOO_SHORT", "TokenSignals"),
    "split": ("Split", "check_disjoint"),
    "target": ("ACCESS", "Access", "Draft", "Lineage", "Target"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ACCESS", "SCORED", "TOO_SHORT", "Access", "Attack", "DivergedError", "Draft", "Edit",
    "EngramError", "Finding", "Ledger", "Lineage", "Measure", "Owner", "Paper", "Recipe", "Role",
    "Run", "Sampler", "Scores", "Shadows", "Split", "Target", "TokenSignals", "Transform",
    "Validated", "check_disjoint", "nearest", "seed_of", "stream", "torch_seeded", "torch_stream",
]  # fmt: skip


if not TYPE_CHECKING:  # to a type checker every name that is misspelt would be there

    def __getattr__(name: str) -> object:
        """Fetch a public name from its module on first use."""
        if name not in _HOME_OF:
            raise AttributeError(f"module 'engram.core' has no attribute {name!r}")
        return getattr(import_module(f"engram.core.{_HOME_OF[name]}"), name)
