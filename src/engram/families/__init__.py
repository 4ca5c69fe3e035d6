"""One adapter a kind of target. `find("causal-lm")` gives it.

A family says how its models are loaded, saved and fingerprinted, and answers the few questions
that everything else in the lab is built on. The file system is the registry here too; other
packages add families through the entry-point group `engram.families`.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from engram.core import EngramError, Finding, Split, nearest


@runtime_checkable
class Family(Protocol):
    """What every kind of model must answer. `model` is the family's own model object."""

    name: str
    answers: frozenset[str]
    """What it can give to attacks: of "tokens", "logprobs", "losses", "logits" and "text".

    "logprobs" are the log-probabilities of a record's own tokens, a part of "tokens"; "text" is
    what a sampler writes. One of its models may offer less: `offered` says what.
    """

    def check(self, split: Split) -> None:
        """Raise where the records are not of this family's kind (no text column, say)."""
        ...

    def load(self, where: str | Path, device: str = "cpu") -> Any:
        """A model from a folder that `save` wrote, or from any published folder or name."""
        ...

    def save(self, model: Any, folder: Path) -> None:
        """Write the model; weights as safetensors only."""
        ...

    def fingerprint(self, model: Any) -> str:
        """A hash of everything that decides the model's answers; 16 hexadecimal digits."""
        ...

    def describe(self, model: Any) -> Mapping[str, Any]:
        """Facts for the report: architecture, parameters, context length, classes."""
        ...

    def outcomes(self, model: Any, split: Split) -> tuple[str, ...]:
        """What came of each record: "scored", or the reason why the model cannot be asked."""
        ...

    def losses(self, model: Any, split: Split) -> np.ndarray:
        """Per-record loss (mean inside a record), in nats; (n,)."""
        ...

    def quality(self, model: Any, split: Split, rng: np.random.Generator) -> tuple[Finding, ...]:
        """The family's usual metrics, each knowing which way is better."""
        ...

    def perturb(self, split: Split, strength: float, rng: np.random.Generator) -> Split:
        """Neighbours that keep the meaning; `strength` in (0, 1] is the share that changes."""
        ...

    def canaries(self, n: int, rng: np.random.Generator) -> Split:
        """Out-of-distribution records to plant, all different, each its own owner."""
        ...

    def render(self, split: Split, row: int) -> str:
        """One record as text for a report."""
        ...


def offered(family: str, model: Any) -> frozenset[str]:
    """The answers that this very model can give: a server may offer less than its family."""
    adapter = find(family)
    of_model = getattr(adapter, "offered", None)
    return adapter.answers if of_model is None else of_model(model)


HOME = Path(__file__).parent


def names() -> tuple[str, ...]:
    """All families, in name order."""
    own = [p.stem.replace("_", "-") for p in HOME.glob("[!_]*.py")]
    return tuple(sorted({*own, *(p.name for p in _points())}))


def find(name: str) -> Family:
    """The family called `name`: the object `FAMILY` of its file, or of the entry point."""
    for point in _points():
        if point.name == name:
            return point.load()
    if name not in names():
        raise EngramError(
            f"there is no family of models called {name!r}",
            hint=nearest(name, names(), f"the families are {', '.join(names())}"),
        )
    return import_module(f"engram.families.{name.replace('-', '_')}").FAMILY


@cache
def _points() -> tuple[Any, ...]:
    """What other packages announce; read once, since it opens a file a package installed."""
    return tuple(entry_points(group="engram.families"))
