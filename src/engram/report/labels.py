"""Names beside curves instead of a legend: put each where it covers nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

Point = tuple[float | int, float | int]
_LETTER, _HEIGHT, _GAP = 8.4, 14.0, 5.0


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float | int
    top: float | int
    right: float | int
    bottom: float | int

    def within(self, other: "Box") -> bool:
        """Whether this rectangle lies wholly within another."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )

    def overlap(self, other: "Box") -> float:
        """Shared area, in square pixels."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(across, 0.0) * max(down, 0.0)


def place(names: Sequence[str], lines: Sequence[list[Point]], frame: Box) -> list[Point | None]:
    """Where the baseline of each name starts, in order; None for a curve without points.

    Each name tries spots along its own curve, above and below it, and takes the one that covers
    the fewest points of any curve and no name placed before; being far left, where curves part,
    breaks ties.
    """
    dense = [_densely(points) for points in lines]
    taken: list[Box] = []
    spots: list[Point | None] = []
    for place_, (name, own) in enumerate(zip(names, dense, strict=True)):
        boxes = _candidates(name, own, frame)
        if not boxes:
            spots.append(None)
            continue
        others = np.concatenate([np.empty((0, 2)), *dense[:place_], *dense[place_ + 1 :]])
        costs = [_cost(box, own, others, taken) for box in boxes]
        best = boxes[int(np.argmin(costs))]
        taken.append(best)
        spots.append((best.left, best.bottom - 3))
    return spots


def _densely(points: list[Point]) -> Float[np.ndarray, "k 2"]:
    """Points no more than 4 pixels apart along the same line."""
    filled = list(points[:1])
    for (x0, y0), (x1, y1) in pairwise(points):
        pieces = max(1, int(max(abs(x1 - x0), abs(y1 - y0)) // 4))
        filled += [
            (x0 + (x1 - x0) * k / pieces, y0 + (y1 - y0) * k / pieces) for k in range(1, pieces + 1)
        ]
    return np.array(filled, dtype=float).reshape(-1, 2)


def _candidates(name: str, own: Float[np.ndarray, "k 2"], frame: Box) -> list[Box]:
    wide = _LETTER * len(name)
    boxes = []
    for x, y in own[:: max(1, len(own) // 60)].tolist():
        # Above to the left, above to the right, below to the right, below to the left.
        for left, top in (
            (x - wide - _GAP, y - _HEIGHT - _GAP),
            (x + _GAP, y - _HEIGHT - _GAP),
            (x + _GAP, y + _GAP),
            (x - wide - _GAP, y + _GAP),
        ):
            box = Box(left, top, left + wide, top + _HEIGHT)
            if box.within(frame):
                boxes.append(box)
    return boxes


def _cost(
    box: Box, own: Float[np.ndarray, "k 2"], others: Float[np.ndarray, "m 2"], taken: list[Box]
) -> float:
    covered = _inside(box, own) + _inside(box, others)
    overlap = sum(box.overlap(other) for other in taken)
    # A name must be nearer to its own curve than to any other.
    mistaken = max(_gap(box, own) - _gap(box, others) + 6, 0.0)
    return 10 * overlap + 5 * covered + 3 * mistaken + 0.02 * box.left


def _inside(box: Box, points: Float[np.ndarray, "k 2"]) -> int:
    x, y = points[:, 0], points[:, 1]
    within = (x >= box.left) & (x <= box.right) & (y >= box.top) & (y <= box.bottom)
    return int(np.count_nonzero(within))


def _gap(box: Box, points: Float[np.ndarray, "k 2"]) -> float:
    """Pixels between a rectangle and the nearest of some points."""
    x, y = points[:, 0], points[:, 1]
    across = np.maximum(np.maximum(box.left - x, x - box.right), 0.0)
    down = np.maximum(np.maximum(box.top - y, y - box.bottom), 0.0)
    return float(np.min(np.hypot(across, down), initial=99.0))
