"""Models trained as the target was, on known halves of the records: what shadow attacks compare."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from engram.core.errors import EngramError
from engram.core.target import Target


@dataclass(frozen=True, eq=False)
class Shadows:
    """Shadow models, and which records of a split each of them was trained on.

    Attributes:
        targets: The models; opened one at a time as they are asked for, so iterate once.
        saw: Whether shadow k was trained on record i of the split; (shadows, n). The copies of a
            record, and the records of one owner, are seen together or not at all.
    """

    targets: Sequence[Target]
    saw: Bool[np.ndarray, "shadows n"]

    def __post_init__(self) -> None:
        if len(self.targets) != len(self.saw):
            raise EngramError(
                f"there are {len(self.targets)} shadows, but it is told of {len(self.saw)} what "
                "they saw",
                hint="this is a mistake in the engine, not in your data",
            )

    def __len__(self) -> int:
        return len(self.targets)
