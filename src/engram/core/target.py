"""A trained model with what it can be asked, where it comes from, and what it saw."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from engram.core.errors import EngramError
from engram.core.ledger import Ledger

Access = Literal["text", "logits", "weights"]
ACCESS: tuple[Access, ...] = ("text", "logits", "weights")
"""What a target may be asked, from least to most."""


@dataclass(frozen=True)
class Lineage:
    """How a target came to be: enough to make it again.

    Attributes:
        method: Name of the recipe or edit, as the catalogue has it.
        kind: "recipes" or "edits"; "" for a model from outside.
        config: All fields of the method.
        seed: The root of all its random streams.
        data: Where the data came from, as given (`demo:letters`, a path, a name).
        data_options: How it was read: column names, hold-out share.
        fingerprint: Of the whole split that was given.
        parent: Fingerprint of the base or edited target; "" where there is none.
        base: Where that base or edited target was found, as given.
        code: Version of Engram.
        coins: The chance with which every owner (or record) was trained on, each by a coin of its
            own; 0 where a fixed number was drawn by lot.
        guarantee: What its training promises of the weights, such as differential privacy with
            its epsilon; empty where it promises nothing.
        history: The lineages (without history) of the targets that edits started from, oldest
            first; the first of them is the recipe's.
    """

    method: str = ""
    kind: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    data: str = ""
    data_options: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    parent: str = ""
    base: str = ""
    code: str = ""
    coins: float = 0.0
    guarantee: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()

    def own(self) -> dict[str, Any]:
        """This step alone, without what went before."""
        return replace(self, history=()).to_json()

    def recipe(self) -> "Lineage":
        """The step that trained the model, before any edit."""
        return Lineage(**{**self.history[0], "history": ()}) if self.history else self

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; without a guarantee where there is none."""
        found = asdict(self)
        return found if self.guarantee else {k: v for k, v in found.items() if k != "guarantee"}


@dataclass(frozen=True, eq=False)
class Target:
    """A trained model.

    Attributes:
        name: Short name for messages and reports.
        family: The kind of model: "causal-lm", "classifier", "estimator", ...
        model: What the family's functions work on (for language models: model and tokenizer).
        fingerprint: Hash of the weights and everything else that decides the answers.
        access: The most that it may be asked.
        lineage: How it was made.
        folder: Where it is stored, if it is.
    """

    name: str
    family: str
    model: Any
    fingerprint: str
    access: Access = "weights"
    lineage: Lineage = field(default_factory=Lineage)
    known: Ledger | None = None
    folder: Path | None = None

    @cached_property
    def ledger(self) -> Ledger:
        """What it was trained on; an error where nobody wrote it down."""
        if self.known is None:
            raise EngramError(
                f"target {self.name!r} has no ledger, so what it was trained on is not known",
                hint="an audit is told with --members and --outsiders; all else needs a target "
                "that `engram train` made",
            )
        return self.known

    def sealed(self) -> "Target":
        """The same model without its ledger and its folder: what an attack is given."""
        return replace(self, known=None, folder=None)

    def require(self, access: Access, who: str) -> None:
        """Raise where `who` asks for more than this target offers."""
        if ACCESS.index(self.access) < ACCESS.index(access):
            raise EngramError(
                f"{who} needs {access}, but target {self.name!r} offers only {self.access}",
                hint="leave it out of the battery, or audit the model where its weights are",
            )


@dataclass(frozen=True, eq=False)
class Draft:
    """What a recipe or an edit hands to the engine, which seals it into a `Target`.

    The engine adds the ledger, the lineage and the fingerprint, and writes the folder.
    """

    family: str
    model: Any
    trace: tuple[Mapping[str, float | int], ...] = ()
    """What was logged while it trained, one mapping a logged step (`step`, `loss`, `lr`, ...)."""
    guarantee: Mapping[str, Any] = field(default_factory=dict)
    """What the training promises of the weights; `sentence` says it in words, for reports."""
