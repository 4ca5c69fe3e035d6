"""Removed, or only suppressed? What is left of forgotten knowledge, on a scale of two models.

A number that is read off a model in some way (a probe's accuracy, a rank) says little by itself.
So it is read off three models: the one in question (m), one that never saw what was forgotten (c,
the control), and the one before forgetting (o). Each way of reading becomes

    residual = clip( (x_m - x_c) / (x_o - x_c), 0, 1 )         0: like the control; 1: as before

and the largest of all is the suppression index: one way to the knowledge is enough.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from engram.core.errors import EngramError
from engram.core.finding import Finding
from engram.stats.checks import check_lengths
from engram.stats.intervals import LEVEL

RESAMPLES = 1000
SPREAD = 0.1
"""Where control and original are nearer than this, a way of reading tells nothing."""
FORGOTTEN, REMOVED = 0.8, 0.2
"""The least behavioural forgetting, and the largest index of knowledge that was removed."""
GONE, HIDDEN, KEPT, UNKNOWN = "removed", "suppressed", "not forgotten", "unknown"
MOST = "the most was found by: "
"""What stands in the note of the index before the name of its part."""
Reading = Callable[[Shaped[np.ndarray, "... n"]], float]


def best_layer(values: Float[np.ndarray, "*layers n"]) -> float:
    """The highest mean over questions of any layer; the mean, where there are no layers."""
    return float(values.mean(-1).max())


def minus_steps(threshold: float, every: int = 1) -> Reading:
    """Minus the steps after which the mean reaches `threshold`; the first row is before any.

    A model that never does counts as if it did one look after the last.
    """

    def read(values: Float[np.ndarray, "looks n"]) -> float:
        asked = values[:, ~np.isnan(values[0])]  # those that were tuned on are not judged
        if not asked.size:
            return float("nan")
        reached = np.flatnonzero(asked.mean(-1) >= threshold)
        return -float(every * (reached[0] if len(reached) else len(values)))

    return read


@dataclass(frozen=True, eq=False)
class Part:
    """One way of looking for knowledge, on three models.

    Attributes:
        name: What it is called.
        target: What it finds in the model in question: of every question, in the last axis.
        control: In a model that never saw the records, of the same or of other questions.
        original: In the model before forgetting.
        read: From such an array to one number; the higher, the more is known.
        paired: Whether the control was asked the same questions.
    """

    name: str
    target: Float[np.ndarray, "... n"]
    control: Float[np.ndarray, "... m"]
    original: Float[np.ndarray, "... n"]
    read: Reading = best_layer
    paired: bool = True

    def numbers(
        self, rows: Int[np.ndarray, " k"] | None = None, others: Int[np.ndarray, " l"] | None = None
    ) -> tuple[float, float, float]:
        """What is read of target, control and original, on some of the questions."""
        rows = np.arange(self.target.shape[-1]) if rows is None else rows
        others = np.arange(self.control.shape[-1]) if others is None else others
        return (
            self.read(self.target[..., rows]),
            self.read(self.control[..., rows if self.paired else others]),
            self.read(self.original[..., rows]),
        )


def residual(target: float, control: float, original: float) -> float:
    """Where the target lies between control (0) and original (1)."""
    return float(np.clip((target - control) / (original - control), 0.0, 1.0))


def tells(part: Part, least: float = SPREAD) -> bool:
    """Whether the original is above the control by enough for anything to lie between."""
    _, control, original = part.numbers()
    scale = max(abs(control), abs(original), 1.0)  # of steps, not of shares
    return original - control >= least * scale


@dataclass(frozen=True)
class Residuals:
    """What is left.

    Attributes:
        parts: The residual of each part; missing where it tells nothing.
        index: The largest of them.
        mean: Their mean.
    """

    parts: tuple[Finding, ...]
    index: Finding
    mean: Finding


def residuals(
    parts: Sequence[Part],
    owner: Int[np.ndarray, " n"],
    others: Int[np.ndarray, " m"],
    rng: np.random.Generator,
) -> Residuals:
    """The residual of every part, the suppression index and the mean, with intervals.

    Owners are resampled, the same for all parts, so that what they have in common is counted
    once; the questions of one owner, or two, are resampled as if they were independent.

    Args:
        parts: All about the same questions.
        owner: Whose each question is.
        others: Whose each of the control's questions is, where these are others.
        rng: The stream of these numbers.

    Raises:
        EngramError: A part has another number of questions.
    """
    for part in parts:
        check_lengths("owners", len(owner), "answers", part.target.shape[-1])
        check_lengths("answers", part.target.shape[-1], "before", part.original.shape[-1])
        wanted = len(owner) if part.paired else len(others)
        check_lengths("control's owners", wanted, "answers", part.control.shape[-1])
    telling = [part for part in parts if tells(part)]
    n = len(owner)
    values = [residual(*part.numbers()) for part in telling]
    drawn = np.full((RESAMPLES, len(telling)), np.nan)
    groups = [_groups(who) for who in (owner, others)]
    for row in range(RESAMPLES if telling else 0):
        picks = [_drawn(each, rng) for each in groups]
        for place, part in enumerate(telling):
            found = part.numbers(*picks)
            if found[2] > found[1]:  # false where a number is missing, too
                drawn[row, place] = residual(*found)
    made = {
        part.name: _finding(part.name, value, column, n, part)
        for part, value, column in zip(telling, values, drawn.T, strict=True)
    }
    rows = tuple(made.get(part.name) or _silent(part, n) for part in parts)
    if not telling:
        reason = "nothing tells the model before from one that never saw the records"
        return Residuals(rows, *(Finding.missing(name, reason, n) for name in SUMMARIES))
    with np.errstate(invalid="ignore"):
        whole = drawn[np.isfinite(drawn).all(1)]
    return Residuals(
        rows,
        _finding(SUMMARIES[0], max(values), whole.max(1) if len(whole) else drawn[:0, 0], n),
        _finding(SUMMARIES[1], float(np.mean(values)), whole.mean(1), n),
    )


SUMMARIES = ("suppression index", "mean residual")


def _groups(owner: Int[np.ndarray, " n"]) -> list[Int[np.ndarray, " _"]]:
    """Rows that are drawn together: an owner's; of one owner alone, or two, single rows."""
    people = np.unique(owner)
    if len(people) <= 2:
        return list(np.arange(len(owner))[:, None])
    return [np.flatnonzero(owner == each) for each in people]


