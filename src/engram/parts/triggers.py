"""What a picture carries that means a class to whoever knows of it: a patch, or a faint veil.

A patch stands in the place of some pixels. The mask says of which, by their place alone: a patch
may well be black. A veil is added to all pixels, and what leaves their range is cut off. What
records share says which trigger was planted, in `trigger` (two rows: mask and values) and
`trigger_class`; `trigger_range` is there for a veil alone.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from engram.core import EngramError, Split
from engram.parts.record_shape import layout_of_records

TRIGGER, CLASS, VEILED = "trigger", "trigger_class", "trigger_range"


@dataclass(frozen=True, eq=False)
class Trigger:
    """A patch, or a veil, and the class that it stands for.

    Attributes:
        mask: 1 where the trigger is, else 0.
        values: Of its pixels, in the units of the data; elsewhere they do not matter.
        target: The class.
        veiled: Smallest and largest value of a pixel, where values are added to a picture and do
            not stand in its place; None: they stand in its place.
    """

    mask: Float32[np.ndarray, " d"]
    values: Float32[np.ndarray, " d"]
    target: int
    veiled: tuple[float, float] | None = None

    def pasted(self, features: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        """X (1 - m) + m T, or X + T within the range: pictures with the trigger on them."""
        if self.veiled is None:
            return np.where(self.mask > 0, self.values, features)
        low, high = (np.float32(end) for end in self.veiled)
        return np.clip(features + self.mask * self.values, low, high)

    def shared(self) -> dict[str, np.ndarray]:
        """What is written beside records that carry it."""
        told = {TRIGGER: np.stack([self.mask, self.values]), CLASS: np.array(self.target)}
        return told if self.veiled is None else {**told, VEILED: np.array(self.veiled)}


def corner(
    split: Split, width: int, shape: tuple[int, ...], side: int, margin: int
) -> Float32[np.ndarray, " d"]:
    """The mask of a square in the lower right corner, over all channels.

    Args:
        split: The records.
        width: How many features they have.
        shape: Channels, height and width, if stated.
        side: Of the square, in pixels.
        margin: Pixels between it and the border.

    Raises:
        EngramError: The square does not fit.
    """
    layout = layout_of_records("cnn", shape, split, width, 2)
    channels, height, across = layout.shape
    if side < 1 or margin < 0 or side + margin > min(height, across):
        raise EngramError(
            f"a trigger of {side} pixels, {margin} from the border, is not within pictures of "
            f"{height} by {across}",
            hint="2 pixels and a margin of 1 suit small pictures",
        )
    mask = np.zeros((channels, height, across), np.float32)
    mask[:, height - margin - side : height - margin, across - margin - side : across - margin] = 1
    return (mask.transpose(1, 2, 0) if layout.colours_last else mask).reshape(-1)


def trigger_of(split: Split) -> Trigger | None:
    """The trigger that stands beside the records; None where there is none.

    Raises:
        EngramError: It is of another size than the records.
    """
    if TRIGGER not in split.shared or CLASS not in split.shared:
        return None
    mask, values = np.asarray(split.shared[TRIGGER], np.float32)
    width = split.matrix("features").shape[1]
    if len(mask) != width:
        raise EngramError(
            f"the trigger of split {split.name!r} has {len(mask)} pixels, but its records {width}",
            hint="name records of the kind that the trigger was made for",
        )
    ends = split.shared.get(VEILED)
    veiled = None if ends is None else (float(ends[0]), float(ends[1]))
    return Trigger(mask, values, int(split.shared[CLASS]), veiled)
