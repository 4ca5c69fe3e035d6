"""Records that a user names as never seen by the target: checked before anything relies on it."""

from engram.core import EngramError, Run, Split, Target


def outside_records(
    where: str, split: Split, target: Target, run: Run, *, least: int = 1, what: str = "population"
) -> Split:
    """The records at `where`, none of which may be among those that are audited.

    Args:
        where: A file or the name of a data set, read as the target's own records were.
        split: The records of the audit.
        target: The model that is audited.
        run: Opens the file.
        least: How many records there must be.
        what: What the method calls them, for its messages.

    Raises:
        EngramError: There are too few, or some of them are audited too.
    """
    found = run.records(where, target)
    if len(found) < least:
        raise EngramError(
            f"the {what} {where!r} has {len(found)} records, but at least {least} are needed",
            hint="give more records of the same kind that the target never saw",
        )
    keys = [set(split.digests) & set(found.digests)]
    if "text" in split.columns and "text" in found.columns:
        keys.append(set(split.texts) & set(found.texts))
    shared = max(map(len, keys))
    if shared:
        raise EngramError(
            f"{shared} of the {len(found)} records of the {what} {where!r} are among those that "
            "are audited, so it overlaps the members",
            hint="take records that are neither trained on nor audited",
        )
    return found
