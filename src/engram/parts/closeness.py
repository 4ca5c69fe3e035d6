"""t-closeness: how far the sensitive values of a group of records are from those of the table."""

import numpy as np
from jaxtyping import Float, Int


def moved_earth(
    one: Float[np.ndarray, "... m"], other: Float[np.ndarray, "... m"], *, ordered: bool
) -> Float[np.ndarray, "..."]:
    """Earth mover's distance of two distributions over the same m values, in [0, 1].

    Ordered values lie at distance |i - j| / (m - 1) from each other, so earth is moved along:
    sum over i of |sum over j <= i of (p_j - q_j)| / (m - 1). Nominal ones all lie at distance 1:
    half the sum of |p_i - q_i|. (Li et al., 2007, sections 4.1 and 4.2.)
    """
    difference = np.asarray(one, np.float64) - other
    m = difference.shape[-1]
    if m < 2:
        return np.zeros(difference.shape[:-1])
    if ordered:
        return np.asarray(np.abs(np.cumsum(difference, -1)).sum(-1) / (m - 1))
    return np.asarray(np.abs(difference).sum(-1) / 2)


def distances_to_table(
    group: Int[np.ndarray, " n"], values: Int[np.ndarray, " n"], *, ordered: bool
) -> Float[np.ndarray, " groups"]:
    """The distance of each group's sensitive values from the whole table's.

    Args:
        group: Of each record, 0, 1, ...
        values: The sensitive value of each record; where ordered, by size.
        ordered: Whether near values are alike.
    """
    _, codes = np.unique(values, return_inverse=True)
    shares = np.zeros((int(group.max(initial=-1)) + 1, int(codes.max(initial=-1)) + 1))
    np.add.at(shares, (group, codes), 1)
    whole = shares.sum(0) / max(len(values), 1)
    return moved_earth(shares / shares.sum(1, keepdims=True), whole, ordered=ordered)
