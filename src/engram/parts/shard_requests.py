"""What every deletion from a model in shards asks first."""

from engram.core import EngramError, Split
from engram.parts.sharding import Placement


def check_kept(placement: Placement, keep: Split, name: str) -> None:
    """Refuse to go on where some record of a shard is not at hand, or none is left at all."""
    if not len(placement):
        raise EngramError(
            f"no record would be left in any shard of target {name!r}",
            hint="delete the model instead",
        )
    there = set(keep.ids)
    if missing := [record for record in placement.ids if record not in there]:
        raise EngramError(
            f"target {name!r} was also trained on record {missing[0]!r}, which is neither to be "
            f"kept nor to be forgotten ({len(missing)} such records)",
            hint="give all records that it was trained on: those to forget, and the rest to keep",
        )
