"""`sklearn:NAME`: the small classification tables that scikit-learn carries."""

import numpy as np

from engram.core.errors import EngramError, nearest
from engram.core.split import Split
from engram.data.sources import Source, parted
from engram.data.tabular import feature_table

PREFIX = "sklearn:"
TABLES = {
    "breast_cancer": "569 tumours, 30 measurements, benign or malignant",
    "digits": "1,797 handwritten digits, 8 x 8 grey values from 0 to 1",
    "iris": "150 flowers, 4 measurements, 3 kinds",
    "wine": "178 wines, 13 measurements, 3 growers",
}
_NUMBERS = ("diabetes", "linnerud", "california_housing")


def read_sklearn(source: str) -> Split:
    """Features as scikit-learn has them (digits divided by 16), `label`, and ids by row."""
    base, options = parted(source)
    name = base.removeprefix(PREFIX)
    if options:
        raise EngramError(f"{base!r} has no options", hint=f"write {base}")
    if name in _NUMBERS:
        raise EngramError(
            f"{base!r} asks for a number, not a class: it is a regression data set",
            hint=f"the classification sets are {', '.join(TABLES)}",
        )
    if name not in TABLES:
        raise EngramError(
            f"scikit-learn carries no data set {name!r} that is read here",
            hint=nearest(name, TABLES, f"there are {', '.join(TABLES)}"),
        )
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")()
    features = np.asarray(found.data, np.float32) / np.float32(16 if name == "digits" else 1)
    shared = {
        "classes": np.array([str(c) for c in found.target_names]),
        "feature_names": np.array([str(f) for f in found.feature_names]),
    }
    if name == "digits":
        shared["image_shape"] = np.array([8, 8])
    table = feature_table(features, np.asarray(found.target, np.int64))
    return Split.from_table(name, table, shared=shared)


def estimators() -> tuple[Source, ...]:
    """For listings."""
    return tuple(Source(PREFIX + name, about, "sklearn") for name, about in TABLES.items())
