"""What a transform did to pictures, as a drawing."""

from engram.core import EngramError, Split
from engram.parts.protection import pictures_of
from engram.report.picture_rows import amplified, picture_rows, standalone

MOST = 10
"""Pictures that are shown."""


def drawing(before: Split, after: Split, name: str, pixels: tuple[float, ...] = ()) -> str:
    """Some records before and after, and the change amplified; as the text of an SVG file.

    Records are matched by their ids. Where none of them was there before, what was made is shown
    alone.

    Args:
        before: What was given.
        after: What was made of it.
        name: The transform.
        pixels: Smallest and largest value of a pixel; empty: what the data says, else 0 and 1.

    Raises:
        EngramError: There are no pictures in the column `features`.
    """
    if "features" not in after.columns:
        raise EngramError(
            f"{name} gave records without features, so there are no pictures to show",
            hint="leave --show out; records of pictures have their pixels in a column `features`",
        )
    known = set(before.ids)
    both = [record for record in after.ids if record in known][:MOST]
    made = pictures_of(after.select(both) if both else after.take(range(min(MOST, len(after)))),
                       pixels)  # fmt: skip
    new = list(made.shown(made.raw))
    if not both:
        return standalone(picture_rows(f"What {name} made", [("made", new)]))
    given = pictures_of(before.select(both), pixels)
    old = list(given.shown(given.raw))
    change = [amplified(a, b) for a, b in zip(old, new, strict=True)]
    rows = [("original", old), ("change", change), (name[:14], new)]
    title = f"Pictures before and after {name}, and the change, amplified around grey"
    return standalone(picture_rows(title, rows))
