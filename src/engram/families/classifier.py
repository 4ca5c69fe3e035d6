"""Classifiers: small torch networks on arrays of numbers, or on images stored as such."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from engram.core import SCORED, EngramError, Finding, Split
from engram.parts.array_examples import ArrayExamples
from engram.parts.fingerprints import arrays_fingerprint, weights
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
from engram.parts.networks import MODULE, Builder, Layout, Network
from engram.parts.soft_labels import refuse_soft_labels

CONFIG, WEIGHTS = "config.json", "model.safetensors"
KIND = "engram-classifier"


@dataclass(frozen=True, eq=False)
class ClassifierModel:
    """A network on arrays; `model.layout` says of what shape."""

    model: Network

    @property
    def layout(self) -> Layout:
        """What the network is made from."""
        return self.model.layout

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.mean.device


class Classifier:
    """The family of neural classifiers."""

    name = "classifier"
    answers = frozenset({"losses", "logits"})

    def check(self, split: Split) -> None:
        """Raise where there are no columns `features` (numbers) and `label` (0, 1, 2, ...)."""
        check_labelled_split(split)

    def load(
        self, where: str | Path, device: str = "cpu", builder: Builder | None = None
    ) -> ClassifierModel:
        """Open a folder that `save` wrote; architectures are found by name in a fixed table.

        Args:
            where: The folder.
            device: Where to compute.
            builder: Makes the module, where the model was `wrapped` around one and no installed
                package names it.

        Raises:
            EngramError: The folder is not one of ours, its files are damaged, or the code of its
                module is not here.
        """
        folder = Path(where)
        if not (folder / CONFIG).is_file():
            raise EngramError(
                f"{folder} holds no classifier: it has no {CONFIG}",
                hint="`engram train train-classifier` makes one",
            )
        network = _layout(folder).build(builder)
        try:
            network.load_state_dict(load_file(folder / WEIGHTS))
        except (SafetensorError, OSError, RuntimeError) as problem:
            said = " ".join(str(problem).split())[:160]
            raise EngramError(
                f"{folder / WEIGHTS} does not hold the weights of {CONFIG} ({said})",
                hint="the files may be damaged; copy the folder again, or train again",
            ) from None
        return ClassifierModel(network.to(device).eval())

    def save(self, model: ClassifierModel, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {k: v.cpu().contiguous().clone() for k, v in model.model.state_dict().items()}
        save_file(state, folder / WEIGHTS)
        record = {"kind": KIND, **model.layout.facts()}
        (folder / CONFIG).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def fingerprint(self, model: ClassifierModel) -> str:
        """Hash of weights and layout."""
        return arrays_fingerprint(weights(model.model), model.layout.facts())

    def describe(self, model: ClassifierModel) -> Mapping[str, Any]:
        """Architecture, size, shape of a record, classes."""
        return {
            "architecture": model.layout.architecture,
            "parameters": sum(p.numel() for p in model.model.parameters()),
            "shape": list(model.layout.shape),
            "classes": model.layout.classes,
        }

    def outcomes(self, model: ClassifierModel, split: Split) -> tuple[str, ...]:
        """Every record that passes `check` can be asked about."""
        return (SCORED,) * len(split)

    def examples(self, model: ClassifierModel, split: Split) -> ArrayExamples:
        """The records as training sees them."""
        layout = model.layout
        features = features_of(split, prod(layout.shape))
        refuse_soft_labels(split, "what looks at single losses, or edits a classifier,")
        return ArrayExamples(model.model, features, labels_of(split, layout.classes))

    def logits(
        self, model: ClassifierModel, split: Split, block: int = 1024
    ) -> Float[np.ndarray, "n classes"]:
        """Class logits of each record."""
        features = features_of(split, prod(model.layout.shape))
        model.model.eval()
        found = [np.empty((0, model.layout.classes), np.float64)]
        with torch.inference_mode():
            for first in range(0, len(features), block):
                batch = torch.from_numpy(features[first : first + block]).to(model.device)
                found.append(model.model(batch).double().cpu().numpy())
        return np.concatenate(found)

    def losses(self, model: ClassifierModel, split: Split) -> Float[np.ndarray, " n"]:
        """Cross-entropy of each record, in nats."""
        labels = labels_of(split, model.layout.classes)
        return cross_entropy(self.logits(model, split), labels)

    def quality(
        self, model: ClassifierModel, split: Split, rng: np.random.Generator
    ) -> tuple[Finding, ...]:
        """Accuracy and log-loss."""
        logits, labels = self.logits(model, split), labels_of(split, model.layout.classes)
        return label_quality(logits, cross_entropy(logits, labels), labels, rng)

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


def wrapped(
    module: nn.Module,
    name: str,
    shape: tuple[int, ...],
    classes: int,
    *,
    mean: Float[np.ndarray, " features"] | None = None,
    scale: Float[np.ndarray, " features"] | None = None,
    colours_last: bool = False,
) -> ClassifierModel:
    """A classifier around a module of your own, from standardised records to class logits.

    It answers everything, and can be saved; but no code is ever read from a folder. Open it again
    with `FAMILY.load(folder, builder=...)`, or name the builder in your package's entry-point group
    `engram.architectures`: then every command opens it, and `architecture="module:NAME"` trains it.

    Args:
        module: Takes records of `shape` in a batch, and gives logits (batch, classes). It is used
            as it is, not copied, and must treat each record by itself (no batch normalisation in
            training).
        name: What to call it: letters, digits and dashes.
        shape: Of one record: (features,), or (channels, height, width).
        classes: How many logits it gives.
        mean: Taken from each feature first; None: 0.
        scale: Features are divided by it then; None: 1.
        colours_last: Whether an image's features run over its channels last.

    Raises:
        EngramError: The name is none, or the module does not give such logits.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", name):
        raise EngramError(
            f"the module is called {name!r}", hint="use letters, digits and dashes: my-network"
        )
    layout = Layout(MODULE + name, tuple(shape), classes, colours_last=colours_last)
    network = layout.build(lambda _: module)
    for buffer, given in ((network.mean, mean), (network.scale, scale)):
        if given is not None:
            buffer.copy_(torch.as_tensor(np.asarray(given, np.float32)).reshape(-1))
    network.eval()
    try:
        with torch.inference_mode():
            found = tuple(network(torch.zeros(2, prod(shape))).shape)
    except (RuntimeError, ValueError, TypeError, IndexError) as problem:
        raise EngramError(
            f"module {name!r} cannot be asked about records of shape {tuple(shape)} ({problem})",
            hint="give the shape of one record as the module takes it",
        ) from None
    if found != (2, classes):
        raise EngramError(
            f"module {name!r} gives an array of shape {found} for 2 records and {classes} classes",
            hint="it must give the logits of each class",
        )
    return ClassifierModel(network)


def cross_entropy(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """log(sum of exp(logits)) - logit of the label, in nats."""
    from scipy.special import logsumexp

    if not len(labels):
        return np.zeros(0)
    return logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]


def _layout(folder: Path) -> Layout:
    record = read_config(folder / CONFIG)
    known = {f.name for f in fields(Layout)}
    if record.pop("kind", None) != KIND or set(record) | {"colours_last"} != known:
        raise EngramError(
            f"{folder / CONFIG} does not describe a classifier of ours",
            hint="a language model is opened as family causal-lm",
        )
    shape = record.pop("shape")
    return Layout(shape=tuple(shape) if isinstance(shape, list) else (shape,), **record)


FAMILY = Classifier()
