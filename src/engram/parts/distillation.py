"""One interface of everything that turns many pictures into a few that teach the same.

A distilled picture is a parameter: it starts as a real one (or as noise), and is changed until
networks learn from the few what they would learn from all. It stays within the range of a pixel.
Its contents no longer match any record, so it says where it comes from: the column `initial` has
the record that it started as, and what all distilled records share has in `origins` all records
that had a say - which is every record that was given - and in `origin_owners` whose those are. A
deletion request that names any of them finds the distilled ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from engram.core import EngramError, Run, Split, torch_seeded
from engram.parts.classifier_training import STANDARDS
from engram.parts.labelled import check_labelled_split, features_of, labels_of
from engram.parts.networks import Layout, Network
from engram.parts.origin_owners import ORIGIN_OWNERS, owners_behind
from engram.parts.origins import ORIGINS, origins_of
from engram.parts.protection import RANGE
from engram.parts.record_shape import layout_of_records
from engram.parts.soft_labels import refuse_soft_labels, with_soft_labels
from engram.parts.training import check_at_least, check_one_of

INITIAL = "initial"
"""The column that says which record a distilled one started as."""


@dataclass(frozen=True, eq=False)
class Source:
    """The records that are to be distilled.

    Attributes:
        split: Where they come from.
        features: Float32, in the units of the data.
        low: Smallest value of a pixel.
        high: Largest value.
    """

    split: Split
    features: Float32[np.ndarray, "n d"]
    low: float
    high: float

    def __len__(self) -> int:
        return len(self.features)

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """Whole numbers from 0 on."""
        check_labelled_split(self.split)
        return labels_of(self.split)

    @property
    def standards(self) -> Float32[np.ndarray, "2 d"]:
        """One mean and one spread of all pixels, as every feature's."""
        spread = float(self.features.std()) or 1.0
        pair = np.array([[self.features.mean()], [spread]], np.float32)
        return np.repeat(pair, self.features.shape[1], axis=1)

    def rows(self, places: Int[np.ndarray, " rows"]) -> Float[Tensor, "rows d"]:
        """Some records."""
        return torch.from_numpy(self.features[places])


