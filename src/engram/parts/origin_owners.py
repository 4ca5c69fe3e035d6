"""Whose records the records of a split were made from: `origin_owners`, in what they share."""

from engram.core import Split

ORIGIN_OWNERS = "origin_owners"


def origin_owners_of(split: Split) -> frozenset[str]:
    """The owners of what the records were made from; none where nothing says so."""
    return frozenset(str(owner) for owner in split.shared.get(ORIGIN_OWNERS, ()))


def owners_behind(split: Split) -> frozenset[str]:
    """Every owner of a record, or of what the records were made from."""
    return (frozenset(split.owners or ()) | origin_owners_of(split)) - {""}
