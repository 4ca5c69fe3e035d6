"""The shape in which a classifier sees a record of so many numbers."""

from math import isqrt, prod

from engram.core import EngramError


def shape_of_records(architecture: str, shape: tuple[int, ...], width: int) -> tuple[int, ...]:
    """The shape of a record of `width` features: as given, else flat (mlp) or square (cnn)."""
    if shape:
        if prod(shape) != width:
            raise EngramError(
                f"shape {shape} holds {prod(shape)} numbers, but records have {width} features",
                hint="give channels, height and width",
            )
        return shape
    if architecture == "mlp":
        return (width,)
    side = isqrt(width)
    if side * side != width:
        raise EngramError(
            f"records have {width} features, which make no square image",
            hint="give --shape CHANNELS HEIGHT WIDTH, or use --architecture mlp",
        )
    return (1, side, side)
