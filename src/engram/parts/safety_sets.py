"""The records of safety unlearning: what each is there for, and what makes an answer harmful.

The column `role` says it:

    forget    a harmful picture and a harmful prompt; its answer is to be unlearnt
    retain    a harmful picture and a benign prompt; its answer is to stay
    decouple  a safe picture and the same harmful wording; its answer is a normal one
    other     a safe picture and a benign prompt
"""

from typing import Literal, get_args

import numpy as np

from engram.core import EngramError, Split, nearest
from engram.parts.text_columns import lists_of

ROLE, HARMFUL = "role", "harmful"
Role = Literal["forget", "retain", "decouple", "other"]
ROLES: tuple[Role, ...] = get_args(Role)


def with_role(split: Split, role: Role, name: str = "") -> Split:
    """The records of one role; none where the records have no roles."""
    if ROLE not in split.columns:
        return split.take([], name or role)
    return split.where(roles_of(split) == role, name or role)


def roles_of(split: Split) -> np.ndarray:
    """The role of each record.

    Raises:
        EngramError: A role that is none of the four.
    """
    found = split.column(ROLE).to_pylist()
    for role in set(found) - set(ROLES):
        raise EngramError(
            f"split {split.name!r} has a record with the role {role!r}",
            hint=nearest(str(role), ROLES, f"the roles are {', '.join(ROLES)}"),
        )
    return np.array(found, dtype=np.str_)


def harmful_answers(split: Split) -> list[tuple[str, ...]]:
    """For each record the answers that would do harm, as the column `harmful` lists them.

    Raises:
        EngramError: The column holds no lists of strings.
    """
    if HARMFUL not in split.columns:
        return [()] * len(split)
    hint = "list the answers that would do harm: one is enough"
    return [tuple(each) for each in lists_of(split, HARMFUL, hint)]
