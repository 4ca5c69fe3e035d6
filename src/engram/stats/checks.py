"""What every statistic asks of its input, said once."""

import numpy as np

from engram.core.errors import EngramError


def check_finite(values: np.ndarray, what: str = "score") -> None:
    """Refuse NaN and infinity by the index of the first one.

    Raises:
        EngramError: a value is not finite.
    """
    bad = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
    if len(bad):
        value = values[bad[0]] if values.ndim == 1 else "not finite"
        raise EngramError(
            f"{what} {bad[0]} is {value} ({len(bad)} of {len(values)} are not finite)",
            hint="leave out records without a number, or say what an attack gives them instead",
        )


def check_lengths(first: str, n_first: int, second: str, n_second: int) -> None:
    """Refuse two columns that do not belong to the same records.

    Raises:
        EngramError: the lengths differ.
    """
    if n_first != n_second:
        raise EngramError(
            f"there are {n_first} {first} but {n_second} {second}",
            hint="give one of each for every record, in the same order",
        )


def check_both_sides(is_member: np.ndarray) -> None:
    """Refuse records that are all members or all outsiders.

    Raises:
        EngramError: no records, or a single class.
    """
    members = int(np.count_nonzero(is_member))
    outsiders = len(is_member) - members
    if members == 0 or outsiders == 0:
        raise EngramError(
            f"there are {members} members and {outsiders} outsiders, but both are needed",
            hint="give records that the model was trained on and records that it never saw",
        )


def check_labelled(values: np.ndarray, is_member: np.ndarray) -> None:
    """Refuse scores that cannot be compared: lengths differ, not finite, or one class only.

    Raises:
        EngramError: with the fact and its remedy.
    """
    check_lengths("scores", len(values), "membership labels", len(is_member))
    check_both_sides(is_member)
    check_finite(values)
