"""Open a file from outside, and read it by its name's ending."""

import gzip
import lzma
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

from engram.core.errors import EngramError
from engram.data.formats import (
    Reader,
    read_csv,
    read_json,
    read_jsonl,
    read_parquet,
    read_text,
    read_tsv,
)
from engram.data.rows import Rows
from engram.data.sources import Limits

READERS: dict[str, Reader] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
    ".txt": read_text,
}
FORMATS = ".jsonl, .json, .csv, .tsv, .parquet and .txt, and .gz of the text formats"
PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".bin", ".npy"})


def ending(name: str) -> tuple[str, bool]:
    """The file kind by its name, and whether it is compressed: `a.csv.gz` -> `(".csv", True)`."""
    name = name.lower()
    packed = name.endswith(".gz")
    return Path(name.removesuffix(".gz")).suffix, packed


def read_rows(path: Path, limits: Limits) -> Rows:
    """The rows of one file.

    Raises:
        EngramError: It is missing, empty, no regular file, of a kind that is not read, or broken.
    """
    check_regular(path)
    reader, packed = reader_of(path.name)
    if path.stat().st_size == 0:
        raise EngramError(f"{path} is empty (0 bytes)", hint="write one record a line into it")
    with opened(path, packed) as stream:
        return reader(stream, str(path), limits, limits.total if packed else None)


def reader_of(name: str) -> tuple[Reader, bool]:
    """The reader for a file of this name, and whether gzip is around it."""
    suffix, packed = ending(name)
    if suffix in PICKLES:
        raise EngramError(
            f"{name} is a {suffix} file, and those may run code: pickle is never opened",
            hint=f"write the records as one of {FORMATS}",
        )
    if suffix not in READERS or (packed and suffix == ".parquet"):
        what = f"{suffix}{'.gz' * packed}" if suffix else "no ending"
        raise EngramError(
            f"{name} has {what}, which is no format that is read here",
            hint=f"the formats are {FORMATS}",
        )
    return READERS[suffix], packed


def check_regular(path: Path) -> None:
    """Raise unless `path` is a regular file: a device or a pipe has no end."""
    try:
        mode = path.stat().st_mode
    except OSError as problem:
        raise EngramError(
            f"{path} cannot be read ({problem.strerror})", hint="check the path and its permissions"
        ) from None
    if not stat.S_ISREG(mode):
        what = "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
        what = "a folder" if stat.S_ISDIR(mode) else what
        raise EngramError(
            f"{path} is {what}, not a file", hint="write the records into a file and name that"
        )


@contextmanager
def opened(path: Path, packed: bool) -> Iterator[BufferedIOBase]:
    """The (unpacked) bytes of a file; whatever the disk, gzip or xz says against it is an error."""
    kind = "xz" if path.suffix == ".xz" else "gzip"
    try:
        if packed:
            unpack = lzma.open if kind == "xz" else gzip.open
            with unpack(path, "rb") as unpacked:
                yield unpacked
        else:
            with path.open("rb") as stream:
                yield stream
    except (gzip.BadGzipFile, lzma.LZMAError, EOFError, zlib.error) as problem:
        raise EngramError(
            f"{path} is not a whole {kind} file ({problem})", hint="fetch or compress it again"
        ) from None
    except OSError as problem:
        raise EngramError(
            f"{path} cannot be read ({problem.strerror or problem})",
            hint="check the path and its permissions",
        ) from None
