"""A number never travels alone: it carries its interval and how many records it rests on."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Literal

from engram.core.errors import EngramError

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True)
class Finding:
    """A measured number with everything needed to distrust it.

    `value` is None where the number cannot be measured; then `note` says why.
    Ratios are fractions in [0, 1]. The interval is a 95 % one.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    unit: str = ""
    method: str = ""
    """The method that measured it, as the catalogue names it."""
    split: str = ""
    """Which records it was measured on."""
    note: str = ""
    better: Better = ""
    """Which direction is better for the owner of the model's data or use; empty: neither."""

    def __post_init__(self) -> None:
        numbers = (self.value, self.low, self.high)
        if self.value is None:
            if self.low is not None or self.high is not None:
                raise EngramError(f"finding {self.name!r} has an interval but no value")
            if not self.note:
                raise EngramError(f"finding {self.name!r} has neither a value nor a reason")
            return
        if any(x is None or not math.isfinite(x) for x in numbers):
            raise EngramError(
                f"finding {self.name!r} is {self.value} [{self.low}, {self.high}]: not finite",
                hint="use Finding.missing(...) for a number that cannot be measured",
            )
        if not self.low <= self.value <= self.high:  # type: ignore[operator]
            raise EngramError(
                f"finding {self.name!r}: {self.value} is outside [{self.low}, {self.high}]"
            )

    @classmethod
    def missing(cls, name: str, note: str, n: int = 0, unit: str = "") -> "Finding":
        """A number that could not be measured, and why."""
        return cls(name, None, None, None, n, unit, note=note)

    @classmethod
    def exact(cls, name: str, value: float, n: int, unit: str = "") -> "Finding":
        """A number known without sampling error, such as a count."""
        return cls(name, float(value), float(value), float(value), n, unit)

    def tagged(self, **fields: str) -> "Finding":
        """The same number with `method`, `split`, `note` or `better` filled in."""
        return replace(self, **fields)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, object]:
        """A plain dictionary, in the order of `report.json`."""
        return asdict(self)

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.name}: {self.note} (n={self.n})"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name} {self.value:.3f} [{self.low:.3f}, {self.high:.3f}]{unit} (n={self.n})"
