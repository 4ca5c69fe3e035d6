"""Small modules inside a frozen language model: made, attached, saved apart, and found again."""

from engram.parts.adapters.attach import Adapter, adapter_names, attach
from engram.parts.adapters.folder import is_adapter_folder, open_adapter, save_language_model

__all__ = [
    "Adapter",
    "adapter_names",
    "attach",
    "is_adapter_folder",
    "open_adapter",
    "save_language_model",
]