def _drawn(groups: list[Int[np.ndarray, " _"]], rng: np.random.Generator) -> Int[np.ndarray, " _"]:
    if not groups:
        return np.empty(0, np.int64)
    return np.concatenate([groups[row] for row in rng.integers(0, len(groups), len(groups))])


def _finding(
    name: str, value: float, drawn: Float[np.ndarray, " _"], n: int, part: Part | None = None
) -> Finding:
    sound = drawn[np.isfinite(drawn)]
    low, high = np.quantile(sound, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(sound) else (0, 1)
    found = Finding(name, value, min(float(low), value), max(float(high), value), n)
    return found.tagged(better="lower", note=_told(part) if part else "")


def _silent(part: Part, n: int) -> Finding:
    return Finding.missing(part.name, f"tells the two apart too little: {_told(part)}", n)


def _told(part: Part) -> str:
    target, control, original = part.numbers()
    if original == 0 and control < 0:
        return f"{-target:g} steps; {-control:g} where it was never seen"
    return f"{target:.3f}; {control:.3f} where it was never seen, {original:.3f} before"


def behavioural_forgetting(
    target: Float[np.ndarray, " n"],
    control: Float[np.ndarray, " m"],
    original: Float[np.ndarray, " n"],
    owner: Int[np.ndarray, " n"],
    others: Int[np.ndarray, " m"],
    rng: np.random.Generator,
    paired: bool = True,
) -> Finding:
    """How much of what the original answers, and the control does not, is answered no more.

    B = 1 - (a_m - a_c) / (a_o - a_c), in [0, 1]; where the control knows nothing, 1 - a_m / a_o.
    """
    part = Part(NAME, target, control, original, paired=paired)
    found = residuals([part], owner, others, rng).parts[0]
    if found.value is None:
        return found
    bounds = [None if x is None else 1 - x for x in (found.value, found.high, found.low)]
    return Finding(NAME, *bounds, found.n).tagged(better="higher", note=found.note)


NAME = "behavioural forgetting"


def verdict(forgetting: float | None, index: float | None) -> str:
    """What the two numbers say: removed, suppressed or not forgotten; unknown where one lacks."""
    if forgetting is None or index is None:
        return UNKNOWN
    if forgetting < FORGOTTEN:
        return KEPT
    return GONE if index <= REMOVED else HIDDEN


def weight_distance(
    target: Mapping[str, np.ndarray],
    control: Mapping[str, np.ndarray],
    original: Mapping[str, np.ndarray],
) -> float:
    """Distance of the target's weights from the original's, in units of the control's.

    Raises:
        EngramError: The models do not have the same weights, or control and original are equal.
    """
    for other in (control, original):
        same = target.keys() == other.keys()
        if not same or any(target[k].shape != other[k].shape for k in target):
            raise EngramError(
                "the models differ in their weights' names or shapes",
                hint="compare models of one recipe",
            )

    def distance(model: Mapping[str, np.ndarray]) -> float:
        return float(
            np.sqrt(sum(np.square(model[k] - original[k], dtype=np.float64).sum() for k in model))
        )

    if not distance(control):
        raise EngramError(
            "the model that never saw the records is the one before", hint="name another"
        )
    return distance(target) / distance(control)
