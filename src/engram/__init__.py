"""Engram: a lab for what models take from their data.

Four nouns (`Split`, `Target`, `Scores`, `Finding`) and five arrows (transform, train, edit,
attack, measure). Importing this package imports neither torch nor any method.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "EngramError": "engram.core",
    "Finding": "engram.core",
    "Ledger": "engram.core",
    "Paper": "engram.core",
    "Scores": "engram.core",
    "Split": "engram.core",
    "Target": "engram.core",
    "audit": "engram.engine",
    "edit": "engram.engine",
    "load": "engram.engine",
    "measure": "engram.engine",
    "read": "engram.data",
    "train": "engram.engine",
    "transform": "engram.engine",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Fetch a public name on first use, so that importing the package stays instant."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'engram' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
