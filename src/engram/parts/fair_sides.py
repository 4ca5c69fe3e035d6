"""Whether two sets of records may be compared: do they differ without the model?"""

import numpy as np

from engram.core import Split
from engram.parts.labelled import features_of
from engram.stats.split_audit import audit_split


def told_apart(one: Split, other: Split, rng: np.random.Generator) -> tuple[str, str]:
    """Why nothing can be claimed from comparing the two, and what makes a claim doubtful.

    Both are "" where they cannot be told apart without the model.
    """
    common = set(one.columns) & set(other.columns)
    records = None
    if "text" in common:
        records = one.texts + other.texts
    elif "features" in common:
        rows = features_of(one)
        # Records of another width are refused here, with both widths in the message.
        records = np.concatenate([rows, features_of(other, rows.shape[1])])
    known = one.owners is not None and other.owners is not None
    owners = (one.owners or ()) + (other.owners or ()) if known else None
    is_first = np.arange(len(one) + len(other)) < len(one)
    found = audit_split(records, is_first, owners, rng)
    if found.verdict == "inflated":
        return found.reason, ""
    return "", "" if found.verdict == "clean" else found.reason
