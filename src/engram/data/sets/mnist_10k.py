"""10,000 handwritten digits, 28 x 28 grey values: features from 0 to 1, label."""

from collections.abc import Mapping

import numpy as np

from engram.core.split import Split
from engram.data.named import DataSet
from engram.data.parsing import arrays_of, feature_split

FILE = "mnist_t10k.npz"
ABOUT = DataSet(
    folder="mnist_10k",
    source="github.com/mnhng/CoPA at a2b2efd (data/mnist/t10k-*-ubyte.gz)",
    licence="MIT (repository); CC BY-SA 3.0 (MNIST)",
    files={FILE: "af5595f05f0cc260498196e07655cfa443d2d96874d5ba0dcfeaea06defbda81"},
    made="npz with `images` (10000, 28, 28) and `labels`, both uint8",
)


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> Split:
    """One record an image, row by row; `shared["image_shape"]` is (28, 28)."""
    arrays = arrays_of(files[FILE])
    pixels = arrays["images"].reshape(len(arrays["images"]), -1) / np.float32(255)
    shared = {"image_shape": np.array([28, 28])}
    return feature_split(
        "mnist-10k", pixels.astype(np.float32), arrays["labels"].astype(np.int64), shared
    )
