"""A model's answers, asked for once and stored: see `token_signals`.

Importing this package does not import torch: `token_signals` is fetched on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engram.signals.tokens import token_signals

__all__ = ["token_signals"]


def __getattr__(name: str) -> object:
    """Fetch a public name from its module on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'engram.signals' has no attribute {name!r}")
    return getattr(import_module("engram.signals.tokens"), name)
