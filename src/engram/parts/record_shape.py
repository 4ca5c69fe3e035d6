"""The shape in which a classifier sees a record of so many numbers."""

from math import isqrt, prod

from engram.core import EngramError, Split
from engram.parts.images import SHAPE
from engram.parts.networks import CELLS, IMAGES, Layout


def layout_of_records(
    architecture: str,
    shape: tuple[int, ...],
    split: Split,
    width: int,
    classes: int,
    size: tuple[int, int] = (64, 2),
) -> Layout:
    """What a network for these records is made from.

    Args:
        architecture: By name.
        shape: Channels, height and width, over which features run in this order; empty: an image's
            as the split's `shared["image_shape"]` says (height, width[, channels last]), else a
            square of one channel; other records' as they are.
        split: The records.
        width: How many features a record has.
        classes: How many there are.
        size: Width and layers of the network.

    Raises:
        EngramError: The shape holds another number of features.
    """
    last = False
    if shape:
        _check_holds("shape", shape, width, "give channels, height and width")
    elif architecture != "mlp" and SHAPE in split.shared:
        shape, last = _stated(split, width)
    elif architecture in IMAGES or architecture.startswith(CELLS):
        shape = (1, *_square(width))
    else:
        shape = (width,)
    return Layout(architecture, shape, classes, *size, colours_last=last)


def _stated(split: Split, width: int) -> tuple[tuple[int, ...], bool]:
    """Channels, height and width as the split says, and whether channels run last."""
    stated = tuple(int(side) for side in split.shared[SHAPE])
    hint = "the features were changed; give --shape CHANNELS HEIGHT WIDTH, or use an mlp"
    _check_holds(f"the {SHAPE} of split {split.name!r}", stated, width, hint)
    if len(stated) not in (2, 3):
        raise EngramError(
            f"the {SHAPE} of split {split.name!r} is {stated}",
            hint="it is height and width, or height, width and channels",
        )
    height, across, channels = (*stated, 1)[:3]
    return (channels, height, across), channels > 1


def _square(width: int) -> tuple[int, int]:
    side = isqrt(width)
    if side * side != width:
        raise EngramError(
            f"records have {width} features, which make no square image",
            hint="give --shape CHANNELS HEIGHT WIDTH, or use --architecture mlp",
        )
    return side, side


def _check_holds(what: str, shape: tuple[int, ...], width: int, hint: str) -> None:
    if prod(shape) != width:
        raise EngramError(
            f"{what} {shape} holds {prod(shape)} numbers, but records have {width} features",
            hint=hint,
        )
