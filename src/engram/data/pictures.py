"""Folders of pictures: a folder for each class, or a list of the files with their classes.

    pictures/cat/001.png     the class is the folder's name
    pictures/labels.csv      or a list: file,label[,owner,id]; also metadata.csv or metadata.jsonl
                             with `file_name`, as Hugging Face's imagefolder has it

A record has its pixels, from 0 to 1, row by row and colours last, in `features`, and its class in
`label`; `shared["image_shape"]` says height and width, and 3 where there are colours. Classes are
numbered in the order of their names, a folder without pictures among them; names that are whole
numbers are those numbers. What else a list says is left out, but for `owner`, `id`, `canary` and
`origins` (digests with blanks between).
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from engram.core.errors import EngramError, nearest
from engram.core.split import CANARY, ID, OWNER, Split
from engram.data.columns import LABEL, Wanted, renamed, sampled, to_split
from engram.data.files import READERS, check_regular, ending, read_rows
from engram.data.rows import Rows
from engram.data.sources import Limits, check_options, size, whole
from engram.data.tabular import feature_table
from engram.parts.image_files import PICTURES, inside, pixels_of, shape_of
from engram.parts.images import SHAPE
from engram.parts.origins import ORIGINS

LISTS = ("labels.csv", "metadata.csv", "metadata.jsonl")
PLACES = ("file_name", "file")
"""What a list calls the column of the files' names."""
READ = (*PICTURES, ".pgm", ".ppm")
UNREAD = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".dcm")
"""Pictures that are not read: passing over them would lose records."""
MOST = 100_000
"""The most pictures of a folder."""
LOOKED_AT = 1000
BESIDE = re.compile(r"(readme|licen[cs]e|classes)[^/]*", re.IGNORECASE)
"""Texts that lie beside pictures and are no data."""
NUMBER = re.compile(r"0|[1-9][0-9]{0,2}")
"""Names of classes that are their numbers."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Asked:
    """The options of a folder.

    Attributes:
        source: As it was written, for hints.
        size: Height and width that all pictures are made.
        channels: 1 (grey) or 3, that all are made.
        classes: Their names in the order of their numbers; empty: those that are there.
        by_path: Whether ids are the paths of the files, rather than hashes of the content.
        given: All of them as they were written.
    """

    source: str
    size: tuple[int, int] | None = None
    channels: int | None = None
    classes: tuple[str, ...] = ()
    by_path: bool = False
    given: Mapping[str, str] = field(default_factory=dict)


def is_pictures(folder: Path) -> bool:
    """Whether a folder holds pictures and, beside a list of them, no other data at its top."""
    try:
        if not folder.is_dir():
            return False
        data = [
            name
            for name in os.listdir(folder)
            if ending(name)[0] in READERS
            and name not in LISTS
            and not name.startswith(".")
            and not BESIDE.fullmatch(name)
        ]
        if data:
            return False
        levels = ("*", "*/*", "*/*/*")
        return any(
            path.suffix.lower() in (*READ, *UNREAD) and not path.name.startswith(".")
            for level in levels
            for path in islice(folder.glob(level), LOOKED_AT)
        )
    except (OSError, ValueError):  # may not be listed, or a name that is none
        return False


def read_pictures(
    folder: Path, options: Mapping[str, str], wanted: Wanted, limits: Limits
) -> Split:
    """The pictures of a folder, one record each: in the order of their list, else of their paths.

    Args:
        folder: Of pictures.
        options: `size` (`32`, or `HEIGHTxWIDTH`), `channels` (1 or 3), `classes` (names with commas
            between), `ids` (`content` or `path`).
        wanted: Columns of the list, and how many records to take.
        limits: On the numbers of one record, and of all.

    Raises:
        EngramError: Pillow is missing, pictures are not alike, a file is damaged, leads out of the
            folder or is not in the list, or there are more than `MOST`.
    """
    asked = _asked(folder, options)
    rows = _files(folder, wanted)
    names = rows.table.column(PLACES[0]).to_pylist()
    labels, shared = _labels(rows, names, asked, folder)
    kept = sampled(len(names), wanted.limit, wanted.seed)
    kept = np.arange(len(names)) if kept is None else kept
    names = [names[row] for row in kept]
    features, shape = _features([folder / name for name in names], asked, limits)
    shared[SHAPE] = np.array(shape[:2] if shape[2] == 1 else shape)
    table = feature_table(features, np.zeros(len(names), np.int64) if labels is None
                          else labels[kept])  # fmt: skip
    if labels is None:
        table = table.drop_columns([LABEL])
    for column in (ID, OWNER, CANARY, ORIGINS):
        if column in rows.table.column_names:
            values = rows.table.column(column).take(pa.array(kept))
            table = table.append_column(column, _origins(values) if column == ORIGINS else values)
    if asked.by_path:
        table = table.drop_columns([c for c in (ID,) if c in table.column_names])
        table = table.append_column(ID, pa.array(names, pa.string()))
    lines = None if rows.lines is None else rows.lines[kept]
    found = Rows(table, rows.origin, lines, rows.typed, shared)
    return to_split(found, folder.resolve().name, Wanted(), limits)


def _asked(folder: Path, options: Mapping[str, str]) -> Asked:
    base = str(folder)
    check_options(base, options, ("size", "channels", "classes", "ids"))
    sides = None
    if "size" in options:
        words = options["size"].split("x") if "x" in options["size"] else [options["size"]] * 2
        if len(words) != 2:
            raise EngramError(
                f"{base!r}: the option size is {options['size']!r}, but must be one number, or "
                "HEIGHTxWIDTH",
                hint=f"{base}?size=32",
            )
        high, wide = (whole(base, "size", word, 1, 4096) for word in words)
        sides = (high, wide)
    channels = whole(base, "channels", options["channels"], 1, 3) if "channels" in options else None
    if channels == 2:
        raise EngramError(f"{base!r}: a picture has no 2 channels", hint="1 is grey, 3 is colour")
    classes = tuple(options["classes"].split(",")) if "classes" in options else ()
    if len(set(classes)) != len(classes) or "" in classes:
        raise EngramError(
            f"{base!r}: a class is named twice, or not at all, in {options['classes']!r}",
            hint=f"{base}?classes=cat,dog",
        )
    ids = options.get("ids", "content")
    if ids not in ("content", "path"):
        raise EngramError(
            f"{base!r}: the option ids is {ids!r}, but must be content or path",
            hint=f"{base}?ids=path",
        )
    return Asked(base, sides, channels, classes, ids == "path", options)


# ---- which files there are


def _files(folder: Path, wanted: Wanted) -> Rows:
    """One row a picture: `file_name`, and what a list says of it, or the `label` of its folder."""
    lists = [name for name in LISTS if (folder / name).is_file()]
    if len(lists) > 1:
        raise EngramError(
            f"{folder} has {len(lists)} lists of its pictures: {', '.join(lists)}",
            hint="keep one of them",
        )
    if lists:
        return _listed(folder, inside(folder, lists[0]), wanted)
    loose, named, classes = _scanned(folder)
    if loose:
        raise EngramError(
            f"{len(loose)} pictures lie in {folder} itself ({loose[0]!r}), so nothing says their "
            "class",
            hint="put each into a folder of its class, or list them in labels.csv: file,label",
        )
    if said := [c for c in (wanted.text, wanted.owner, wanted.id, wanted.label) if c is not None]:
        raise EngramError(
            f"{folder} has no list of its pictures, so no column {said[0]!r}",
            hint="write labels.csv into it: file,label,owner,id",
        )
    table = pa.table({PLACES[0]: named, LABEL: [name.partition("/")[0] for name in named]})
    return Rows(table, str(folder), None, typed=False, shared={"classes": np.array(classes)})


def _scanned(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Pictures in the folder itself, those one folder down, and the folders; in sorted order."""
    loose, folders = _entries(folder, folder)
    named, deeper = [], []
    for each in folders:
        inner, below = _entries(folder, folder / each)
        named += [f"{each}/{name}" for name in inner]
        deeper += [f"{each}/{name}" for name in below if _entries(folder, folder / each / name)[0]]
        if len(named) + len(loose) > MOST:
            raise EngramError(
                f"{folder} holds more than {MOST:,} pictures",
                hint="read a part of them, or write their pixels to a Parquet file",
            )
    if deeper:
        one = folder / deeper[0].partition("/")[0]
        raise EngramError(
            f"{folder / deeper[0]} holds pictures, but a folder of a class lies in the folder that "
            "is named",
            hint=f"name {one}, if that is the folder of the classes" if not named
            else "a class has no folders in it: put its pictures side by side",
        )  # fmt: skip
    return loose, named, folders


