"""Engram inside other people's training loops.

Importing this package imports neither torch nor transformers; taking a name out of it does.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {"MemorisationCallback": "engram.integrations.trainer_callback"}

__all__ = ["MemorisationCallback"]


def __getattr__(name: str) -> Any:
    """Fetch a public name on first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'engram.integrations' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
