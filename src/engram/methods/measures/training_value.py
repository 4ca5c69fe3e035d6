"""What the records that a model was trained on are worth to others who train on them.

Distilled or protected records are made for training, or against it, and look well or badly through
the very network that they were made with. So networks of several architectures are trained on them
from random weights, and asked about outsiders. What random real records do, as many and of the same
classes, is the yardstick: a distilled set that does not beat it is not worth its making.

    accuracy = share of outsiders with argmax f_A(x) = label,   f_A trained on the members alone
    gain     = accuracy(members) - accuracy(random real records, as many of each class)

All networks, whatever they are trained on, take equally many steps and start from the same weights.
The interval of a gain resamples outsiders, not trainings.

Differs from the paper: 1. It trains several networks of an architecture and reports their spread;
here it is one of each, or as many as `repeats` says, whose accuracies are averaged. 2. The networks
are small ones of our own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.families.classifier import FAMILY, ClassifierModel
from engram.parts.classifier_training import ClassifierTraining
from engram.parts.labelled import check_labelled_split, labels_of
from engram.parts.networks import ARCHITECTURES
from engram.parts.soft_labels import SOFT
from engram.parts.sub_run import SubRun
from engram.parts.training import check_at_least, check_one_of, key_of
from engram.stats.intervals import mean_finding, proportion

METHOD = "training-value"


@dataclass(frozen=True)
class TrainingValue:
    """Accuracy of several architectures trained on the members, beside random real records."""

    paper: ClassVar[Paper] = Paper(
        title="Dataset Condensation with Gradient Matching",
        authors="Zhao, Mopuri and Bilen",
        year=2021,
        url="https://arxiv.org/abs/2006.05929",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    access: ClassVar[Access] = "logits"
    families: ClassVar[frozenset[str]] = frozenset({"classifier"})

    source: str = ""
    """The real records that the members were made from; random ones among them are the yardstick.
    Empty: there is none."""
    architectures: tuple[str, ...] = ("mlp", "cnn", "resnet")
    """What is trained: mlp, cnn or resnet."""
    width: int = 32
    """Hidden numbers (mlp), or channels of the first block (cnn, resnet)."""
    layers: int = 2
    """Hidden layers (mlp), or blocks (cnn, resnet)."""
    steps: int = 300
    """About how many steps each of them takes."""
    batch_size: int = 32
    """Records in a step."""
    learning_rate: float = 3e-3
    """The highest learning rate."""
    repeats: int = 1
    """Trainings of each architecture, each with other weights and other random records."""

    def __post_init__(self) -> None:
        for name in self.architectures:
            check_one_of("architectures", name, tuple(ARCHITECTURES))
        if not self.architectures:
            raise EngramError("no architectures are given", hint="mlp cnn resnet are all there are")
        for name in ("steps", "repeats", "width", "layers", "batch_size"):
            check_at_least(name, getattr(self, name), 1, "1 is the least that works")

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return an accuracy on the outsiders for each architecture, and the gains."""
        for name in ("members", "outsiders"):
            if name not in splits or len(splits[name]) < 2:
                n = len(splits[name]) if name in splits else 0
                why = f"needs at least 2 {name}, has {n}"
                return (Finding.missing("training value", why, n).tagged(method=METHOD),)
        members, outsiders = splits["members"], splits["outsiders"]
        for split in (members, outsiders):
            check_labelled_split(split)
        found: list[Finding] = []
        source = run.records(self.source, target) if self.source else None
        for place, name in enumerate(self.architectures):
            run.progress(place, len(self.architectures), "training from scratch")
            found += self._of(name, members, outsiders, source, run)
        run.progress(len(self.architectures), len(self.architectures), "training from scratch")
        return tuple(found)

    def _of(
        self, name: str, members: Split, outsiders: Split, source: Split | None, run: Run
    ) -> list[Finding]:
        hits = self.hits(name, lambda k: members, outsiders, run)
        found = [self._finding(f"accuracy of a {name} trained on the members", hits, name, run)]
        if source is not None:
            plain = self.hits(
                name,
                lambda k: like(members, source, run.stream(METHOD, "records", k)),
                outsiders,
                run,
            )
            what = f"accuracy of a {name} trained on random real records"
            found.append(self._finding(what, plain, name, run))
            gain = f"gain of a {name} over random real records"
            found.append(self._finding(gain, hits - plain, name, run))
        return found

    def _finding(
        self, what: str, values: Float[np.ndarray, " outsiders"], name: str, run: Run
    ) -> Finding:
        if self.repeats == 1 and "gain" not in what:
            found = proportion(int(values.sum()), len(values), what)
        else:
            found = mean_finding(values, what, "", run.stream(METHOD, what))
        note = (
            f"{self.repeats} training{'s' if self.repeats > 1 else ''} of about {self.steps} steps"
        )
        return found.tagged(method=METHOD, split="outsiders", better="higher", note=note)

    def hits(
        self, name: str, records: Callable[[int], Split], outsiders: Split, run: Run
    ) -> Float[np.ndarray, " n"]:
        """How often each outsider was classified right, as a share of the repeats.

        Args:
            name: The architecture.
            records: What to train on, by the number of the repeat.
            outsiders: Who is asked about.
            run: Its seed decides weights and batches.
        """
        labels, total = labels_of(outsiders), np.zeros(len(outsiders))
        for repeat in range(self.repeats):
            split, part = records(repeat), SubRun.of(run, METHOD, name, repeat)
            recipe = self.training(name, len(split))
            classes = 1 + int(max(labels_of(split).max(), labels.max()))
            network = recipe.start(split, part, 0 if SOFT in split.columns else classes)
            key = key_of(recipe, part.seed, split.fingerprint)
            recipe.learn(network, split, part, key, file=f"{METHOD}.safetensors")
            said = FAMILY.logits(ClassifierModel(network), outsiders).argmax(1)
            total += said == labels
        return total / self.repeats

    def training(self, name: str, records: int) -> ClassifierTraining:
        """How one architecture is trained on so many records."""
        per_epoch = -(-records // self.batch_size)
        return ClassifierTraining(
            name,
            self.width,
            self.layers,
            epochs=max(1, round(self.steps / per_epoch)),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
        )


def like(members: Split, source: Split, rng: np.random.Generator) -> Split:
    """Random records of the source, as many of each class as the members have.

    Raises:
        EngramError: The source has too few of a class.
    """
    labels, chosen = labels_of(source), []
    for label, count in zip(*np.unique(labels_of(members), return_counts=True), strict=True):
        own = np.flatnonzero(labels == label)
        if len(own) < count:
            raise EngramError(
                f"the source has {len(own)} records of class {label}, but the members {count}",
                hint="name the records that the members were made from",
            )
        chosen.append(rng.permutation(own)[:count])
    return source.take(np.concatenate(chosen), "random real records")