@dataclass(frozen=True)
class Distillation:
    """What all methods share that distil pictures through networks of their own."""

    columns: ClassVar[tuple[str, ...]] = ("features", "label")
    """What a record must have."""

    first: Literal["real", "noise"] = "real"
    """What a distilled picture starts as: a real one drawn by lot, or noise."""
    pixels: tuple[float, ...] = ()
    """Smallest and largest value of a pixel. Empty: what the data says in `pixel_range`, else 0
    and 1."""
    architecture: Literal["mlp", "cnn", "convnet", "resnet"] = "cnn"
    """Of the networks that look at the pictures: mlp, cnn, convnet or resnet. A cnn has the mean
    of all places before its last layer, and a convnet tells them apart."""
    width: int = 32
    """Their hidden numbers (mlp), or channels of the first block (cnn, convnet, resnet)."""
    layers: int = 2
    """Their hidden layers (mlp), or blocks (cnn, convnet, resnet)."""
    shape: tuple[int, ...] = ()
    """Channels, height and width of a picture. Empty: what the data says, else a square."""
    batch_size: int = 128
    """Real pictures that are looked at together."""

    def __post_init__(self) -> None:
        check_one_of("first", self.first, ("real", "noise"))
        for name in ("width", "layers", "batch_size"):
            check_at_least(name, getattr(self, name), 1, "1 is the least that works")
        Layout(self.architecture, self.shape or (1, 1, 1), 2, self.width, self.layers)
        if self.pixels and not (len(self.pixels) == 2 and self.pixels[0] < self.pixels[1]):
            raise EngramError(
                f"pixels is {self.pixels}, but must be two numbers, the smaller one first",
                hint="0 1, or 0 16, or 0 255",
            )

    def source(self, split: Split) -> Source:
        """The pictures of `split`, checked against the range of a pixel.

        Raises:
            EngramError: There are none, one is out of range, or they have soft labels already.
        """
        if not len(split):
            raise EngramError(f"split {split.name!r} has no records", hint="give at least one")
        refuse_soft_labels(split, "a distillation")
        raw = features_of(split)
        low, high = (float(x) for x in (self.pixels or split.shared.get(RANGE, (0.0, 1.0))))
        if not raw.size or raw.min() < low or raw.max() > high:
            least, most = (raw.min(), raw.max()) if raw.size else (0, 0)
            raise EngramError(
                f"pixels of split {split.name!r} go from {least:g} to {most:g}, beyond {low:g} "
                f"to {high:g}",
                hint="say their range with --pixels LOW HIGH, such as 0 16 or 0 255",
            )
        return Source(split, raw, low, high)

    def network(self, source: Source, outputs: int, run: Run, *path: str | int) -> Network:
        """A network with random weights, which the purpose `path` decides."""
        layout = layout_of_records(
            self.architecture,
            self.shape,
            source.split,
            source.features.shape[1],
            outputs,
            (self.width, self.layers),
        )
        with torch_seeded(run.seed, *path):
            network = layout.build()
        mean, scale = torch.from_numpy(source.standards)
        network.mean.copy_(mean)
        network.scale.copy_(scale)
        return network.to(run.device)

    def begun(
        self, source: Source, places: Int[np.ndarray, " m"], run: Run
    ) -> Float[Tensor, "m d"]:
        """The pictures that a distillation starts from, as a parameter."""
        start = source.rows(places)
        if self.first == "noise":
            drawn = run.stream("first pictures").uniform(source.low, source.high, start.shape)
            start = torch.from_numpy(drawn.astype(np.float32))
        return start.to(run.device).clamp_(source.low, source.high).requires_grad_()

    def finished(
        self,
        source: Source,
        pictures: Float[Tensor, "m d"],
        places: Int[np.ndarray, " m"],
        labels: Sequence[int] | Int[np.ndarray, " m"],
        soft: Float[Tensor, "m outputs"] | None = None,
    ) -> Split:
        """The distilled records, with all that says where they come from.

        Args:
            source: What they were distilled from.
            pictures: In the units of the data.
            places: Which record each of them started as, or would have.
            labels: The class of each.
            soft: What a network is to say of each, where that was learnt too.
        """
        values = np.clip(pictures.detach().cpu().numpy().astype(np.float32), *bounds(source))
        digests = source.split.digests
        begun = [digests[int(i)] if self.first == "real" else "" for i in places]
        older = frozenset().union(*origins_of(source.split))
        behind = {
            ORIGINS: sorted({*digests, *source.split.ids, *older}),
            ORIGIN_OWNERS: sorted(owners_behind(source.split)),
        }
        shared = {
            **source.split.shared,
            STANDARDS: source.standards,
            **{name: np.array(found) for name, found in behind.items() if found},
        }
        made = Split.of(
            f"distilled {source.split.name}",
            features=values,
            label=np.asarray(labels, np.int64),
            **{INITIAL: begun},
            shared=shared,
        )
        if soft is not None:
            soft_values = soft.detach().cpu().numpy()
            table = with_soft_labels(made, soft_values).records  # an id is the whole content's
            made = Split.from_table(made.name, table, shared=shared)
        return made


def bounds(source: Source) -> tuple[np.float32, np.float32]:
    """The float32 numbers nearest to the range of a pixel that lie within it."""
    low, high = np.float32(source.low), np.float32(source.high)
    low = np.nextafter(low, np.float32(np.inf)) if float(low) < source.low else low
    high = np.nextafter(high, np.float32(-np.inf)) if float(high) > source.high else high
    return low, high


def drawn_by_class(
    labels: Int[np.ndarray, " n"], each: int, rng: np.random.Generator
) -> Int[np.ndarray, " m"]:
    """`each` records of every class there is, class after class; all different where they can be.

    Raises:
        EngramError: There is only one class.
    """
    classes = np.unique(labels)
    if len(classes) < 2:
        raise EngramError(
            f"all {len(labels)} records have the label {classes[0] if len(classes) else '-'}",
            hint="give records of at least two classes",
        )
    found = []
    for label in classes:
        own = np.flatnonzero(labels == label)
        rounds = [rng.permutation(own) for _ in range(-(-each // len(own)))]
        found.append(np.concatenate(rounds)[:each])
    return np.concatenate(found)


def before_last(network: Network, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
    """What goes into the network's last layer: its features.

    Raises:
        EngramError: It is a module of somebody else, whose last layer is not known.
    """
    body = network.body
    if not (isinstance(body, nn.Sequential) and isinstance(body[-1], nn.Linear)):
        raise EngramError(
            f"the network {network.layout.architecture} has no last layer that is known",
            hint="take the architecture mlp, cnn, convnet or resnet",
        )
    return body[:-1](network.shaped(features))


def check_positive(name: str, value: float) -> None:
    """Refuse what is not above 0 and finite."""
    if not 0 < value < np.inf:
        raise EngramError(f"{name} is {value}, but must be above 0", hint="see its default")
