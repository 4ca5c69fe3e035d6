"""A model of several: one for each shard of the records, of any family that has class logits.

The folder of such a model holds a model of the inner family for every shard (`shards/0/`, ...),
what each was after every slice but the last (`shards/0/slice-0/`, ...), which record lies where
(`placement.parquet`), and how answers are put together (`config.json`, `sharding.safetensors`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from engram.core import EngramError, Finding, Split
from engram.parts.fingerprints import arrays_fingerprint
from engram.parts.labelled import label_quality, labels_of
from engram.parts.model_folder import read_config
from engram.parts.sharding import LARGEST, Placement, mean, vote, weighted

Aggregation = Literal["vote", "mean", "learned"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
CONFIG, ARRAYS, KIND = "config.json", "sharding.safetensors", "engram-sharded"
WEIGHTS = "weights"
LEAST = float(np.finfo(np.float64).eps)
"""Probabilities below this count as this, so that a log-loss is finite."""


@dataclass(frozen=True, eq=False)
class ShardedModel:
    """Models of one family that saw different records, and how they answer as one.

    Attributes:
        shards: The model of each shard; None where a shard has no records.
        checkpoints: Of each shard, what it was after each slice but the last; None where there
            was nothing to learn from yet.
        placement: Which record lies in which shard and slice.
        aggregation: "vote" (share of the shards), "mean" (of probabilities) or "learned" (mean by
            weights).
        weights: Of the shards, for "learned".
        extra: Further arrays that the method keeps; no personal contents.
    """

    shards: tuple[Any, ...]
    checkpoints: tuple[tuple[Any, ...], ...]
    placement: Placement
    aggregation: Aggregation = "mean"
    weights: Float[np.ndarray, " shards"] = field(default_factory=lambda: np.zeros(0))
    extra: Mapping[str, np.ndarray] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        count = self.placement.shards
        if not len(self.weights):
            object.__setattr__(self, "weights", np.full(count, 1 / count))
        if not len(self.shards) == len(self.checkpoints) == len(self.weights) == count:
            raise EngramError(
                f"{len(self.shards)} shards, {len(self.checkpoints)} lists of checkpoints and "
                f"{len(self.weights)} weights do not fit {count} shards of the placement",
                hint="the files may be damaged; train again",
            )
        if self.aggregation not in AGGREGATIONS:
            raise EngramError(
                f"aggregation is {self.aggregation!r}, but must be one of "
                f"{', '.join(AGGREGATIONS)}",
                hint="mean averages probabilities, vote counts shards",
            )

    @property
    def alive(self) -> tuple[int, ...]:
        """The shards that have a model."""
        return tuple(k for k, model in enumerate(self.shards) if model is not None)

    @property
    def stored(self) -> dict[str, Any]:
        """Every model inside, by the folder that it is stored in."""
        found = {f"shards/{k}": self.shards[k] for k in self.alive}
        for k, states in enumerate(self.checkpoints):
            there = {j: state for j, state in enumerate(states) if state is not None}
            found |= {f"shards/{k}/slice-{j}": state for j, state in there.items()}
        return found

    @property
    def device(self) -> Any:
        """Where the first shard's weights are."""
        return getattr(self.shards[self.alive[0]], "device", "cpu")


