"""7,600 news items in 4 classes: text, label."""

from collections.abc import Mapping

import pyarrow as pa

from engram.core.split import Split
from engram.data.named import DataSet
from engram.data.parsing import classes_of, rows_of

TEXTS, LABELS = "test.csv", "classes.txt"
ABOUT = DataSet(
    folder="ag_news",
    source="github.com/mhjabreel/CharCnn_Keras at 555590d (data/ag_news_csv/)",
    licence="none stated; provided for research and any other non-commercial activity",
    files={
        TEXTS: "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699",
        LABELS: "612dbfa932f07a6ed837295a7d5746ce7412e7bb4bc32ba919fdb3cda3a1b9b5",
    },
)


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> Split:
    """One record an item: title, line end, description. A backslash there stands for a space."""
    rows = rows_of(b"class,title,description\n" + files[TEXTS], TEXTS)
    titles, stories = (rows.column(c).to_pylist() for c in ("title", "description"))
    texts = [f"{t}\n{s}".replace("\\", " ") for t, s in zip(titles, stories, strict=True)]
    labels = [int(c) - 1 for c in rows.column("class").to_pylist()]
    names = rows_of(files[LABELS], LABELS).column("text").to_pylist()
    table = pa.table({"text": texts, "label": labels})
    return Split.from_table("ag-news", table, shared=classes_of(names))
