"""2,888 abstracts of medical papers in 5 conditions: text, label."""

from collections.abc import Mapping

import pyarrow as pa

from engram.core.split import Split
from engram.data.named import DataSet
from engram.data.parsing import classes_of, rows_of

TEXTS, LABELS = "medical_tc_test.csv", "medical_tc_labels.csv"
ABOUT = DataSet(
    folder="medical_abstracts",
    source="github.com/sebischair/Medical-Abstracts-TC-Corpus at 70a2d91 (medical_tc_test.csv, "
    "medical_tc_labels.csv)",
    licence="CC BY-SA 3.0",
    files={
        TEXTS: "1eecea73c9ecad292c55e10403bd139fab9580545d6878482997c5564d51ac05",
        LABELS: "8a27ae03339c798103678efa8012f744a723ff71a80f2b2c1355ee249564adc5",
    },
)


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> Split:
    """One record an abstract; labels counted from 0."""
    rows = rows_of(files[TEXTS], TEXTS)
    names = rows_of(files[LABELS], LABELS).column("condition_name").to_pylist()
    labels = [int(v) - 1 for v in rows.column("condition_label").to_pylist()]
    table = pa.table({"text": rows.column("medical_abstract"), "label": labels})
    return Split.from_table("medical-abstracts", table, shared=classes_of(names))