def _entries(root: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Names of the pictures and of the folders in a folder, without hidden ones."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as problem:
        raise EngramError(
            f"{folder} cannot be read ({problem.strerror})", hint="check its permissions"
        ) from None
    pictures, folders = [], []
    for entry in entries:
        suffix = Path(entry.name).suffix.lower()
        if entry.name.startswith((".", "__")) or not (
            suffix in (*READ, *UNREAD) or _is_folder(entry)
        ):
            continue
        _check_name(entry.name, folder)
        if entry.is_symlink():
            _check_link(root, folder / entry.name)
        if _is_folder(entry):
            folders.append(entry.name)
        elif suffix in UNREAD:
            raise EngramError(
                f"{folder / entry.name} is no kind of picture that is read",
                hint=f"those are {', '.join(READ)}",
            )
        else:
            check_regular(folder / entry.name)
            pictures.append(entry.name)
    return pictures, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _check_link(root: Path, path: Path) -> None:
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise EngramError(
            f"the link {path} leads out of {root}",
            hint="put the files themselves there instead of a link",
        )


def _check_name(name: str, where: Path) -> None:
    """Names come into reports and terminals."""
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name):
        raise EngramError(
            f"a name in {where} holds a control character, or is no Unicode: {name!r}",
            hint="give it another name",
        )


