"""Write pictures to a folder of PNG files, a folder for each class, whole or not at all.

A file has 8 bits a channel, so pixels are rounded to steps of 1/255 of their range. Ids, owners,
classes as numbers and what else is said of a record in a word stand in `metadata.csv`.
"""

import csv
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, UInt8

from engram.core.errors import EngramError
from engram.core.split import Split
from engram.data import context
from engram.data.columns import FEATURES, LABEL
from engram.data.pictures import MOST, PLACES
from engram.data.writing import umask, unwritable
from engram.parts.image_files import require_pillow
from engram.parts.images import SHAPE
from engram.parts.origins import ORIGINS

LIST = "metadata.csv"
RANGE = "pixel_range"
"""What a split calls the smallest and largest value of its pixels."""
NAME = re.compile(r"\w([\w .,()+-]{0,98}[\w)+-])?")
"""Names of classes that can be a folder's on every system."""
EXACT = 5e-5
"""How far from a whole step, in steps of 1/255, float32 numbers may put one."""


def write_pictures(
    split: Split,
    folder: str | os.PathLike[str],
    *,
    originals: Split | None = None,
    pixels: Sequence[float] = (),
) -> float:
    """Write every record as a PNG file; `read` gives the same records back where 8 bits hold them.

    Args:
        split: Pictures: `features`, and their shape in what they share.
        folder: To be made.
        originals: What the pictures were before a change that keeps a budget. Of records with the
            same id no pixel is rounded away from its original: where that is a whole step of 1/255,
            rounding never lengthens a change.
        pixels: Smallest and largest value of a pixel; empty: what the split says, else 0 and 1.

    Returns:
        The most that rounding moved a pixel, in steps of 1/255; 0 where nothing was lost.

    Raises:
        EngramError: The records are no pictures, 8 bits or a list cannot hold them, something is
            there already, or the disk refuses. Nothing is left half-written.
    """
    path = Path(folder)
    if path.exists() or path.is_symlink():
        raise EngramError(f"{path} is there already", hint="choose another name, or remove it")
    check_pictures(split)
    context.check_nothing_is_lost(split.shared, f"a folder ({path})")
    require_pillow("writing pictures")
    steps = _steps(split, pixels)
    rounded, moved = _rounded(steps, _before(split, originals, steps, pixels))
    listed = _list(split)
    part = None
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        _fill(part, rounded, [int(side) for side in split.shared[SHAPE]], *listed)
        part.chmod(0o777 & ~umask())
        part.rename(path)
        part = None
    except OSError as problem:
        raise unwritable(path, problem) from problem
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
    return moved


def _fill(
    part: Path,
    rounded: UInt8[np.ndarray, "n d"],
    shape: list[int],
    folders: list[str],
    header: list[str],
    rows: list[list[object]],
) -> None:
    """Write the pictures and their list to an empty folder."""
    image = require_pillow("writing pictures")
    for folder in sorted(set(folders)):
        (part / folder).mkdir(exist_ok=True)
    names = [f"{folder}/{row:06d}.png".lstrip("/") for row, folder in enumerate(folders)]
    sides = shape[:2] if shape[2:] == [1] else shape
    for name, flat in zip(names, rounded, strict=True):
        image.fromarray(flat.reshape(sides)).save(part / name, format="PNG")
    with (part / LIST).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow([PLACES[0], *header])
        writer.writerows([name, *row] for name, row in zip(names, rows, strict=True))


def check_pictures(split: Split) -> None:
    """Raise unless the records are pictures that a folder can hold."""
    shape = [int(side) for side in split.shared.get(SHAPE, ())]
    if FEATURES not in split.columns or len(shape) not in (2, 3) or shape[2:] not in ([], [1], [3]):
        raise EngramError(
            f"the records of {split.name!r} are no pictures whose height and width are known, so "
            "they cannot be written to a folder of pictures",
            hint="end --out with .jsonl, .csv or .parquet instead of /",
        )
    if len(split) > MOST or not len(split):
        raise EngramError(
            f"{len(split):,} pictures cannot be written to a folder, but 1 to {MOST:,}",
            hint="end --out with .parquet",
        )


