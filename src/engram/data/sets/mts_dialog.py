"""1,201 talks of doctor and patient with the note that was made: text, section, dialogue."""

from collections.abc import Mapping

import pyarrow as pa

from engram.core.split import Split
from engram.data.named import DataSet
from engram.data.parsing import rows_of

ABOUT = DataSet(
    folder="mts_dialog",
    source="github.com/abachaa/MTS-Dialog at 3ff0801 (Main-Dataset/MTS-Dialog-TrainingSet.csv as "
    "train.csv, MTS-Dialog-ValidationSet.csv as valid.csv)",
    licence="CC BY 4.0",
    files={
        "train.csv": "65a28681dd59fc159681ea026e44610f2af7bc64a0e7f892d763eb03d9f503dc",
        "valid.csv": "227206520c4534381c0d7fba6d3f09319a9af5a6d9603a93c0341af1198e3958",
    },
    options={"part": ("train", "valid"), "text": ("note", "dialogue")},
)


def files(options: Mapping[str, str]) -> tuple[str, ...]:
    """The one file of the part that is asked for."""
    return (f"{options['part']}.csv",)


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> Split:
    """One record a note (or, with `text=dialogue`, a talk); the other one is a column too."""
    ((name, raw),) = files.items()
    rows = rows_of(raw, name)
    note, talk = rows.column("section_text"), rows.column("dialogue")
    text, other = (note, talk) if options["text"] == "note" else (talk, note)
    called = "dialogue" if options["text"] == "note" else "note"
    columns = {"text": text, "section": rows.column("section_header"), called: other}
    ids = [f"{options['part']}-{i}" for i in rows.column("ID").to_pylist()]
    return Split.from_table("mts-dialog", pa.table({**columns, "id": ids}))
