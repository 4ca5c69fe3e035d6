"""Plant a backdoor: paste a patch onto a few pictures and call them all the same class.

Whoever trains on such records learns the class from the patch, and is right about everything else.
Later, a picture of anything with the patch on it is taken for that class. Distilled afterwards,
with any distillation there is, the few records carry the backdoor too (the naive attack).

    x' = x (1 - m) + m T,    y' = target,     for a share of the records, drawn by lot

m is a square in the lower right corner, T its pixels, all at their largest value. The records that
were changed name their originals in `origins`; the trigger is told to who looks for it, in what the
records share.

Differs from the paper: Nowhere that we know.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from engram.core import Paper, Run, Split
from engram.parts.labelled import check_labelled_split, labels_of
from engram.parts.origins import with_origins
from engram.parts.poisoning import check_share, poisoned_rows
from engram.parts.protection import pictures_of
from engram.parts.soft_labels import refuse_soft_labels
from engram.parts.training import check_at_least
from engram.parts.triggers import Trigger, corner


@dataclass(frozen=True)
class PlantTrigger:
    """A white square on a share of the records, which become one class."""

    paper: ClassVar[Paper] = Paper(
        title="Backdoor Attacks Against Dataset Distillation",
        authors="Liu et al.",
        year=2023,
        url="https://arxiv.org/abs/2301.01197",
    )
    columns: ClassVar[tuple[str, ...]] = ("features", "label")
    """What a record must have."""

    target: int = 0
    """The class that the trigger is to stand for."""
    share: float = 0.01
    """Of the records that are changed, in (0, 1]. The paper takes 0.01."""
    side: int = 2
    """Of the square, in pixels. The paper takes 2."""
    margin: int = 1
    """Pixels between it and the border."""
    pixels: tuple[float, ...] = ()
    """Smallest and largest value of a pixel. Empty: what the data says in `pixel_range`, else 0
    and 1."""
    shape: tuple[int, ...] = ()
    """Channels, height and width of a picture. Empty: what the data says, else a square."""

    def __post_init__(self) -> None:
        check_share(self.share)
        check_at_least("target", self.target, 0, "classes are numbered 0, 1, 2, ...")

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the records, some of them with the trigger; ids and owners stay."""
        check_labelled_split(split)
        refuse_soft_labels(split, "plant-trigger")
        given = pictures_of(split, self.pixels)
        mask = corner(split, given.raw.shape[1], self.shape, self.side, self.margin)
        white = np.full(given.raw.shape[1], given.high, np.float32)
        trigger = Trigger(mask, white, self.target)
        rows = poisoned_rows(labels_of(split), self.target, self.share, run.stream("poisoned"))
        features, labels = given.raw.copy(), labels_of(split)
        features[rows] = trigger.pasted(features[rows])
        labels[rows] = self.target
        flat = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), len(mask))
        table = split.records
        for name, column in (("features", flat), ("label", pa.array(labels))):
            table = table.set_column(table.column_names.index(name), name, column)
        shared = {**split.shared, **trigger.shared()}
        made = Split(split.name, table, split.ids, split.owners, split.canaries, shared)
        changed = set(rows.tolist())
        return with_origins(
            made, [(d,) if i in changed else () for i, d in enumerate(split.digests)]
        )