def _listed(folder: Path, path: Path, wanted: Wanted) -> Rows:
    """The rows of a list, its column of files called `file_name`, and every file looked up."""
    if wanted.text is not None:
        raise EngramError(
            f"{folder} holds pictures, but the text column {wanted.text!r} was named",
            hint="leave --text-column out",
        )
    rows = renamed(read_rows(path, Limits()), wanted)
    column = next((name for name in PLACES if name in rows.table.column_names), None)
    if column is None:
        raise EngramError(
            f"{path} has no column {PLACES[0]!r}; it has {', '.join(rows.table.column_names)}",
            hint="its first line is file,label (owner and id may follow)",
        )
    names = ["" if name is None else str(name) for name in rows.table.column(column).to_pylist()]
    if len(names) > MOST:
        raise EngramError(f"{path} lists more than {MOST:,} pictures", hint="read a part of them")
    for name in names:
        _check_name(name, folder)
        inside(folder, name)
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise EngramError(f"{path} names {twice[0]!r} twice", hint="keep one of the lines")
    loose, named, _ = _shallow(folder)
    if missing := sorted({*loose, *named} - {str(Path(name)) for name in names}):
        raise EngramError(
            f"{path} does not list {missing[0]!r} ({len(missing)} such pictures)",
            hint="list every picture of the folder, or move the others elsewhere",
        )
    table = rows.table.drop_columns([column]).append_column(PLACES[0], pa.array(names, pa.string()))
    return Rows(table, rows.origin, rows.lines, rows.typed)


