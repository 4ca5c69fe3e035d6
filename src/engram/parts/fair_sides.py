"""Whether two sets of records may be compared: do they differ without the model?"""

import numpy as np

from engram.core import Split
from engram.stats.split_audit import audit_split


def told_apart(one: Split, other: Split, rng: np.random.Generator) -> tuple[str, str]:
    """Why nothing can be claimed from comparing the two, and what makes a claim doubtful.

    Both are "" where they cannot be told apart without the model.
    """
    common = [column for column in one.columns if column in other.columns]
    both = one.only(common).joined(other.only(common))
    records = None
    if "text" in common:
        records = both.texts
    elif "features" in common:
        records = both.matrix("features")
    is_first = np.arange(len(both)) < len(one)
    found = audit_split(records, is_first, both.owners, rng)
    if found.verdict == "inflated":
        return found.reason, ""
    return "", "" if found.verdict == "clean" else found.reason
