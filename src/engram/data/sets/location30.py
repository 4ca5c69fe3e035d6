"""5,010 people, 446 places that each visited or not, in 30 groups: features, label."""

from collections.abc import Mapping

import numpy as np

from engram.core.split import Split
from engram.data.named import DataSet
from engram.data.parsing import arrays_of, feature_split

FILE = "location30.npz"
ABOUT = DataSet(
    folder="location30",
    source="github.com/privacytrustlab/datasets at 169de9d (dataset_location.tgz, bangkok)",
    licence="none stated; released for research",
    files={FILE: "488322d9ebc9ecdbcce9ffe8f6792753ca53774f49c9c95510dd4e51f53c2e27"},
    made="npz with `labels`, `features_packed` by numpy.packbits along rows, and `n_features`",
)


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> Split:
    """One record a person: 0 or 1 for each place; groups counted from 0."""
    arrays = arrays_of(files[FILE])
    places = np.unpackbits(arrays["features_packed"], axis=1)[:, : int(arrays["n_features"])]
    labels = arrays["labels"].astype(np.int64) - 1
    return feature_split("location30", places.astype(np.float32), labels)