class Sharded:
    """The family of sharded models over an inner family, whose records and answers it shares.

    Args:
        name: Of this family.
        inner: The family of each shard: with `logits`, whatever else it has.
    """

    answers = frozenset({"losses", "logits"})

    def __init__(self, name: str, inner: Any) -> None:
        self.name, self.inner = name, inner
        # What concerns records alone does not change by sharding.
        self.check, self.perturb = inner.check, inner.perturb
        self.canaries, self.render = inner.canaries, inner.render

    def save(self, model: ShardedModel, folder: Path) -> None:
        """Write every shard and checkpoint in a folder of its own, the placement, and the rest."""
        folder.mkdir(parents=True, exist_ok=True)
        for place, part in model.stored.items():
            self.inner.save(part, folder / place)
        model.placement.save(folder)
        arrays = {f"extra/{name}": np.ascontiguousarray(a) for name, a in model.extra.items()}
        save_file({WEIGHTS: np.asarray(model.weights, np.float64), **arrays}, folder / ARRAYS)
        record = {
            "kind": KIND,
            "family": self.inner.name,
            "slices": model.placement.slices,
            "aggregation": model.aggregation,
            "shards": [part is not None for part in model.shards],
            "checkpoints": [[s is not None for s in states] for states in model.checkpoints],
        }
        (folder / CONFIG).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def load(self, where: str | Path, device: str = "cpu") -> ShardedModel:
        """Open a folder that `save` wrote.

        Raises:
            EngramError: The folder is not one of ours, or its files are damaged.
        """
        folder = Path(where)
        record = self._record(folder)
        try:
            arrays = load_file(folder / ARRAYS)
            weights = arrays.pop(WEIGHTS)
        except (SafetensorError, OSError, KeyError) as problem:
            raise EngramError(
                f"{folder / ARRAYS} cannot be read ({problem})",
                hint="the files may be damaged; copy the folder again, or train again",
            ) from None
        shards, states = record["shards"], record["checkpoints"]

        def part(there: bool, place: str) -> Any:
            return self.inner.load(folder / place, device) if there else None

        return ShardedModel(
            tuple(part(there, f"shards/{k}") for k, there in enumerate(shards)),
            tuple(
                tuple(part(there, f"shards/{k}/slice-{j}") for j, there in enumerate(each))
                for k, each in enumerate(states)
            ),
            Placement.load(folder, len(shards), record["slices"]),
            record["aggregation"],
            weights,
            {name.removeprefix("extra/"): array for name, array in arrays.items()},
        )

    def _record(self, folder: Path) -> dict[str, Any]:
        if not (folder / CONFIG).is_file():
            raise EngramError(
                f"{folder} holds no sharded model: it has no {CONFIG}",
                hint="`engram ls recipes` lists what makes one: sisa, say",
            )
        record = read_config(folder / CONFIG)
        if record.get("kind") != KIND or record.get("family") != self.inner.name:
            raise EngramError(
                f"{folder / CONFIG} does not describe shards of family {self.inner.name}",
                hint="open it as the family that its target.json names",
            )
        shards, states = record.get("shards"), record.get("checkpoints")
        good = (
            isinstance(shards, list)
            and isinstance(states, list)
            and 1 <= len(shards) == len(states) <= LARGEST
            and all(isinstance(s, list) and len(s) < LARGEST for s in states)
        )
        if not good:
            raise EngramError(
                f"{folder / CONFIG} names no shards that fit its checkpoints",
                hint="the file may be damaged; copy the folder again, or train again",
            )
        return {"slices": 1, "aggregation": "mean", **record}

    def fingerprint(self, model: ShardedModel) -> str:
        """Hash of all shards and checkpoints, of who lies where, and of how answers are joined."""
        placed = model.placement
        arrays = {
            **{f"extra/{name}": array for name, array in model.extra.items()},
            WEIGHTS: np.asarray(model.weights, np.float64),
            "shard": placed.shard,
            "slice": placed.slice,
        }
        facts = {
            "aggregation": model.aggregation,
            "ids": list(placed.ids),
            "shards": placed.shards,
            "slices": placed.slices,
            "models": {place: self.inner.fingerprint(part) for place, part in model.stored.items()},
        }
        return arrays_fingerprint(arrays, facts)

    def describe(self, model: ShardedModel) -> Mapping[str, Any]:
        """Facts of one shard, how many shards and slices of what sizes, what all of them take."""
        sizes = model.placement.sizes
        inner = dict(self.inner.describe(model.shards[model.alive[0]]))
        one = int(inner.get("parameters", 0))
        count = len(model.stored)
        return {
            **inner,
            "parameters": one * len(model.alive),
            "shards": len(model.shards),
            "empty shards": [k for k in range(len(model.shards)) if k not in model.alive],
            "slices": model.placement.slices,
            "records by shard": sizes.sum(1).tolist(),
            "aggregation": model.aggregation,
            "stored models": count,
            "bytes of weights": 4 * one * count,
        }

    def outcomes(self, model: ShardedModel, split: Split) -> tuple[str, ...]:
        """As the first shard says."""
        return self.inner.outcomes(model.shards[model.alive[0]], split)

    def posteriors(self, model: ShardedModel, split: Split) -> Float[np.ndarray, "alive n classes"]:
        """What each shard that has a model holds probable."""
        found = [softmax(self.inner.logits(model.shards[k], split), axis=1) for k in model.alive]
        return np.stack(found) if found else np.empty((0, len(split), 0))

    def probabilities(self, model: ShardedModel, split: Split) -> Float[np.ndarray, "n classes"]:
        """What all shards together hold probable; empty ones have no say."""
        found = self.posteriors(model, split)
        if model.aggregation == "vote":
            return vote(found)
        if model.aggregation == "learned":
            return weighted(found, model.weights[list(model.alive)])
        return mean(found)

    def logits(self, model: ShardedModel, split: Split) -> Float[np.ndarray, "n classes"]:
        """Logarithm of the joint probabilities; none is below log(2.2e-16)."""
        return np.log(np.clip(self.probabilities(model, split), LEAST, 1.0))

    def losses(self, model: ShardedModel, split: Split) -> Float[np.ndarray, " n"]:
        """Log-loss of each record, in nats; at most 36.04."""
        logits = self.logits(model, split)
        labels = labels_of(split, logits.shape[1])
        return -logits[np.arange(len(split)), labels]

    def quality(
        self, model: ShardedModel, split: Split, rng: np.random.Generator
    ) -> tuple[Finding, ...]:
        """Accuracy and log-loss."""
        logits = self.logits(model, split)
        labels = labels_of(split, logits.shape[1])
        return label_quality(logits, -logits[np.arange(len(split)), labels], labels, rng)
