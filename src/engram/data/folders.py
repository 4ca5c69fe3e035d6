"""Folders of data: what `datasets.save_to_disk` wrote, or the shards of one set."""

import json
import re
from pathlib import Path

import pyarrow as pa

from engram.core.errors import EngramError, nearest
from engram.data.files import FORMATS, READERS, check_regular, ending, read_rows
from engram.data.formats import plain
from engram.data.rows import Rows
from engram.data.sources import Limits

STATE, DICT = "state.json", "dataset_dict.json"


def read_folder(folder: Path, limits: Limits) -> Rows:
    """The rows of a folder.

    Raises:
        EngramError: There is nothing to read, or more than one set of records.
    """
    if (folder / STATE).is_file():
        return _saved(folder)
    if (folder / DICT).is_file():
        names = sorted(p.name for p in folder.iterdir() if (p / STATE).is_file())
        if len(names) != 1:
            raise EngramError(
                f"{folder} holds several data sets: {', '.join(names)}",
                hint=f"name one: {folder / (names or ['NAME'])[0]}",
            )
        return _saved(folder / names[0])
    try:
        every = sorted(p for p in folder.iterdir() if p.is_file() and p.name[0] != ".")
    except OSError as problem:
        raise EngramError(
            f"{folder} cannot be read ({problem.strerror})", hint="check its permissions"
        ) from None
    files = [p for p in every if ending(p.name)[0] in READERS and p.suffix != ".json"]
    if not files:
        raise EngramError(
            f"{folder} is a folder with no data files in it ({len(every)} other files)",
            hint=f"data files are {FORMATS}; pictures lie in a folder for each class",
        )
    if len({re.sub(r"[0-9]+", "#", p.name) for p in files}) > 1:
        raise EngramError(
            f"{folder} holds several data sets: {', '.join(p.name for p in files[:6])}",
            hint=f"name one: {files[0]}",
        )
    return _joined([read_rows(path, limits) for path in files], folder)


def _joined(parts: list[Rows], folder: Path) -> Rows:
    if len(parts) == 1:
        return parts[0]
    try:
        table = pa.concat_tables([part.table for part in parts], promote_options="permissive")
    except pa.ArrowException as problem:
        raise EngramError(
            f"the files in {folder} do not fit together ({problem})",
            hint="shards of one set have the same columns",
        ) from None
    return Rows(table.combine_chunks(), str(folder), None, all(part.typed for part in parts))


def _saved(folder: Path) -> Rows:
    """What `datasets.save_to_disk` wrote: Arrow streams that `state.json` names in order."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        names = [str(entry["filename"]) for entry in state["_data_files"]]
        if state.get("_indices_data_files") or any(Path(n).name != n for n in names):
            raise ValueError("it points outside of the folder, or is of an old kind")
        tables = []
        for name in names:
            check_regular(folder / name)
            with pa.memory_map(str(folder / name)) as stored:
                tables.append(plain(pa.ipc.open_stream(stored).read_all()))
        table = pa.concat_tables(tables).replace_schema_metadata(None)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as problem:
        raise EngramError(
            f"{folder} is not a data set that `save_to_disk` wrote ({problem})",
            hint="load it with `datasets` and save it again",
        ) from None
    return Rows(table.combine_chunks(), str(folder))


def neighbours(path: Path) -> str:
    """A hint that names files beside a missing one."""
    parent = path.parent if str(path.parent) else Path()
    try:
        names = [str(parent / p.name) for p in parent.iterdir()]
    except OSError:
        return f"there is no folder {parent} either"
    return nearest(str(path), names, f"the formats are {FORMATS}")
