"""Engram: a lab for what models take from their data.

Four nouns (`Split`, `Target`, `Scores`, `Finding`) and five arrows (transform, train, edit,
attack, measure). Importing this package imports neither torch nor any method.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers, which do not follow `__getattr__`
    from engram import data, engine
    from engram.core import EngramError, Finding, Ledger, Paper, Scores, Split, Target
    from engram.data import read
    from engram.engine import EngineRun, known_records, load, measure, to_forget, transform

    # From the modules that hold them: `engram.engine.audit` is the name of a module, too.
    from engram.engine.audit import audit
    from engram.engine.compare import compare
    from engram.engine.forget import forget
    from engram.engine.train import edit, train

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
    "compare": "engram.engine",
    "data": "",
    "edit": "engram.engine",
    "engine": "",
    "EngineRun": "engram.engine",
    "forget": "engram.engine",
    "known_records": "engram.engine",
    "to_forget": "engram.engine",
    "load": "engram.engine",
    "measure": "engram.engine",
    "read": "engram.data",
    "train": "engram.engine",
    "transform": "engram.engine",
}

__all__ = [
    "EngineRun",
    "EngramError",
    "Finding",
    "Ledger",
    "Paper",
    "Scores",
    "Split",
    "Target",
    "__version__",
    "audit",
    "compare",
    "data",
    "edit",
    "engine",
    "forget",
    "known_records",
    "load",
    "measure",
    "read",
    "to_forget",
    "train",
    "transform",
]  # fmt: skip


if not TYPE_CHECKING:  # to a type checker every name that is misspelt would be there

    def __getattr__(name: str) -> Any:
        """Fetch a public name on first use, so that importing the package stays instant."""
        if name not in _PUBLIC:
            raise AttributeError(f"module 'engram' has no attribute {name!r}")
        if not (module := _PUBLIC[name]):
            return import_module(f"{__name__}.{name}")
        return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
