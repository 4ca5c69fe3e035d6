"""Records of classifiers: a column `features` of numbers and a column `label` of classes."""

from math import prod

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, UInt8

from engram.core import EngramError, Finding, Split
from engram.parts.images import SHAPE, as_rgb
from engram.stats.intervals import mean_finding, proportion


def check_labelled_split(split: Split) -> None:
    """Raise where features are not equally many finite numbers, or labels not whole numbers.

    Raises:
        EngramError: A column is missing (the columns there are, are named) or of another kind.
    """
    kind = split.column("label").type
    if not pa.types.is_integer(kind):
        raise EngramError(
            f"column 'label' of split {split.name!r} holds {kind}, not whole numbers",
            hint="number the classes 0, 1, 2, ...",
        )
    if split.column("label").null_count:
        raise EngramError(
            f"split {split.name!r} has {split.column('label').null_count} records without a label",
            hint="leave them out",
        )
    if len(split) and int(split.matrix("label").min()) < 0:
        raise EngramError(
            f"split {split.name!r} has the label {int(split.matrix('label').min())}",
            hint="number the classes 0, 1, 2, ...",
        )
    features_of(split)


def features_of(split: Split, width: int | None = None) -> Float[np.ndarray, "n features"]:
    """The features as float32; with `width`, each record must have so many.

    Raises:
        EngramError: They are no numbers, not equally many, or not finite.
    """
    column = split.column("features")
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)):
        kind = pa.list_(kind)
        rows: list[object] = [[x] for x in column.to_pylist()]
    else:
        rows = [] if pa.types.is_fixed_size_list(kind) else column.to_pylist()
    if not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise EngramError(
            f"column 'features' of split {split.name!r} holds {column.type}, not numbers",
            hint="a record's features are a list of numbers",
        )
    if pa.types.is_fixed_size_list(kind):
        found = np.array(split.matrix("features"), np.float32)  # Arrow's own may not be written
    else:
        found = _stacked(rows, split.name)
    if width is not None and len(found) and found.shape[1] != width:
        raise EngramError(
            f"records of split {split.name!r} have {found.shape[1]} features, but the model "
            f"takes {width}",
            hint="give records of the kind that the model was trained on",
        )
    if not np.isfinite(found).all():
        bad = split.ids[int(np.argmin(np.isfinite(found).all(axis=1)))]
        raise EngramError(
            f"record {bad!r} of split {split.name!r} has a feature that is not finite",
            hint="fill in missing numbers, or leave such records out",
        )
    return found


def labels_of(split: Split, classes: int | None = None) -> Int[np.ndarray, " n"]:
    """The labels; with `classes`, each must be below that number."""
    labels = np.array(split.matrix("label"), np.int64)
    if classes is not None and len(labels) and labels.max() >= classes:
        raise EngramError(
            f"split {split.name!r} has the label {labels.max()}, but the model knows "
            f"{classes} classes (0 to {classes - 1})",
            hint="give records of the kind that the model was trained on",
        )
    return labels


def label_quality(
    logits: Float[np.ndarray, "n classes"],
    losses: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    rng: np.random.Generator,
) -> tuple[Finding, ...]:
    """Accuracy with its exact interval, and the mean log-loss in nats."""
    if not len(labels):
        return (Finding.missing("accuracy", "there are no records"),)
    hits = int(np.sum(logits.argmax(1) == labels))
    accuracy = proportion(hits, len(labels), "accuracy")
    loss = mean_finding(losses, "log-loss", "nats", rng)
    return accuracy.tagged(better="higher"), loss.tagged(better="lower")


def neighbours(
    split: Split, strength: float, rng: np.random.Generator, reach: float = 0.05
) -> Split:
    """Resample a share of each record's features within a narrow quantile.

    A changed feature takes its value from a record whose rank in that feature is at most
    `reach * n` (at least one) away, so that values stay possible and close.
    """
    if not 0 < strength <= 1:
        raise EngramError(
            f"strength is {strength}, but must be in (0, 1]", hint="0.1 changes a tenth"
        )
    found = features_of(split)
    n, width = found.shape
    order = np.argsort(found, axis=0, kind="stable")
    rank = np.argsort(order, axis=0, kind="stable")
    far = max(1, int(reach * n))
    other = np.clip(rank + rng.integers(-far, far + 1, (n, width)), 0, max(n - 1, 0))
    drawn = np.take_along_axis(np.take_along_axis(found, order, 0), other, 0)
    count = int(np.ceil(strength * width))
    chosen = np.argsort(rng.random((n, width)), axis=1) < count
    changed = np.where(chosen, drawn, found)
    values = pa.FixedSizeListArray.from_arrays(pa.array(changed.reshape(-1)), width)
    place = split.records.column_names.index("features")
    records = split.records.set_column(place, "features", values)
    return Split(split.name, records, split.ids, split.owners, split.canaries, split.shared)


def noise_records(n: int, width: int, classes: int, rng: np.random.Generator) -> Split:
    """Records to plant: Gaussian features and a random label, each its own owner."""
    table = pa.table(
        {
            "features": pa.FixedSizeListArray.from_arrays(
                pa.array(rng.normal(size=n * width).astype(np.float32)), width
            ),
            "label": pa.array(rng.integers(0, classes, n), pa.int64()),
            "owner": pa.array([f"canary-{i}" for i in range(n)], pa.string()),
            "canary": pa.array([True] * n, pa.bool_()),
        }
    )
    return Split.from_table("canaries", table)


def feature_pixels(one: Split) -> UInt8[np.ndarray, "height width 3"] | None:
    """The features of one record as the picture that the split says they are; None if they are not.

    The darkest value becomes black, and the lightest white; values from 0 to 1 stay as they are.
    """
    values, shape = features_of(one)[0], [int(side) for side in one.shared[SHAPE]]
    if len(shape) not in (2, 3) or prod(shape) != len(values) or not len(values):
        return None
    low, high = min(0.0, float(values.min())), max(1.0, float(values.max()))
    scaled = ((values - low) / (high - low)).reshape(*shape[:2], -1)
    return as_rgb(scaled, one.ids[0]) if scaled.shape[2] in (1, 3) else None


def rendered(split: Split, row: int, most: int = 12) -> str:
    """A record as text: its label, and its first features, or the size of its picture."""
    numbers = features_of(split.take([row]))[0]
    label = int(labels_of(split.take([row]))[0])
    names = split.shared.get("classes", np.zeros(0))
    named = label < len(names) and str(names[label]) != str(label)
    called = f"{label} ({names[label]})" if named else str(label)
    shape = [int(side) for side in split.shared.get(SHAPE, ())]
    if shape and prod(shape) == len(numbers):
        return f"label {called}: a picture of {' x '.join(map(str, shape))} values"
    shown = ", ".join(f"{x:.4g}" for x in numbers[:most])
    rest = f", and {len(numbers) - most} more" if len(numbers) > most else ""
    return f"label {called}: {shown}{rest}"


def _stacked(rows: list[object], name: str) -> Float[np.ndarray, "n features"]:
    sizes = {len(row) if isinstance(row, list) else -1 for row in rows}
    if len(sizes) > 1 or -1 in sizes:
        raise EngramError(
            f"records of split {name!r} have unequal numbers of features "
            f"({', '.join(map(str, sorted(sizes - {-1})))})",
            hint="give every record the same features",
        )
    width = sizes.pop() if sizes else 0
    return np.array(rows, np.float32).reshape(len(rows), width)
