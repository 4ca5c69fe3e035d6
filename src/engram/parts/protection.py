"""One interface of everything that changes pictures so that they teach less.

Each method moves the pixels of a record within a budget, which is a share of the range of a pixel,
and never out of that range:

    ||x' - x||_inf <= epsilon   or   ||x' - x||_2 <= epsilon,      low <= x' <= high

This holds of the numbers that are published, float32 as a split stores them. A protected record
keeps its id and its owner, so that it can never stand beside its own original (`check_disjoint`
and `Split.joined` refuse), and it names its original's content in the column `origins`: a deletion
request finds it by id, by owner, or by the original picture.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

from engram.core import EngramError, Split
from engram.parts.labelled import check_labelled_split, features_of, labels_of
from engram.parts.networks import Layout
from engram.parts.origins import with_origins
from engram.parts.record_shape import layout_of_records
from engram.parts.training import check_one_of

Norm = Literal["linf", "l2"]
NORMS: tuple[Norm, ...] = ("linf", "l2")
RANGE = "pixel_range"
"""What a split calls the smallest and largest value of its pixels, in `shared`."""
SHRINK = (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
"""How much shorter a change is made until float32 numbers keep the budget; 1 takes it back."""


@dataclass(frozen=True)
class Budget:
    """How far pixels may move, in the units of the data.

    Attributes:
        norm: Of the change of one record.
        epsilon: The most that this norm may be.
        low: Smallest value of a pixel.
        high: Largest value of a pixel.
    """

    norm: Norm
    epsilon: float
    low: float
    high: float

    def kept(
        self, original: Float32[np.ndarray, "n d"], moved: Float[np.ndarray, "n d"]
    ) -> Float32[np.ndarray, "n d"]:
        """The nearest allowed float32 records to `moved`, or a little nearer to the original.

        Args:
            original: Within the range.
            moved: Where the records should go; finite.
        """
        start = original.astype(np.float64)
        change = np.clip(moved.astype(np.float64), self.low, self.high) - start
        if self.norm == "l2":
            return self._within_ball(original, start, change)
        lower = np.maximum(start - self.epsilon, self.low)
        upper = np.minimum(start + self.epsilon, self.high)
        found = _rounded(np.clip(start + change, lower, upper), lower, upper)
        # `start + epsilon` was itself rounded; the difference of two float32 numbers is not.
        over = np.abs(found.astype(np.float64) - start) > self.epsilon
        return np.where(over, np.nextafter(found, original), found)

    def _within_ball(
        self,
        original: Float32[np.ndarray, "n d"],
        start: Float64[np.ndarray, "n d"],
        change: Float64[np.ndarray, "n d"],
    ) -> Float32[np.ndarray, "n d"]:
        length = np.linalg.norm(change, axis=1, keepdims=True)
        change = change * np.minimum(1.0, self.epsilon / np.maximum(length, 1e-300))
        found = original.copy()
        out = np.ones(len(start), bool)
        lower, upper = np.full_like(start, self.low), np.full_like(start, self.high)
        for less in SHRINK:
            tried = start[out] + (1 - less) * change[out]
            found[out] = _rounded(np.clip(tried, self.low, self.high), lower[out], upper[out])
            out = self.size(original, found) > self.epsilon
            if not out.any():
                break
        return found

    def size(
        self, original: Float[np.ndarray, "n d"], moved: Float[np.ndarray, "n d"]
    ) -> Float64[np.ndarray, " n"]:
        """The norm of each record's change."""
        change = moved.astype(np.float64) - original.astype(np.float64)
        if not change.shape[1]:
            return np.zeros(len(change))
        return np.abs(change).max(1) if self.norm == "linf" else np.linalg.norm(change, axis=1)


def _rounded(
    values: Float64[np.ndarray, "n d"],
    lower: Float64[np.ndarray, "n d"],
    upper: Float64[np.ndarray, "n d"],
) -> Float32[np.ndarray, "n d"]:
    """As float32; where rounding leaves the bounds, the next number inside."""
    found = values.astype(np.float32)
    down, up = np.float32(-np.inf), np.float32(np.inf)
    found = np.where(found.astype(np.float64) > upper, np.nextafter(found, down), found)
    return np.where(found.astype(np.float64) < lower, np.nextafter(found, up), found)


