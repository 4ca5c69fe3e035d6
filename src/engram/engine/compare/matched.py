"""What a target gave away when it was as useful as another: read off what was seen while it learnt.

A model that was trained for longer gives more away, and predicts new records better, up to a
point. So two defences are compared fairly only where their models are equally useful: at the
same validation perplexity, which each training passes on its way down.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engram.core import Finding

Observation = Mapping[str, float | int]
PERPLEXITY = "validation_perplexity"
UNSEEN = "not observed while it trained"


@dataclass(frozen=True)
class Question:
    """A number that is asked of every target.

    Attributes:
        name: As reports call it.
        key: What it is called in a training's observations; "" where it is not observed.
        unit: Of the number.
    """

    name: str
    key: str
    unit: str = ""


def observations(trace: Sequence[Observation]) -> list[Observation]:
    """The entries at which the validation perplexity was looked at, oldest first."""
    return [entry for entry in trace if _finite(entry.get(PERPLEXITY))]


def least(trace: Sequence[Observation]) -> float | None:
    """The best validation perplexity that was seen; None where none was."""
    return min((entry[PERPLEXITY] for entry in observations(trace)), default=None)


def common(traces: Sequence[Sequence[Observation]]) -> float | None:
    """The best validation perplexity that every training reached: the largest of the least."""
    found = [best for trace in traces if (best := least(trace)) is not None]
    return max(found, default=None)


def crossing(trace: Sequence[Observation], at: float) -> tuple[int, float] | None:
    """Where a training first came down to a perplexity.

    Returns:
        The place of the observation after the crossing and, in [0, 1], how far the crossing lies
        from the one before towards it, by the logarithm of the perplexity. (0, 1.0) where the
        untrained model was as good; None where no observation is.
    """
    seen = observations(trace)
    # The least of a trace must be found again after it was written and read.
    after = next((i for i, e in enumerate(seen) if e[PERPLEXITY] <= at * (1 + 1e-9)), None)
    if after is None or after == 0:
        return None if after is None else (0, 1.0)
    high, low = (math.log(seen[place][PERPLEXITY]) for place in (after - 1, after))
    share = (high - math.log(at)) / (high - low)
    return after, min(max(share, 0.0), 1.0)


def matched(
    trace: Sequence[Observation], at: float, questions: Sequence[Question]
) -> list[Finding]:
    """Every question's number at the first crossing, drawn in a line between two observations.

    The interval is drawn in the same way, and is as wide as that of one observation. Perplexities
    go by their logarithm, like the crossing itself.
    """
    place = crossing(trace, at)
    if place is None:
        best = least(trace)
        why = (
            "not observed while it trained" if best is None else f"it got no lower than {best:.4g}"
        )
        return [Finding.missing(q.name, why, unit=q.unit) for q in questions]
    seen = observations(trace)
    after, share = place
    pair = seen[max(after - 1, 0)], seen[after]
    return [_between(question, *pair, share) for question in questions]


def epoch_of(trace: Sequence[Observation], at: float) -> float | None:
    """The epoch of the crossing; None where there is none."""
    place = crossing(trace, at)
    if place is None:
        return None
    seen, (after, share) = observations(trace), place
    before = float(seen[max(after - 1, 0)].get("epoch", 0.0))
    return before + share * (float(seen[after].get("epoch", 0.0)) - before)


def _between(question: Question, before: Observation, after: Observation, share: float) -> Finding:
    key = question.key
    wanted = [key, f"{key}_low", f"{key}_high"]
    if not key or not all(_finite(e.get(k)) for e in (before, after) for k in wanted):
        return Finding.missing(question.name, UNSEEN, unit=question.unit)
    value, low, high = (_mixed(before[k], after[k], share, key == PERPLEXITY) for k in wanted)
    n = int(min(entry.get(f"{key}_n", 0) for entry in (before, after)))
    low, high = min(low, value), max(high, value)  # rounding must not turn them round
    return Finding(question.name, value, low, high, n, question.unit)


def _mixed(before: float | int, after: float | int, share: float, by_logarithm: bool) -> float:
    if by_logarithm and min(before, after) > 0:
        return math.exp((1 - share) * math.log(before) + share * math.log(after))
    return (1 - share) * before + share * after


def _finite(value: float | int | None) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
