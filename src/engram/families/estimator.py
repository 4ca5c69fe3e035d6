"""scikit-learn estimators: the adapter for what is not a neural network."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from engram.core import SCORED, EngramError, Finding, Split
from engram.parts.estimators import check_arrays, probabilities
from engram.parts.fingerprints import arrays_fingerprint
from engram.parts.labelled import (
    check_labelled_split,
    features_of,
    label_quality,
    labels_of,
    neighbours,
    noise_records,
    rendered,
)
from engram.parts.model_folder import read_config

CONFIG, WEIGHTS = "config.json", "model.safetensors"
KIND = "engram-estimator"
LEAST = float(np.finfo(np.float64).eps)
"""Probabilities below this count as this, so that a log-loss is finite."""


@dataclass(frozen=True, eq=False)
class EstimatorModel:
    """What an estimator has learnt, as plain arrays.

    Attributes:
        estimator: A name in `engram.parts.estimators.KINDS`.
        arrays: What it learnt, by name; `classes` are the labels that it knows, ascending.
        features: How many numbers a record has.
        parameters: What it was fitted with.
    """

    estimator: str
    arrays: Mapping[str, np.ndarray]
    features: int
    parameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_arrays(self.estimator, self.arrays, self.features)


class Estimator:
    """The family of scikit-learn classifiers."""

    name = "estimator"
    answers = frozenset({"losses", "logits"})

    def check(self, split: Split) -> None:
        """Raise where there are no columns `features` (numbers) and `label` (0, 1, 2, ...)."""
        check_labelled_split(split)

    def load(self, where: str | Path, device: str = "cpu") -> EstimatorModel:
        """Open a folder that `save` wrote; the device does not matter.

        Raises:
            EngramError: The folder is not one of ours, or its files are damaged.
        """
        folder = Path(where)
        if not (folder / CONFIG).is_file():
            pickles = [p.name for e in ("*.pkl", "*.pickle", "*.joblib") for p in folder.glob(e)]
            hint = f"{pickles[0]} is a pickle, which can run code; fit again" if pickles else ""
            raise EngramError(
                f"{folder} holds no estimator: it has no {CONFIG}",
                hint=hint or "`engram train fit-estimator` makes one",
            )
        record = read_config(folder / CONFIG)
        if record.get("kind") != KIND:
            raise EngramError(
                f"{folder / CONFIG} does not describe an estimator of ours",
                hint="a language model is opened as family causal-lm",
            )
        try:
            arrays = load_file(folder / WEIGHTS)
            facts = str(record["estimator"]), int(record["features"]), dict(record["parameters"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as problem:
            raise EngramError(
                f"the estimator in {folder} cannot be read ({problem})",
                hint="the files may be damaged; copy the folder again, or fit again",
            ) from None
        return EstimatorModel(facts[0], arrays, facts[1], facts[2])

    def save(self, model: EstimatorModel, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: np.ascontiguousarray(a) for name, a in model.arrays.items()}
        save_file(arrays, folder / WEIGHTS)
        record = {"kind": KIND, **self._facts(model)}
        (folder / CONFIG).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def fingerprint(self, model: EstimatorModel) -> str:
        """Hash of what was learnt."""
        return arrays_fingerprint(model.arrays, self._facts(model))

    def describe(self, model: EstimatorModel) -> Mapping[str, Any]:
        """Kind, parameters, features, classes, and whether training records are stored in it."""
        return {
            "architecture": model.estimator,
            "parameters": int(sum(a.size for k, a in model.arrays.items() if k != "classes")),
            "settings": dict(model.parameters),
            "features": model.features,
            "classes": len(model.arrays["classes"]),
            "stores training records": bool({"data", "vector"} & set(model.arrays)),
        }

    def outcomes(self, model: EstimatorModel, split: Split) -> tuple[str, ...]:
        """Every record that passes `check` can be asked about."""
        return (SCORED,) * len(split)

    def logits(self, model: EstimatorModel, split: Split) -> Float[np.ndarray, "n classes"]:
        """Log-probabilities of the classes; none is below log(2.2e-16)."""
        features = features_of(split, model.features)
        found = probabilities(model.estimator, model.arrays, features)
        return np.log(np.clip(found, LEAST, 1.0))

    def places(self, model: EstimatorModel, split: Split) -> Int[np.ndarray, " n"]:
        """Which of the model's classes each record's label is: the column of its logit.

        Raises:
            EngramError: The model does not know a label.
        """
        labels, classes = labels_of(split), np.asarray(model.arrays["classes"])
        places = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
        if (classes[places] != labels).any():
            strange = labels[classes[places] != labels][0]
            raise EngramError(
                f"split {split.name!r} has the label {strange}, but the model knows only "
                f"{', '.join(map(str, classes[:20]))}",
                hint="give records of the kind that the model was trained on",
            )
        return places

    def losses(self, model: EstimatorModel, split: Split) -> Float[np.ndarray, " n"]:
        """Log-loss of each record, in nats; at most 36.04."""
        places = self.places(model, split)
        return -self.logits(model, split)[np.arange(len(split)), places]

    def quality(
        self, model: EstimatorModel, split: Split, rng: np.random.Generator
    ) -> tuple[Finding, ...]:
        """Accuracy and log-loss."""
        logits, places = self.logits(model, split), self.places(model, split)
        losses = -logits[np.arange(len(split)), places]
        return label_quality(logits, losses, places, rng)

    def perturb(self, split: Split, strength: float, rng: np.random.Generator) -> Split:
        """Resample a share of the features within a narrow quantile."""
        return neighbours(split, strength, rng)

    def canaries(
        self, n: int, rng: np.random.Generator, *, features: int = 64, classes: int = 10
    ) -> Split:
        """Records of pure noise with a random label; say how many features the others have."""
        return noise_records(n, features, classes, rng)

    def render(self, split: Split, row: int) -> str:
        """Its label and first features."""
        return rendered(split, row)

    def _facts(self, model: EstimatorModel) -> dict[str, Any]:
        return {
            "estimator": model.estimator,
            "features": model.features,
            "parameters": dict(model.parameters),
        }


FAMILY = Estimator()
