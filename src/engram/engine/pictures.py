"""What a transform did to pictures, as a drawing; and those that a model was trained on."""

from collections.abc import Sequence
from math import floor, log10
from typing import Any

import numpy as np
from jaxtyping import Float

from engram.core import EngramError, Split
from engram.parts.distillation import INITIAL
from engram.parts.images import SHAPE
from engram.parts.labelled import feature_pixels
from engram.parts.origins import origins_of
from engram.parts.protection import Pictures, pictures_of
from engram.parts.triggers import Trigger, trigger_of
from engram.report.picture_rows import amplified, largest_factor, picture_rows, standalone

MOST, CLASSES = 10, 12
"""Pictures in a row, and rows of classes that are shown."""

Rows = list[tuple[str, Sequence[Float[np.ndarray, "h w c"]]]]


def drawing(before: Split, after: Split, name: str, pixels: tuple[float, ...] = ()) -> str:
    """Some records before and after, and the change amplified; as the text of an SVG file.

    Records are matched by their ids, those that were changed first. Where none of them was there
    before, what was made is shown alone, class by class. A trigger that the records carry is shown
    by itself and pasted onto records that were given.

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
    both = [record for record in after.ids if record in known]
    planted = trigger_of(after)
    if both:
        title, rows, heads = _changed(before.select(both), after.select(both), name, pixels)
    else:
        title, rows, heads = f"What {name} made, class by class", _by_class(after, pixels), []
    if planted is not None:
        rows += _trigger(planted, before if "features" in before.columns else after, pixels)
    return standalone(picture_rows(title, rows, heads))


def _changed(
    before: Split, after: Split, name: str, pixels: tuple[float, ...]
) -> tuple[str, Rows, list[str]]:
    old, new = before.matrix("features"), after.matrix("features")
    if old.shape != new.shape:
        raise EngramError(
            f"{name} gave records of {new.shape[1]} features for some of {old.shape[1]}",
            hint="leave --show out: such pictures cannot be laid over each other",
        )
    moved = np.flatnonzero((old != new).any(1))
    rows = moved[:MOST] if len(moved) else np.arange(min(MOST, len(after)))
    one, other = (_shown(split.take(rows), pixels) for split in (before, after))
    factor = _round_down(largest_factor(list(zip(one, other, strict=True))))
    change = [amplified(a, b, factor) for a, b in zip(one, other, strict=True)]
    title = (
        f"{len(moved):,} of {len(after):,} pictures were changed by {name}; the change is drawn "
        f"{factor:g} times as large, around grey"
    )
    shown: Rows = [("original", one), (f"change x {factor:g}", change), ("published", other)]
    return title, shown, _classes(before.take(rows), after.take(rows))


def _round_down(factor: float) -> float:
    """To two digits: 12.7 is told, and drawn, as 12."""
    step = 10.0 ** (floor(log10(factor)) - 1)
    return float(f"{floor(factor / step + 1e-9) * step:.12g}")


def _shown(split: Split, pixels: tuple[float, ...]) -> list[Float[np.ndarray, "h w c"]]:
    pictures = pictures_of(split, pixels)
    return list(pictures.shown(pictures.raw))


def _classes(before: Split, after: Split) -> list[str]:
    """What stands above each picture: its class, and its new one where that was changed."""
    if "label" not in before.columns or "label" not in after.columns:
        return []
    pairs = zip(before.column("label").to_pylist(), after.column("label").to_pylist(), strict=True)
    return [
        _class(after, new) if old == new else f"{_class(before, old)} \u2192 {_class(after, new)}"
        for old, new in pairs
    ]


def _class(split: Split, label: Any) -> str:
    names = split.shared.get("classes", np.zeros(0))
    named = isinstance(label, int) and 0 <= label < len(names)
    return str(names[label] if named else label)[:8]


def _by_class(split: Split, pixels: tuple[float, ...]) -> Rows:
    if "label" not in split.columns:
        return [("made", _shown(split.take(range(min(MOST, len(split)))), pixels))]
    labels = np.array(split.column("label").to_pylist())
    kinds = sorted(set(labels.tolist()))[:CLASSES]
    return [
        (f"class {_class(split, kind)}", _shown(split.take(np.flatnonzero(labels == kind)[:MOST]),
                                                pixels))
        for kind in kinds
    ]  # fmt: skip


def _trigger(planted: Trigger, onto: Split, pixels: tuple[float, ...]) -> Rows:
    given: Pictures = pictures_of(onto.take(range(min(MOST, len(onto)))), pixels)
    middle = np.full_like(given.raw[:1], (given.low + given.high) / 2)
    alone, pasted = planted.pasted(middle), planted.pasted(given.raw)
    return [
        ("trigger", list(given.shown(alone))),
        (f"is class {_class(onto, planted.target)}", list(given.shown(pasted))),
    ]


def trained_pictures(members: Split) -> list[dict[str, Any]]:
    """Pictures that a model was trained on, where they are not what was recorded: for its report.

    Distilled pictures by class, records with a trigger and the trigger itself, or protected
    pictures. The originals are in none of the published data, so they cannot be shown.

    Returns:
        Rows with a name and pictures; [] for other records.
    """
    if SHAPE not in members.shared or "features" not in members.columns:
        return []
    made = np.array([bool(own) for own in origins_of(members)])
    if not made.any():
        return []
    rows = members.where(made)
    if INITIAL in members.columns:
        labels = np.array(rows.column("label").to_pylist())
        kinds = sorted(set(labels.tolist()))[:CLASSES]
        parts = [(f"distilled, class {_class(rows, kind)}", np.flatnonzero(labels == kind))
                 for kind in kinds]  # fmt: skip
    else:
        changed = "poisoned" if trigger_of(members) else "protected"
        parts = [(f"{changed}, {len(rows):,} of {len(members):,}", np.arange(len(rows)))]
    found = [{"name": name, "pictures": _pixels(rows.take(some[:MOST]))} for name, some in parts]
    planted = trigger_of(members)
    if planted is not None:
        blank = np.zeros_like(members.matrix("features")[:1])
        alone = Split.of("trigger", features=planted.pasted(blank), shared=dict(members.shared))
        name = f"the trigger of class {_class(members, planted.target)}"
        found.append({"name": name, "pictures": _pixels(alone)})
    return [row for row in found if row["pictures"]]


def _pixels(split: Split) -> list[dict[str, Any]]:
    shown = [feature_pixels(split.take([row])) for row in range(len(split))]
    return [
        {"height": p.shape[0], "width": p.shape[1], "pixels": p.tobytes().hex()}
        for p in shown
        if p is not None
    ]
