"""What a request on a sharded model cost, beside what such requests are expected to cost."""

from typing import Any

from engram.core import Target
from engram.engine.targets import trace_of
from engram.parts.deletion_cost import expected_share, retraining
from engram.parts.sharding import Placement
from engram.parts.sisa_training import seen

WAYS = (("in one go", True), ("one by one", False))


def costs_of(target: Target, edited: Target, asked: int) -> dict[str, Any] | None:
    """The numbers behind the chart of costs; None where the target is not in shards.

    Args:
        target: Before the request.
        edited: After it.
        asked: How many records it was about.
    """
    placement = getattr(target.model, "placement", None)
    epochs = target.lineage.recipe().config.get("epochs", 0)
    if not isinstance(placement, Placement) or not epochs or len(placement) < 2:
        return None
    n, sizes = len(placement), placement.sizes
    requests = numbers_upto(n - 1)
    looked = seen(trace_of(edited.folder, at_most=10**9))
    measured = looked / retraining(n, epochs, asked, together=True) if looked else None
    curves = [
        {
            "name": name,
            "shares": [expected_share(sizes, epochs, k, together=together) for k in requests],
        }
        for name, together in WAYS
    ]
    says = f"{n:,} records lie in {sizes.shape[0]} shards of {sizes.shape[1]} slices. "
    if looked:
        says += (
            f"Forgetting {asked:,} took {looked:,} looks at a record; training one model of the "
            f"others again takes {round(retraining(n, epochs, asked, together=True)):,}."
        )
    return {
        "says": says.strip(),
        "requests": requests,
        "curves": curves,
        "asked": asked,
        "measured": measured,
    }


def numbers_upto(most: int) -> list[int]:
    """1, 2, 3, 5, 10, ..., and `most`: evenly far on a logarithmic axis, about."""
    found = {m * 10**p for p in range(len(str(most))) for m in (1, 2, 3, 5)}
    return sorted({k for k in found if k < most} | {most})