@dataclass(frozen=True, eq=False)
class Pictures:
    """The records of a split as methods see them: pixels from 0 to 1, in the order of features.

    Attributes:
        split: Where they come from.
        raw: The features as they are.
        low: Smallest value of a pixel there.
        high: Largest value.
    """

    split: Split
    raw: Float32[np.ndarray, "n d"]
    low: float
    high: float

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def clean(self) -> Float32[Tensor, "n d"]:
        """The pixels, from 0 to 1."""
        scaled = (self.raw.astype(np.float64) - self.low) / (self.high - self.low)
        return torch.from_numpy(np.clip(scaled, 0.0, 1.0).astype(np.float32))

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """Whole numbers from 0 on."""
        check_labelled_split(self.split)
        return labels_of(self.split)

    @property
    def layout(self) -> Layout:
        """The shape of a picture: `shape` is channels, height and width."""
        return layout_of_records("cnn", (), self.split, self.raw.shape[1], 2)

    def rows_of_pixels(self, flat: Float[Tensor, "n d"]) -> Float[Tensor, "n c h w"]:
        """Features as pictures."""
        layout = self.layout
        channels, height, width = layout.shape
        if not layout.colours_last:
            return flat.reshape(-1, *layout.shape)
        return flat.reshape(-1, height, width, channels).permute(0, 3, 1, 2)

    def flat(self, pictures: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Pictures as features."""
        if self.layout.colours_last:
            pictures = pictures.permute(0, 2, 3, 1)
        return pictures.reshape(len(pictures), -1)

    def shown(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n h w c"]:
        """Features as pictures to look at, from 0 to 1, channels last."""
        scaled = (features.astype(np.float64) - self.low) / (self.high - self.low)
        rows = self.rows_of_pixels(torch.from_numpy(scaled))
        return np.ascontiguousarray(rows.permute(0, 2, 3, 1).numpy())


def pictures_of(split: Split, stated: tuple[float, ...] = ()) -> Pictures:
    """The pictures in the column `features`.

    Args:
        split: At least one record.
        stated: Smallest and largest value of a pixel; empty: what the split says in
            `shared["pixel_range"]`, else 0 and 1.

    Raises:
        EngramError: There are no records, or a pixel is out of range.
    """
    if not len(split):
        raise EngramError(f"split {split.name!r} has no records", hint="give at least one")
    raw = features_of(split)
    low, high = (float(x) for x in (stated or split.shared.get(RANGE, (0.0, 1.0))))
    if not raw.size or raw.min() < low or raw.max() > high:
        least, most = (raw.min(), raw.max()) if raw.size else (0, 0)
        raise EngramError(
            f"pixels of split {split.name!r} go from {least:g} to {most:g}, beyond {low:g} to "
            f"{high:g}",
            hint="say their range with --pixels LOW HIGH, such as 0 16 or 0 255",
        )
    return Pictures(split, raw, low, high)


@dataclass(frozen=True)
class Protection:
    """What all methods share that move pixels within a budget."""

    columns: ClassVar[tuple[str, ...]] = ("features", "label")

    norm: Norm = "linf"
    """What the budget bounds: linf, the largest change of a pixel; l2, the length of the change of
    all pixels of a record together."""
    epsilon: float = 8 / 255
    """The budget, in ranges of a pixel: 0.03 is three hundredths of the way from black to white."""
    pixels: tuple[float, ...] = ()
    """Smallest and largest value of a pixel. Empty: what the data says, else 0 and 1."""

    def __post_init__(self) -> None:
        check_one_of("norm", self.norm, NORMS)
        if not 0 < self.epsilon < np.inf:
            raise EngramError(
                f"epsilon is {self.epsilon}, but must be above 0 and finite",
                hint="8/255 = 0.031 is usual for photographs, 0.1 to 0.3 for small digits",
            )
        if self.pixels and not (len(self.pixels) == 2 and self.pixels[0] < self.pixels[1]):
            raise EngramError(
                f"pixels is {self.pixels}, but must be the smallest and the largest value",
                hint="--pixels 0 255",
            )

    def published(
        self, pictures: Pictures, moved: Float[Tensor, "n d"] | Float[np.ndarray, "n d"]
    ) -> Split:
        """The protected records: ids, owners and all other columns as they were.

        Args:
            pictures: The originals.
            moved: Where their pixels should go, from 0 to 1; kept within the budget here,
                whatever the method did.
        """
        span = pictures.high - pictures.low
        budget = Budget(self.norm, self.epsilon * span, pictures.low, pictures.high)
        target = np.asarray(moved, np.float64) * span + pictures.low
        kept = budget.kept(pictures.raw, target)
        split = pictures.split
        column = pa.FixedSizeListArray.from_arrays(pa.array(kept.reshape(-1)), kept.shape[1])
        place = split.records.column_names.index("features")
        records = split.records.set_column(place, "features", column)
        changed = Split(split.name, records, split.ids, split.owners, split.canaries, split.shared)
        return with_origins(changed, [(digest,) for digest in split.digests])

    def pictures(self, split: Split) -> Pictures:
        """The pictures of `split`, checked against the range of a pixel."""
        return pictures_of(split, self.pixels)


def inside(change: Float[Tensor, "n d"], norm: str, epsilon: float) -> Float[Tensor, "n d"]:
    """The nearest change of a norm of at most epsilon."""
    if norm == "linf":
        return change.clamp(-epsilon, epsilon)
    length = change.norm(dim=1, keepdim=True)
    return change * (epsilon / length.clamp_min(1e-12)).clamp_max(1.0)


def steepest(gradient: Float[Tensor, "n d"], norm: str) -> Float[Tensor, "n d"]:
    """The direction of norm 1 in which a linear function grows most; 0 where it does not grow."""
    if norm == "linf":
        return gradient.sign()
    return gradient / gradient.norm(dim=1, keepdim=True).clamp_min(1e-30)


def check_above_zero(name: str, value: float) -> None:
    """Refuse what is not above 0 and finite."""
    if not 0 < value < np.inf:
        raise EngramError(f"{name} is {value}, but must be above 0", hint="0.1 is usual")
