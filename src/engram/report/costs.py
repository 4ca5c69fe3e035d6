"""What deletions cost by number of requests: the part of a story that is about shards."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engram.report.document import Node


@dataclass(frozen=True)
class CostCurve:
    """One way to answer requests, and what that is expected to cost."""

    name: str
    shares: tuple[float, ...]
    """Of retraining, one for each number of requests."""


@dataclass(frozen=True)
class Costs:
    """What deletions from a sharded model cost, and what the one of this story did.

    Attributes:
        says: The sharding and what was measured, in a sentence.
        requests: Numbers of requests, ascending.
        curves: What so many are expected to cost.
        asked: How many records this request was about.
        measured: What it cost; None where that was not counted.
    """

    says: str
    requests: tuple[int, ...]
    curves: tuple[CostCurve, ...]
    asked: int
    measured: float | None

    @classmethod
    def of(cls, node: "Node") -> "Costs":
        """Read them from a document.

        Raises:
            EngramError: A key is missing or holds something else.
        """
        requests = tuple(item.count() for item in node["requests"].items())
        curves = tuple(
            CostCurve(one["name"].text(), tuple(s.number() for s in one["shares"].items()))
            for one in node["curves"].items()
        )
        if not requests or any(len(c.shares) != len(requests) for c in curves):
            raise node["curves"].wrong("as many shares as there are requests, at least one")
        measured = node.get("measured", None).maybe()
        return cls(node["says"].text(), requests, curves, node["asked"].count(), measured)
