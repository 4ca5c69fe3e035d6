"""Records with pictures: a column `image` of numbers, whatever its shape, as grey or RGB pixels.

A picture is stored as nested lists (rows of pixels, or rows of pixels of channels), or flat; then
its shape stands beside it in the column `image_shape`, or once for all records in the split's
`shared["image_shape"]`. Whole numbers go from 0 to 255, others from 0 to 1. Whatever they were,
models are given (height, width, 3) bytes: grey values stand in all three channels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from engram.core import EngramError, Split

IMAGE, SHAPE = "image", "image_shape"
Pixels = UInt8[np.ndarray, "height width 3"]


def has_images(split: Split) -> bool:
    """Whether the records bring pictures."""
    return IMAGE in split.columns


def images_of(split: Split) -> list[Pixels]:
    """The picture of each record.

    Raises:
        EngramError: There is no column `image`, a record has no picture, or one that is none:
            of another shape than stated, with pixels out of range or that are no numbers.
    """
    if not has_images(split):
        raise EngramError(
            f"split {split.name!r} has no column 'image'; it has {', '.join(split.columns)}",
            hint="give every record its picture as rows of pixels from 0 to 255, or from 0 to 1",
        )
    column = split.column(IMAGE)
    _check_kind(column.type, split.name)
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise EngramError(
            f"record {split.ids[row]!r} of split {split.name!r} has no image "
            f"({column.null_count} such records)",
            hint="give every record a picture, or leave those records out",
        )
    fixed = pa.types.is_fixed_size_list(column.type)
    found = split.matrix(IMAGE) if fixed else column.to_pylist()
    shapes = _shapes(split)
    return [
        as_rgb(_array(each, shape, record), record)
        for each, shape, record in zip(found, shapes, split.ids, strict=True)
    ]


def as_rgb(pixels: np.ndarray, record: str) -> Pixels:
    """A picture as bytes in three channels.

    Args:
        pixels: Grey (height, width), or (height, width, 1 or 3); whole numbers from 0 to 255, or
            others from 0 to 1.
        record: Whose it is, for messages.
    """
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        raise EngramError(
            f"the image of record {record!r} has the shape {tuple(pixels.shape)}",
            hint="a picture is (height, width), or (height, width, 3) with red, green and blue",
        )
    if not np.isfinite(pixels).all():
        raise EngramError(
            f"the image of record {record!r} has a pixel that is not a number",
            hint="fill such pixels in, or leave the record out",
        )
    whole = np.issubdtype(pixels.dtype, np.integer)
    low, high, most = pixels.min(), pixels.max(), 255 if whole else 1
    if low < 0 or high > most:
        raise EngramError(
            f"the image of record {record!r} has pixels from {low:g} to {high:g}, beyond 0 to "
            f"{most}",
            hint="whole numbers go from 0 to 255, others from 0 to 1",
        )
    scaled = pixels if whole else np.rint(pixels * 255.0)
    return np.ascontiguousarray(np.broadcast_to(scaled.astype(np.uint8), (*pixels.shape[:2], 3)))


def image_columns(images: Sequence[np.ndarray]) -> dict[str, pa.Array]:
    """Columns `image` and `image_shape` of pictures of one shape: (height, width[, channels])."""
    stacked = np.stack(images)
    size = int(np.prod(stacked.shape[1:]))
    flat = pa.array(np.ascontiguousarray(stacked).reshape(-1))
    shape = pa.array([list(stacked.shape[1:])] * len(stacked), pa.list_(pa.int32()))
    return {IMAGE: pa.FixedSizeListArray.from_arrays(flat, size), SHAPE: shape}


def _check_kind(kind: pa.DataType, name: str) -> None:
    inner, depth = kind, 0
    while pa.types.is_list(inner) or pa.types.is_fixed_size_list(inner):
        inner, depth = inner.value_type, depth + 1
    number = pa.types.is_integer(inner) or pa.types.is_floating(inner)
    if not depth or not number:
        raise EngramError(
            f"column 'image' of split {name!r} holds {kind}, not lists of numbers",
            hint="give every record its picture as rows of pixels; files of pictures are read by "
            "the transform safety-triples",
        )


def _shapes(split: Split) -> list[Any]:
    if SHAPE in split.columns:
        return split.column(SHAPE).to_pylist()
    shared = split.shared.get(SHAPE)
    return [None if shared is None else [int(x) for x in shared]] * len(split)


def _array(value: Any, shape: Sequence[int] | None, record: str) -> np.ndarray:
    try:
        pixels = np.asarray(value)
    except ValueError:  # rows of unequal length
        pixels = np.empty(0, object)
    if pixels.dtype == object:
        raise EngramError(
            f"the image of record {record!r} has rows of unequal length, or a pixel is missing",
            hint="every row of a picture has as many pixels as the others",
        )
    if pixels.ndim > 1:
        return pixels
    if shape is None:
        raise EngramError(
            f"the image of record {record!r} is flat ({pixels.size} numbers), and nothing says "
            "its height and width",
            hint="write it as rows of pixels, or give a column image_shape: [height, width]",
        )
    if any(side < 1 for side in shape) or int(np.prod(shape)) != pixels.size:
        raise EngramError(
            f"the image of record {record!r} has {pixels.size} numbers, but its image_shape is "
            f"{list(shape)}",
            hint="height times width times channels is the number of pixels",
        )
    return pixels.reshape(tuple(shape))


def jittered(split: Split, strength: float, rng: np.random.Generator) -> Split:
    """Neighbours that keep the meaning: the light changes, and single pixels flicker a little.

    Args:
        split: With pictures.
        strength: In (0, 1]: at 1 the light changes by up to a half, and each pixel by a tenth.
        rng: The stream of these changes.
    """
    changed = []
    for image in images_of(split):
        light = 1 + rng.uniform(-0.5, 0.5) * strength
        noise = rng.normal(0, 25.5 * strength, image.shape[:2])[:, :, None]
        changed.append(np.clip(np.rint(image * light + noise), 0, 255).astype(np.uint8))
    table = split.records.drop_columns([c for c in (IMAGE, SHAPE) if c in split.columns])
    flat = [[int(x) for x in image.reshape(-1)] for image in changed]
    table = table.append_column(IMAGE, pa.array(flat, pa.list_(pa.uint8())))
    shapes = [list(image.shape) for image in changed]
    table = table.append_column(SHAPE, pa.array(shapes, pa.list_(pa.int32())))
    return Split(split.name, table, split.ids, split.owners, split.canaries, split.shared)
