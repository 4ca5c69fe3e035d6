"""Errors that a user can fix: a fact with its value, then a remedy."""

from collections.abc import Iterable
from difflib import get_close_matches


class EngramError(Exception):
    """A mistake that the user can mend. The command line prints it without a traceback.

    `EngramError("fraction is 2, but must be in (0, 1]", hint="0.2 is the paper's value")`
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class DivergedError(EngramError):
    """A loss or its gradient is not finite. The step was not taken; the weights before it stay.

    Attributes:
        step: Its number, from 0.
    """

    def __init__(self, message: str, *, hint: str, step: int) -> None:
        super().__init__(message, hint=hint)
        self.step = step


def nearest(word: str, known: Iterable[str], otherwise: str) -> str:
    """A hint that names the known words nearest to `word`, or `otherwise` when none is near."""
    near = get_close_matches(word, list(known), n=3)
    return f"did you mean {' or '.join(near)}?" if near else otherwise
