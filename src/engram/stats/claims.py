"""Does a claim hold? Verdicts over seeds, by tests that are data.

A study measures the same quantities once a seed. A test looks at one number a seed, q: a
measurement, or the difference of two measurements of the same seed, so that what a seed does to
both cancels (a paired test). It judges by the mean of q and the 95 % Student t interval of that
mean, low to high. `RULES` says when a claim holds, and nothing else decides it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from engram.core.errors import EngramError
from engram.core.finding import Finding
from engram.stats.intervals import LEVEL

Verdict = Literal["holds", "fails", "undecided", "not run"]
VERDICTS: tuple[Verdict, ...] = ("holds", "fails", "undecided", "not run")
FEWEST = 3
"""Seeds from which on an interval over seeds decides anything."""
ROUNDING = 1e-9
"""Differences smaller than this are rounding, and must not decide."""

Number = float | int
"""A bound may be written 3, where it is run under type checks too."""
Row = Mapping[str, float | None]
"""The measurements of one seed by name; None where one could not be made."""

RULES = {
    "above": "**a - b >= m** (a beats b by the margin m): *holds* if the mean is at least m and "
    "low is above 0; *fails* if high is below m (for m = 0: not above 0), or if m is above 0 and "
    "the mean is not: a margin was claimed, and not even its sign was seen.",
    "bound": "**x >= v** (or <=): *holds* if the whole interval lies on that side of v; *fails* "
    "if the whole interval lies beyond v on the other side.",
    "mean": "**mean x >= v, refuted at r** (or <=): *holds* if the mean reaches v and the whole "
    "interval lies on that side of r, the value that would refute the claim; *fails* if the "
    "whole interval falls short of v, or the mean does not get past r.",
    "equal": "**x = v within t**: an exact claim, without an interval: *holds* if every seed lies "
    "within t of v, else *fails*.",
    "all": "**all of several**: *fails* if one fails, *holds* if all hold.",
}
"""When a claim holds, by kind of test."""
ALWAYS = (
    f"In every other case the verdict is *undecided*; so it is with fewer than {FEWEST} seeds, "
    "exact claims apart. *Not run*: what the claim is about was not measured."
)


@dataclass(frozen=True)
class Ruling:
    """What the seeds say of a test: the verdict, and each number that it looked at."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    """Mean over seeds with its interval, one finding a simple test; `n` counts seeds."""


@runtime_checkable
class ClaimTest(Protocol):
    """A condition on measurements that seeds can support or refute."""

    @property
    def names(self) -> tuple[str, ...]:
        """The measurements it looks at."""
        ...

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which of `RULES` it goes by."""
        ...

    def judge(self, rows: Sequence[Row]) -> Ruling:
        """The verdict over the seeds that have all of `names`."""
        ...


def t_interval(values: Float[np.ndarray, " seeds"]) -> tuple[float, float, float]:
    """Mean and the ends of its 95 % Student t interval; needs at least two values."""
    from scipy.special import stdtrit

    if np.ptp(values) == 0:  # exactly the value, without the rounding error of a mean
        return (float(values[0]),) * 3
    n = len(values)
    mean = float(values.mean())
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * float(values.std(ddof=1)) / n**0.5
    return mean, mean - half, mean + half


def over_seeds(values: Float[np.ndarray, " seeds"], name: str) -> Finding:
    """The mean over seeds with its t interval; missing where there are not two seeds."""
    n = len(values)
    if n == 0:
        return Finding.missing(name, "not measured", n=0)
    if n == 1:
        return Finding.missing(name, f"{values[0]:.4g} at the one seed", n=1)
    return Finding(name, *t_interval(values), n)


