"""A model that answers, and beside it the one that it was fine-tuned from.

The latter was trained on protected records; it is kept for requests to forget, and never changed.

The folder of such a pair holds a model of the inner family twice (`deployed/` and `protected/`),
and what the protection promises (`config.json`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float

from engram.core import EngramError, Finding, Split
from engram.parts.fingerprints import arrays_fingerprint
from engram.parts.model_folder import read_config

CONFIG, KIND = "config.json", "engram-protected"
DEPLOYED, PROTECTED = "deployed", "protected"
PROMISE = {"kind", "value", "sentence"}


@dataclass(frozen=True, eq=False)
class ProtectedModel:
    """Two models of one family.

    Attributes:
        deployed: Answers; fine-tuned on the original records.
        protected: What it was fine-tuned from; saw records in their protected form alone.
        promise: Of the protection: `kind` ("k" or "epsilon"), `value` and `sentence`.
    """

    deployed: Any
    protected: Any
    promise: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def device(self) -> Any:
        """Where the weights are."""
        return getattr(self.deployed, "device", "cpu")


class Protected:
    """The family of such pairs over an inner family, whose records and answers it shares.

    Args:
        name: Of this family.
        inner: The family of both models: with `logits`, whatever else it has.
    """

    answers = frozenset({"losses", "logits"})

    def __init__(self, name: str, inner: Any) -> None:
        self.name, self.inner = name, inner
        # What concerns records alone does not change.
        self.check, self.perturb = inner.check, inner.perturb
        self.canaries, self.render = inner.canaries, inner.render

    def save(self, model: ProtectedModel, folder: Path) -> None:
        """Write both models, each in a folder of its own, and the promise."""
        folder.mkdir(parents=True, exist_ok=True)
        self.inner.save(model.deployed, folder / DEPLOYED)
        self.inner.save(model.protected, folder / PROTECTED)
        record = {"kind": KIND, "family": self.inner.name, "promise": dict(model.promise)}
        (folder / CONFIG).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def load(self, where: str | Path, device: str = "cpu") -> ProtectedModel:
        """Open a folder that `save` wrote.

        Raises:
            EngramError: The folder is not one of ours, or its files are damaged.
        """
        folder = Path(where)
        if not (folder / CONFIG).is_file():
            raise EngramError(
                f"{folder} holds no protected model: it has no {CONFIG}",
                hint="`engram train eupg` makes one",
            )
        record = read_config(folder / CONFIG)
        promise = record.get("promise")
        ours = record.get("kind") == KIND and record.get("family") == self.inner.name
        if not ours or not isinstance(promise, dict) or set(promise) != PROMISE:
            raise EngramError(
                f"{folder / CONFIG} does not describe a protected {self.inner.name}",
                hint="open it as the family that its target.json names",
            )
        deployed, protected = (
            self.inner.load(folder / place, device) for place in (DEPLOYED, PROTECTED)
        )
        return ProtectedModel(deployed, protected, promise)

    def fingerprint(self, model: ProtectedModel) -> str:
        """Hash of both models and of the promise."""
        prints = {
            DEPLOYED: self.inner.fingerprint(model.deployed),
            PROTECTED: self.inner.fingerprint(model.protected),
        }
        return arrays_fingerprint({}, {**prints, "promise": dict(model.promise)})

    def describe(self, model: ProtectedModel) -> Mapping[str, Any]:
        """Facts of the deployed model, and the fingerprint of the protected one."""
        inner = dict(self.inner.describe(model.deployed))
        return {
            **inner,
            "stored models": 2,
            "protected model": self.inner.fingerprint(model.protected),
            "protection": model.promise["sentence"],
        }

    def outcomes(self, model: ProtectedModel, split: Split) -> tuple[str, ...]:
        """As the deployed model."""
        return self.inner.outcomes(model.deployed, split)

    def logits(self, model: ProtectedModel, split: Split) -> Float[np.ndarray, "n classes"]:
        """As the deployed model."""
        return self.inner.logits(model.deployed, split)

    def losses(self, model: ProtectedModel, split: Split) -> Float[np.ndarray, " n"]:
        """As the deployed model."""
        return self.inner.losses(model.deployed, split)

    def quality(
        self, model: ProtectedModel, split: Split, rng: np.random.Generator
    ) -> tuple[Finding, ...]:
        """As the deployed model."""
        return self.inner.quality(model.deployed, split, rng)