def _steps(split: Split, pixels: Sequence[float]) -> Float64[np.ndarray, "n d"]:
    """Pixels from 0 to 255, not yet rounded."""
    low, high = (float(x) for x in (pixels or split.shared.get(RANGE, (0.0, 1.0))))
    found = np.asarray(split.matrix(FEATURES), np.float64)
    if found.ndim != 2 or found.shape[1] != int(np.prod(split.shared[SHAPE])):
        raise EngramError(
            f"records of {split.name!r} have {found.shape[1:]} numbers, but pictures of "
            f"{tuple(int(x) for x in split.shared[SHAPE])}",
            hint="end --out with .parquet",
        )
    if not np.isfinite(found).all() or found.min() < low or found.max() > high:
        raise EngramError(
            f"pixels of {split.name!r} go from {found.min():g} to {found.max():g}, beyond {low:g} "
            f"to {high:g}, so they cannot be written as pictures",
            hint="end --out with .parquet, or say their range with --pixels, if it is another one",
        )
    return (found - low) * (255 / (high - low))


def _before(
    split: Split, originals: Split | None, steps: Float64[np.ndarray, "n d"],
    pixels: Sequence[float],
) -> Float64[np.ndarray, "n d"]:  # fmt: skip
    """The originals in the same steps; records that have none are their own."""
    if originals is None or set(originals.ids).isdisjoint(split.ids):
        return steps
    known = {record: row for row, record in enumerate(originals.ids)}
    old = _steps(originals, pixels)
    if old.shape[1] != steps.shape[1]:
        return steps
    before = steps.copy()
    for row, record in enumerate(split.ids):
        if record in known:
            before[row] = old[known[record]]
    return before


def _rounded(
    steps: Float64[np.ndarray, "n d"], before: Float64[np.ndarray, "n d"]
) -> tuple[UInt8[np.ndarray, "n d"], float]:
    """Whole steps: the nearest, but towards the original where it is known."""
    nearest, origin = np.rint(steps), np.rint(before)
    towards = np.where(steps > origin, np.floor(steps), np.ceil(steps))
    held = np.where(before == steps, nearest, towards)
    held = np.where(np.abs(steps - nearest) <= EXACT, nearest, held)  # as float32 has whole steps
    moved = float(np.abs(held - steps).max())
    return held.astype(np.uint8), 0.0 if moved <= EXACT else moved


def _list(split: Split) -> tuple[list[str], list[str], list[list[object]]]:
    """Each record's folder; the header of the list; and its rows."""
    table = split.to_table().drop_columns([FEATURES])
    columns: dict[str, list[object]] = {}
    for column in table.column_names:
        kind, values = table.schema.field(column).type, table.column(column).to_pylist()
        if column == ORIGINS:
            values = [" ".join(each or ()) for each in values]
        elif pa.types.is_nested(kind) or pa.types.is_binary(kind):
            raise EngramError(
                f"the column {column!r} is {kind}, which the list of a folder cannot hold",
                hint="end --out with .parquet",
            )
        columns[column] = [_word(value) for value in values]
    labels = table.column(LABEL).to_pylist() if LABEL in columns else [None] * len(split)
    names = _class_folders(split, labels)
    folders = ["" if label is None else names[label] for label in labels]
    return folders, list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def _class_folders(split: Split, labels: Sequence[object]) -> dict[object, str]:
    """A folder's name for each class: its own, where all of them can be names of folders."""
    classes = [str(name) for name in split.shared.get("classes", ())]
    found = sorted({label for label in labels if label is not None}, key=str)
    own = {label: classes[label] if label in range(len(classes)) else str(label) for label in found}
    different = len({name.casefold() for name in own.values()}) == len(own)
    if different and all(NAME.fullmatch(name) for name in own.values()):
        return own
    return {label: f"class-{number}" for number, label in enumerate(found)}


def _word(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value
