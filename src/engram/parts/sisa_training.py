"""Train classifiers in shards and slices, from the start or from a state that is still good.

A stage is one slice of one shard: training goes on on all records of the slices so far. It depends
on the seed, on its shard and slice, and on those records alone - their mean and spread, the order
of batches and the dropout included - so that a stage that never saw a record is the same, bit for
bit, as one that was trained again without it.
"""

import json
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from engram.core import EngramError, Run, Split
from engram.parts.classifier_training import ClassifierTraining, Trace
from engram.parts.deletion_cost import stage_epochs
from engram.parts.networks import Network
from engram.parts.placing import PLACINGS, Placing, by_likelihood, chances_of, uniform
from engram.parts.sharding import LARGEST, Placement
from engram.parts.sub_run import SubRun
from engram.parts.training import TRACED, check_at_least, check_one_of, key_of, model_state

VOTES = ("mean", "vote")


@dataclass(frozen=True)
class SisaTraining(ClassifierTraining):
    """How a classifier in shards is trained, and trained again."""

    shards: int = 5
    """Models, each of which sees its share of the records."""
    slices: int = 4
    """Parts of each shard, learnt one after another; before each but the first, the state is kept.
    More make a deletion cheaper (by a third at the most) and take more room."""
    aggregation: Literal["mean", "vote"] = "mean"
    """How the shards answer as one: mean (of their probabilities) or vote (of their labels)."""
    placement: Placing = "uniform"
    """uniform: every record by a lot of its own. likelihood: records that are likely to be deleted
    lie together in few shards, and there in the last slices."""
    likelihood: str = "deletion_probability"
    """The column of these probabilities, for placement likelihood."""
    classes: int = 0
    """Number of classes; 0: one more than the largest label."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("shards", "slices"):
            check_at_least(name, getattr(self, name), 1, "1 does not divide at all")
            if getattr(self, name) > LARGEST:
                raise EngramError(
                    f"{name} is {getattr(self, name)}, but must be at most {LARGEST}",
                    hint="5 shards of 4 slices are a start",
                )
        check_one_of("aggregation", self.aggregation, VOTES)
        check_one_of("placement", self.placement, PLACINGS)
        check_at_least("classes", self.classes, 0, "0 counts them")

    @property
    def stage_epochs(self) -> int:
        """Epochs of each stage."""
        return stage_epochs(self.epochs, self.slices)

    def place(self, split: Split, seed: int) -> Placement:
        """Where each record is to lie."""
        if self.placement == "uniform":
            return uniform(split.ids, self.shards, self.slices, seed)
        chances = chances_of(split, self.likelihood)
        return by_likelihood(split.ids, chances, self.shards, self.slices)

    def train_shard(
        self,
        shard: int,
        split: Split,
        placement: Placement,
        classes: int,
        run: Run,
        *,
        seed: int,
        before: "Shard | None" = None,
        first: int = 0,
    ) -> "Shard":
        """Train a shard from slice `first` on.

        Args:
            shard: Which.
            split: Holds all records that are placed in the shard, in any order.
            placement: Which records lie where.
            classes: How many classes the networks know.
            run: Scratch folder and device; its own seed does not matter.
            seed: Root of the random streams.
            before: The shard as it was, of which the states before slice `first` are kept.
            first: The first slice that has to be learnt.
        """
        states = list(before.states[:first]) if before is not None else []
        found = Shard(states)
        network = deepcopy(states[-1]) if states else None
        for j in range(first, placement.slices):
            part = split.select(placement.inside(shard, upto=j), name=f"shard {shard}")
            if len(part):
                network = self._stage(network, part, classes, (shard, j), run, seed, found)
            found.states.append(deepcopy(network))
        return found

    def _stage(
        self,
        network: Network | None,
        part: Split,
        classes: int,
        place: tuple[int, int],
        run: Run,
        seed: int,
        found: "Shard",
    ) -> Network:
        here = SubRun.of(run, "shard", *place, seed=seed)
        fresh = network is None
        if network is None:
            network = self.start(part, SubRun.of(run, "shard", place[0], seed=seed), classes)
        name = f"stage-{place[0]}-{place[1]}"
        key = json.dumps([key_of(self, seed, part.fingerprint), *place, classes, fresh])
        done = Finished(run.scratch / f"{name}.done.safetensors", key)
        trace = done.restore(network)
        if trace is None:
            epochs = self.stage_epochs
            trace = self.learn(network, part, here, key, epochs=epochs, file=f"{name}.safetensors")
            done.save(network, trace)
        found.add(trace, place, len(part), self.shards * self.slices)
        return network


@dataclass
class Shard:
    """A shard that was trained: its state after each slice, and what that took.

    Attributes:
        states: After each slice; None where there was nothing to learn from yet.
        trace: What was logged in the stages that were trained.
    """

    states: list[Network | None] = field(default_factory=list)
    trace: Trace = field(default_factory=list)

    def add(self, trace: Trace, place: tuple[int, int], records: int, stages: int) -> None:
        """Log a stage: a share of its entries, the last one with how many records were seen."""
        every = max(1, len(trace) * stages // TRACED)
        kept = [
            entry for row, entry in enumerate(trace) if row % every == 0 and row + 1 < len(trace)
        ]
        begun = int(self.trace[-1]["step"]) + 1 if self.trace else 0
        for entry in [*kept, trace[-1]]:
            named = {**entry, "step": begun + int(entry["step"])}
            self.trace.append({**named, "shard": place[0], "slice": place[1]})
        # As the trainer counted its epochs; records that are seen twice count twice.
        self.trace[-1]["seen"] = round(float(trace[-1]["epoch"]) * records)


@dataclass(frozen=True)
class Finished:
    """A stage that is done, kept until the whole training is: a killed run finds it again.

    Attributes:
        path: Its file.
        key: What decides the outcome.
    """

    path: Path
    key: str

    def save(self, network: nn.Module, trace: Trace) -> None:
        """Write weights and trace; the file is whole, or not there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        tensors = {name: t.detach().contiguous() for name, t in model_state(network).items()}
        save_file(tensors, part, metadata={"key": self.key, "trace": json.dumps(trace)})
        part.replace(self.path)

    def restore(self, network: nn.Module) -> Trace | None:
        """Put the weights back and return the trace; None where there is no such stage."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                facts = file.metadata() or {}
                if facts.get("key") != self.key:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError):
            return None
        with torch.no_grad():
            for name, tensor in model_state(network).items():
                tensor.copy_(tensors[name])
        network.eval()
        return json.loads(facts["trace"])


def joined(traces: list[Trace]) -> tuple[dict[str, Any], ...]:
    """The traces of several shards, one after another, with steps that go on counting."""
    found: list[dict[str, Any]] = []
    for trace in traces:
        begun = int(found[-1]["step"]) + 1 if found else 0
        found += [{**entry, "step": begun + int(entry["step"])} for entry in trace]
    return tuple(found)


def seen(trace: Any) -> int:
    """Record-epochs of a training: how often it looked at a record, counted from its trace."""
    return int(sum(entry.get("seen", 0) for entry in trace))