@dataclass(frozen=True)
class Above:
    """`better` exceeds `worse` by at least `by`, seed by seed."""

    better: str
    worse: str
    by: Number = 0.0
    kinds = ("above",)

    def __post_init__(self) -> None:
        _check_number("by", self.by)
        if self.by < 0:
            raise EngramError(
                f"the margin of {self.better!r} over {self.worse!r} is {self.by}",
                hint="a margin is not negative; swap the two names to claim the contrary",
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Both measurements."""
        return (self.better, self.worse)

    def __str__(self) -> str:
        says = f">= {self.by:g}" if self.by else "> 0"
        return f"{self.better} - {self.worse} {says}"

    def judge(self, rows: Sequence[Row]) -> Ruling:
        """The verdict on the paired difference."""
        pairs = _columns(rows, self.names)
        found = over_seeds(pairs[:, 0] - pairs[:, 1], f"{self.better} - {self.worse}")
        return Ruling(_past(found, self.by, 0.0), (found,))


@dataclass(frozen=True)
class Bound:
    """A measurement is at least `value`, or with `most` at most `value`.

    With `refuted` it is a claim on the mean alone: see `mean_at_least`.
    """

    name: str
    value: Number
    refuted: Number | None = None
    most: bool = False

    def __post_init__(self) -> None:
        _check_number("value", self.value)
        if self.refuted is None:
            return
        _check_number("refuted", self.refuted)
        if self._sign * (self.value - self.refuted) < 0:
            raise EngramError(
                f"{self.name!r}: the value {self.value:g} lies beyond {self.refuted:g}, "
                "which is to refute it",
                hint="`refuted` is the value that would speak against the claim, 0.5 for an AUC",
            )

    @property
    def _sign(self) -> float:
        return -1.0 if self.most else 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """The one measurement."""
        return (self.name,)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Whether all of the interval is asked for, or the mean."""
        return ("bound",) if self.refuted is None else ("mean",)

    def __str__(self) -> str:
        says = f"{self.name} {'<=' if self.most else '>='} {self.value:g}"
        return says if self.refuted is None else f"mean {says}, refuted at {self.refuted:g}"

    def judge(self, rows: Sequence[Row]) -> Ruling:
        """The verdict on the measurement; an upper bound is a lower bound of minus it."""
        values = _columns(rows, self.names)[:, 0]
        found, turned = over_seeds(values, self.name), over_seeds(self._sign * values, self.name)
        if self.refuted is None:
            verdict = _whole(turned, self._sign * self.value)
        else:
            verdict = _past(turned, self._sign * self.value, self._sign * self.refuted)
        return Ruling(verdict, (found,))


@dataclass(frozen=True)
class Equal:
    """Every seed gives `value`, to within `tolerance`: for numbers without sampling error."""

    name: str
    value: Number
    tolerance: Number
    kinds = ("equal",)

    def __post_init__(self) -> None:
        _check_number("value", self.value)
        _check_number("tolerance", self.tolerance)
        if self.tolerance < 0:
            raise EngramError(
                f"the tolerance of {self.name!r} is {self.tolerance}", hint="it is not negative"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The one measurement."""
        return (self.name,)

    def __str__(self) -> str:
        return f"{self.name} = {self.value:g} within {self.tolerance:g}"

    def judge(self, rows: Sequence[Row]) -> Ruling:
        """Holds or fails; the interval is from the least seed to the greatest."""
        values = _columns(rows, self.names)[:, 0]
        if not len(values):
            return Ruling("not run", (Finding.missing(self.name, "not measured"),))
        mean, low, high = float(values.mean()), float(values.min()), float(values.max())
        # The mean of equal numbers may miss them by a rounding error.
        found = Finding(self.name, min(max(mean, low), high), low, high, len(values))
        off = float(np.abs(values - self.value).max())
        return Ruling("holds" if off <= self.tolerance + ROUNDING else "fails", (found,))


@dataclass(frozen=True)
class AllOf:
    """Several tests that must all hold."""

    tests: tuple[ClaimTest, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The measurements of all tests, once each."""
        return tuple(dict.fromkeys(name for test in self.tests for name in test.names))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The rules of all tests, and that of their union."""
        return tuple(dict.fromkeys([*(k for t in self.tests for k in t.kinds), "all"]))

    def __str__(self) -> str:
        return "; ".join(map(str, self.tests))

    def judge(self, rows: Sequence[Row]) -> Ruling:
        """The worst verdict: fails, then not run, then undecided."""
        rulings = [test.judge(rows) for test in self.tests]
        verdicts = {ruling.verdict for ruling in rulings}
        worst: tuple[Verdict, ...] = ("fails", "not run", "undecided", "holds")
        verdict = next(v for v in worst if v in verdicts)
        findings = dict.fromkeys(f for ruling in rulings for f in ruling.findings)
        return Ruling(verdict, tuple(findings))


def above(better: str, worse: str, by: Number = 0.0) -> Above:
    """`better` beats `worse` by at least `by` in the mean over seeds, and surely beats it."""
    return Above(better, worse, by)


def at_least(name: str, value: Number) -> Bound:
    """The measurement is surely at least `value`: all of its interval over seeds is."""
    return Bound(name, value)


def at_most(name: str, value: Number) -> Bound:
    """The measurement is surely at most `value`: all of its interval over seeds is."""
    return Bound(name, value, most=True)


def mean_at_least(name: str, value: Number, refuted: Number) -> Bound:
    """The mean over seeds is at least `value`, and the measurement surely above `refuted`."""
    return Bound(name, value, refuted)


def mean_at_most(name: str, value: Number, refuted: Number) -> Bound:
    """The mean over seeds is at most `value`, and the measurement surely below `refuted`."""
    return Bound(name, value, refuted, most=True)


def equal(name: str, value: Number, tolerance: Number) -> Equal:
    """Every seed gives `value` to within `tolerance`: an exact claim."""
    return Equal(name, value, tolerance)


def all_of(*tests: ClaimTest) -> AllOf:
    """All of these tests hold."""
    if not tests:
        raise EngramError("all_of was given no tests", hint="give it at least one")
    return AllOf(tests)


def _past(found: Finding, by: Number, null: Number) -> Verdict:
    """The rule of a margin: the mean reaches `by`, and chance does not explain the sign."""
    mean, low, high = found.value, found.low, found.high
    if mean is None or low is None or high is None or found.n < FEWEST:
        return "undecided" if found.n else "not run"
    if mean >= by - ROUNDING and low > null + ROUNDING:
        return "holds"
    if high < by - ROUNDING or high <= null + ROUNDING:
        return "fails"
    return "fails" if mean <= null < by else "undecided"


def _whole(found: Finding, value: Number) -> Verdict:
    """The rule of a bound: all of the interval is on one side."""
    if found.low is None or found.high is None or found.n < FEWEST:
        return "undecided" if found.n else "not run"
    if found.low >= value - ROUNDING:
        return "holds"
    return "fails" if found.high < value - ROUNDING else "undecided"


def _columns(rows: Sequence[Row], names: tuple[str, ...]) -> Float[np.ndarray, "seeds names"]:
    """The seeds that have all the measurements, one column a name: pairs stay pairs."""
    whole = [[row.get(name) for name in names] for row in rows]
    kept = [row for row in whole if all(value is not None for value in row)]
    return np.array(kept, dtype=np.float64).reshape(len(kept), len(names))


def _check_number(what: str, value: Number) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise EngramError(f"{what} is {value!r}, not a finite number", hint="for example 0.15")
