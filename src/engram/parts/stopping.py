"""When to stop a training by what was observed, and which of the observed weights to keep.

With the n-gram score less that of the untrained model, g(e) = ngram(e) - ngram(0):

    perplexity   keep the least validation perplexity
    ngram        keep the least validation perplexity among observations with g <= tau
    threshold    stop at the first observation with g > tau; keep the last one before it

Stopping looks at some of the trained records again and again, and so at numbers that are too good
afterwards: report rates on other records than these.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from engram.core import EngramError, nearest

Stop = Literal["none", "perplexity", "ngram", "threshold"]
STOPS: tuple[Stop, ...] = get_args(Stop)
Observation = Mapping[str, float | int]
SCORE, JUDGE = "ngram", "validation_perplexity"


def gain(trace: Sequence[Observation], place: int) -> float:
    """The n-gram score of an observation, less that of the first."""
    return trace[place][SCORE] - trace[0][SCORE]


def best(rule: Stop, trace: Sequence[Observation], tau: float) -> int | None:
    """The place of the observation whose weights to keep; None keeps the last."""
    if rule == "none" or not trace:
        return None
    places = range(len(trace))
    if rule == "threshold":
        over = next((place for place in places if gain(trace, place) > tau), len(trace))
        return over - 1
    allowed = [p for p in places if rule == "perplexity" or gain(trace, p) <= tau]
    return min(allowed, key=lambda place: trace[place][JUDGE])


def stops(rule: Stop, trace: Sequence[Observation], tau: float, patience: int) -> bool:
    """Whether to stop after these observations.

    Args:
        rule: What is gone by.
        trace: The observations so far, oldest first.
        tau: The most that the n-gram score may rise.
        patience: Stop after so many observations without a better one; 0 goes on to the end.
    """
    if rule == "none" or not trace:
        return False
    if rule == "threshold":
        return gain(trace, len(trace) - 1) > tau
    kept = best(rule, trace, tau)
    return bool(patience) and kept is not None and len(trace) - 1 - kept >= patience


def check_stop(rule: str, tau: float, patience: int) -> None:
    """Refuse a rule that there is not, or settings with which it cannot decide.

    Raises:
        EngramError: The setting and its value.
    """
    if rule not in STOPS:
        raise EngramError(
            f"stop is {rule!r}, but must be one of {', '.join(STOPS)}",
            hint=nearest(rule, STOPS, "ngram keeps the best model that has not begun to copy"),
        )
    if not 0 <= tau <= 1:
        raise EngramError(
            f"tau is {tau}, but must be in [0, 1]",
            hint="it is a rise of the n-gram score, which is a share: 0.2 is the paper's",
        )
    if patience < 0:
        raise EngramError(
            f"patience is {patience}, but must not be negative", hint="0 trains to the end"
        )
