"""Training sets in which some records are protected and the others are as they were."""

import numpy as np

from engram.core import EngramError, Split
from engram.parts.origins import with_origins


def mixed(
    clean: Split, protected: Split, share: float, rng: np.random.Generator
) -> tuple[Split, Split]:
    """A mixture, and what of it is clean; every record stands in one of its versions.

    Args:
        clean: The records as they were.
        protected: The same ids after they were protected, in the same order.
        share: Of the protected ones, in [0, 1].
        rng: Decides which these are.

    Returns:
        All records in their order, and those that were not protected. Each names its original
        in `origins`, so that a deletion request finds it in either version.

    Raises:
        EngramError: The two splits do not hold the same ids.
    """
    if list(clean.ids) != list(protected.ids):
        raise EngramError(
            f"{protected.name!r} does not hold the records of {clean.name!r} in their order",
            hint="protect that split, and change nothing else",
        )
    if not 0 <= share <= 1:
        raise EngramError(f"share is {share}, but must be in [0, 1]", hint="0.5 protects a half")
    count = round(share * len(clean))
    moved = np.zeros(len(clean), bool)
    moved[rng.permutation(len(clean))[:count]] = True
    kept = with_origins(clean, [(digest,) for digest in clean.digests]).where(~moved)
    both = kept.joined(protected.where(moved)).select(clean.ids, name="mixture")
    return both, kept