def _shallow(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """As `_scanned`, where a list says which files there are: deeper ones are its affair."""
    loose, folders = _entries(folder, folder)
    named = [f"{each}/{name}" for each in folders for name in _entries(folder, folder / each)[0]]
    return loose, named, folders


# ---- their classes


def _labels(
    rows: Rows, names: Sequence[str], asked: Asked, folder: Path
) -> tuple[Int64[np.ndarray, " n"] | None, dict[str, np.ndarray]]:
    """Classes as numbers, and their names; None where nothing says any."""
    parents = [name.rpartition("/")[0] for name in names]
    if LABEL in rows.table.column_names:
        values = rows.table.column(LABEL).to_pylist()
        words = ["" if value is None else str(value).strip() for value in values]
    elif len(set(parents)) > 1:
        words = parents
    else:
        return None, {}
    if "" in words:
        raise EngramError(
            f"{rows.origin}, {rows.where(words.index(''))}: {LABEL!r} is missing",
            hint="give every picture a class",
        )
    known = [str(name) for name in rows.shared.get("classes", ())] or sorted(set(words))
    for name in known:
        _check_name(name, folder)
    if asked.classes:
        if odd := sorted(set(words) - set(asked.classes)):
            raise EngramError(
                f"{folder} has pictures of the class {odd[0]!r}, which ?classes= does not name",
                hint=nearest(odd[0], asked.classes, "name every class there is"),
            )
        known = list(asked.classes)
    elif all(NUMBER.fullmatch(name) for name in known):
        codes = np.array([int(word) for word in words], np.int64)
        return codes, _folder_names(codes, parents)
    place = {name: number for number, name in enumerate(known)}
    return np.array([place[word] for word in words], np.int64), {"classes": np.array(known)}


def _folder_names(codes: Int64[np.ndarray, " n"], parents: Sequence[str]) -> dict[str, np.ndarray]:
    """What the folders call classes that a list numbers; empty where they do not say."""
    pairs = sorted(set(zip(codes.tolist(), parents, strict=True)))
    names = [parent for _, parent in pairs]
    numbered = [code for code, _ in pairs] == list(range(len(pairs)))
    if not numbered or len(set(names)) < len(names) or "" in names:
        return {}
    return (
        {} if names == [str(code) for code in range(len(names))] else {"classes": np.array(names)}
    )


def _origins(values: pa.ChunkedArray) -> pa.Array:
    """Digests that a list writes with blanks between, or as lists."""
    lists = [
        [str(digest) for digest in each] if isinstance(each, list) else str(each or "").split()
        for each in values.to_pylist()
    ]
    return pa.array(lists, pa.list_(pa.string()))


# ---- their pixels


def _features(
    paths: Sequence[Path], asked: Asked, limits: Limits
) -> tuple[Float32[np.ndarray, "n d"], Shape]:
    """The pixels of all, from 0 to 1; and the shape that all of them have."""
    shapes = Counter(_shape(path, asked) for path in paths)
    if len(shapes) > 1:
        raise _unlike(shapes, asked)
    shape = next(iter(shapes))
    width = int(np.prod(shape))
    one, every = 4 * width, 4 * width * len(paths)
    for what, found, most in (("one", one, limits.record), ("all", every, limits.total)):
        if found > most:
            raise EngramError(
                f"{asked.source}: the pixels of {what} picture{'s' * (what == 'all')} would be "
                f"{size(found)} of numbers ({_words(shape)}); the most is {size(most)}",
                hint=f"make them smaller: {asked.source}?size=64",
            )
    features = np.empty((len(paths), width), np.float32)
    for row, path in enumerate(paths):
        pixels = pixels_of(path, asked.size, asked.channels)
        if pixels.shape != shape:
            raise EngramError(
                f"{path} says that it is {_words(shape)}, but is {_words(pixels.shape)}",
                hint="the file may be damaged",
            )
        features[row] = pixels.reshape(-1) / np.float32(255)
    return features, shape


def _shape(path: Path, asked: Asked) -> Shape:
    high, wide, channels = shape_of(path)
    high, wide = asked.size or (high, wide)
    return high, wide, asked.channels or channels


def _unlike(shapes: Counter[Shape], asked: Asked) -> EngramError:
    most = shapes.most_common()
    counts = [f"{count:,} are {_words(shape)}" for shape, count in most[:4]]
    more = [f"{len(most) - 4} other kinds"] if len(most) > 4 else []
    options = [f"{k}={v}" for k, v in asked.given.items()]
    if len({shape[:2] for shape in shapes}) > 1:
        high, wide, _ = most[0][0]
        options.append(f"size={high}" if high == wide else f"size={high}x{wide}")
    if len({shape[2] for shape in shapes}) > 1:
        options.append(f"channels={most[0][0][2]}")
    return EngramError(
        f"the pictures of {asked.source} are not alike: {', '.join([*counts, *more])}",
        hint=f"have them made alike as they are read: '{asked.source}?{'&'.join(options)}'; what "
        "has other proportions is stretched",
    )


def _words(shape: Sequence[int]) -> str:
    return f"{shape[0]} x {shape[1]} {'grey' if shape[2] == 1 else 'colour'}"
