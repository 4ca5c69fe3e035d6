"""297 patients of a heart clinic, 13 measurements: features, label: narrowed vessels or not."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from engram.core.split import Split
from engram.data.named import DataSet
from engram.data.parsing import table_split

FILE = "processed.cleveland.csv"
ABOUT = DataSet(
    folder="heart_cleveland",
    source="github.com/joymallyac/Fair-SMOTE at e2c6fba (data/processed.cleveland.data.csv)",
    licence="Apache-2.0 (repository); CC BY 4.0 (UCI)",
    files={FILE: "70976843385af63bc4d9382b24e539e927a0ed870c921f84dbdebea3175b886c"},
    options={"label": ("binary", "graded")},
)


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> Split:
    """One record a patient; `label=graded` keeps the five grades."""
    split = table_split("heart-cleveland", files[FILE], FILE, label="Probability")
    if options["label"] == "graded":
        return split
    ill = np.asarray(split.matrix("label") > 0, np.int64)
    place = split.records.column_names.index("label")
    table = split.records.set_column(place, "label", pa.array(ill))
    shared = {**split.shared, "classes": np.array(["healthy", "narrowed"])}
    return Split.from_table("heart-cleveland", table, shared=shared)
