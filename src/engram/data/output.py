"""Write records to a file, whole or not at all."""

import csv
import gzip
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engram.core.errors import EngramError
from engram.core.split import Split
from engram.data import context
from engram.data.files import ending
from engram.data.picture_output import write_pictures
from engram.data.writing import umask, unwritable

WRITTEN = ".jsonl, .csv, .tsv or .parquet (.jsonl, .csv and .tsv also with .gz)"


def write(split: Split, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write a split by its name's ending; `read` gives the same records, ids and owners back.

    CSV has no types, so it is for columns of text; features and lists need JSON lines or Parquet.
    What all records share (the shape of pictures, say) is kept by Parquet alone. A name that ends
    in / is a folder of pictures (`write_pictures`).

    Args:
        split: The records.
        path: Where to; its ending says how.
        force: Write over a file that is there.

    Returns:
        The path.

    Raises:
        EngramError: The ending is unknown, a file is there already, a column does not fit into
            the format, or the disk refuses. Nothing is left half-written.
    """
    if is_folder(path):
        write_pictures(split, path)
        return Path(path)
    path = Path(path)
    suffix, packed = ending(path.name)
    if suffix not in (".jsonl", ".csv", ".tsv", ".parquet") or (packed and suffix == ".parquet"):
        raise EngramError(
            f"{path.name} does not say a format that can be written",
            hint=f"end it with {WRITTEN}, or with / for a folder of pictures",
        )
    if path.is_dir() or (path.exists() and not force):
        raise EngramError(
            f"{path} is there already",
            hint="choose another name" + ("" if path.is_dir() else ", or use --force"),
        )
    table = split.to_table()
    if suffix != ".parquet":
        context.check_nothing_is_lost(split.shared, path.name)
    else:
        table = table.replace_schema_metadata(context.packed(split.shared) or None)
    if suffix in (".csv", ".tsv"):
        _check_flat(table, path)
    with _whole(path) as stream:
        if suffix == ".parquet":
            pq.write_table(table, stream, compression="zstd")
        elif packed:
            with gzip.GzipFile(fileobj=stream, mode="wb", mtime=0, filename="") as unpacked:
                _write_text(table, unpacked, suffix)
        else:
            _write_text(table, stream, suffix)
    return path


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a name to write to ends as the name of a folder."""
    return os.fspath(path).endswith(("/", os.sep))


def _check_flat(table: pa.Table, path: Path) -> None:
    for column in table.schema:
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            raise EngramError(
                f"{path.name}: the column {column.name!r} is {column.type}, which CSV cannot hold",
                hint="end the name with .jsonl or .parquet",
            )


@contextmanager
def _whole(path: Path) -> Iterator[BufferedIOBase]:
    """A stream to a file beside `path`, which takes its place when all is written."""
    part = None
    try:
        descriptor, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(part).chmod(0o666 & ~umask())
        Path(part).replace(path)
        part = None
    except OSError as problem:
        raise unwritable(path, problem) from problem
    finally:
        if part is not None:
            Path(part).unlink(missing_ok=True)


def _write_text(table: pa.Table, stream: BufferedIOBase, suffix: str) -> None:
    for block, batch in enumerate(table.to_batches(max_chunksize=4096)):
        rows = batch.to_pylist()
        text = (
            _json_lines(rows)
            if suffix == ".jsonl"
            else _separated(table.column_names, rows, "," if suffix == ".csv" else "\t", block == 0)
        )
        stream.write(text.encode("utf-8"))


def _json_lines(rows: list[dict[str, object]]) -> str:
    try:
        lines = [json.dumps(r, ensure_ascii=False, allow_nan=False, default=_text) for r in rows]
    except ValueError as problem:
        raise EngramError(
            f"a record holds a value that JSON has no word for ({problem})",
            hint="end the name with .parquet",
        ) from None
    return "".join(line + "\n" for line in lines)


def _text(value: object) -> str:
    """Dates and times as text; bytes have none."""
    if isinstance(value, bytes):
        raise ValueError("bytes")
    return str(value)


def _separated(names: list[str], rows: list[dict[str, object]], delimiter: str, first: bool) -> str:
    lines = _Lines()
    writer = csv.writer(lines, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    if first:
        writer.writerow(names)
    writer.writerows([_word(row[name]) for name in names] for row in rows)
    return "".join(lines)


def _word(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


class _Lines(list[str]):
    """Where `csv` writes to."""

    def write(self, text: str) -> None:
        self.append(text)
