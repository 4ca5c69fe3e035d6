"""What an attack returns: one number a record."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from engram.core.errors import EngramError


@dataclass(frozen=True, eq=False)
class Scores:
    """One number per record. Higher always means 'more likely memorised'.

    Raises:
        EngramError: A value is missing or not finite (the record is named).
    """

    ids: Sequence[str]
    values: Float[np.ndarray, " n"]
    unit: str = ""

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64)
        object.__setattr__(self, "values", values)
        if values.shape != (len(self.ids),):
            raise EngramError(f"{len(self.ids)} ids but scores of shape {values.shape}")
        if not np.isfinite(values).all():
            bad = self.ids[int(np.argmin(np.isfinite(values)))]
            raise EngramError(
                f"record {bad!r} has a score that is not finite "
                f"({np.sum(~np.isfinite(values))} such records)",
                hint="a score must be a number for every record; look at how it is computed",
            )
        values.setflags(write=False)
