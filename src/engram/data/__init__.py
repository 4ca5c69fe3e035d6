"""Read records from wherever they are: files, folders, named sets, demo data, the hub.

Nothing is fetched silently, no pickle is opened and no code of a data set is run. Importing this
package imports neither torch nor `datasets`.
"""

import os
import re
from pathlib import Path

from engram.core.errors import EngramError, nearest
from engram.core.split import Split
from engram.data import demo, estimators, hub, named
from engram.data.columns import Wanted, sampled, to_split
from engram.data.files import READERS, ending, read_rows
from engram.data.folders import neighbours, read_folder
from engram.data.graphs import is_graph, read_graph
from engram.data.output import is_folder, write
from engram.data.picture_output import check_pictures, write_pictures
from engram.data.pictures import is_pictures, read_pictures
from engram.data.rows import Rows
from engram.data.sources import Limits, Source, parted

__all__ = ["check_pictures", "describe_sources", "is_folder", "read", "write", "write_pictures"]

_HUB_LIKE = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def read(
    source: str | os.PathLike[str],
    *,
    text_column: str | None = None,
    owner_column: str | None = None,
    id_column: str | None = None,
    label_column: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    max_record_bytes: int = 10 * 2**20,
) -> Split:
    """Read records.

    Args:
        source: A file (.jsonl, .json, .csv, .tsv, .parquet, .txt; the text formats also with
            .gz), a folder of shards or one that `datasets.save_to_disk` wrote, a folder of a graph
            (nodes.csv and edges.csv), a folder of pictures (`pictures`, `pictures?size=32`), a
            named set (`medical-abstracts`), `demo:letters?n=400`, `sklearn:digits`, or
            `hf:owner/name`.
        text_column: Which column is the text: otherwise `text`, or the only column of strings.
            It is called `text` afterwards.
        owner_column: Whose record it is: otherwise `owner`, where there is one.
        id_column: Each record's id: otherwise `id`, or a hash of the content.
        label_column: The class: otherwise `label`. A table with a label and no text becomes
            `features` (numbers as they are, words one-hot) and `label`.
        limit: Take at most so many records: a random sample, in file order.
        seed: Of that sample.
        max_record_bytes: A longer record is an error.

    Returns:
        The records; class names, feature names and image shapes are in its `shared`.

    Raises:
        EngramError: With the place in the file, for anything that is wrong with it.
    """
    limits = Limits(record=max_record_bytes)
    wanted = Wanted(text_column, owner_column, id_column, label_column, limit, seed)
    source = os.fspath(source)
    if not source.strip():
        raise EngramError("no data was named", hint="name a file, or demo:letters")
    made = _made_here(source)
    if made is None and (found := _pictures(source)) is not None:
        return read_pictures(*found, wanted, limits)
    if made is None and is_graph(Path(source).expanduser()):
        return read_graph(Path(source).expanduser(), wanted, limits)
    if made is None:
        rows, name = _rows(source, limits)
        return to_split(rows, name, wanted, limits)
    if said := [c for c in (text_column, owner_column, id_column, label_column) if c is not None]:
        raise EngramError(
            f"{source!r} has its columns fixed, but the column {said[0]!r} was named",
            hint="leave the column names out; they are for files",
        )
    kept = sampled(len(made), limit, seed)
    return made if kept is None else made.take(kept)


def describe_sources() -> tuple[Source, ...]:
    """What `read` knows by name: demo data, scikit-learn's tables and the named sets."""
    return (*demo.demos(), *estimators.estimators(), *named.sets().values())


def _made_here(source: str) -> Split | None:
    """Data that has a name of its own; None for paths and the hub."""
    base = parted(source)[0] if "?" in source and not _exists(Path(source)) else source
    if base.startswith(demo.PREFIX):
        return demo.read_demo(source)
    if base.startswith(estimators.PREFIX):
        return estimators.read_sklearn(source)
    known = named.sets().get(base)
    if known is None:
        return None
    if known.kind == "scores":
        raise EngramError(
            f"{base!r} holds scores, not records", hint=f"engram audit --scores {base}"
        )
    return named.load(source)


def _pictures(source: str) -> tuple[Path, dict[str, str]] | None:
    """The folder of pictures that a source names, and its options; None where it names none."""
    path = Path(source).expanduser()
    if _exists(path):
        return (path, {}) if is_pictures(path) else None
    base = Path(source.partition("?")[0]).expanduser()
    if "?" not in source or not base.name or not _exists(base):
        return None
    options = parted(source)[1]
    if not is_pictures(base):
        raise EngramError(
            f"{base} takes no options, but {source.partition('?')[2]!r} is given",
            hint="folders of pictures have options; leave them out here",
        )
    return base, options


def _rows(source: str, limits: Limits) -> tuple[Rows, str]:
    """The rows of a path or of the hub, and a name for them."""
    path = Path(source).expanduser()
    if source.startswith(hub.PREFIX):
        return hub.read_hub(source), parted(source)[0].rpartition("/")[2].removeprefix(hub.PREFIX)
    if _exists(path):
        if path.is_dir():
            return read_folder(path, limits), path.resolve().name
        return read_rows(path, limits), path.name.removesuffix(".gz").rpartition(".")[0]
    if _HUB_LIKE.fullmatch(source) and ending(path.name)[0] not in READERS:
        return hub.read_hub(source), path.name
    raise _unknown(source, path)


def _unknown(source: str, path: Path) -> EngramError:
    if ending(path.name)[0] or os.sep in source:
        return EngramError(f"there is no file {source}", hint=neighbours(path))
    known = [known.name for known in describe_sources()]
    return EngramError(
        f"there is no file, folder or data set called {source!r}",
        hint=nearest(parted(source)[0], known, "`engram ls data` lists the data sets"),
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte
        return False
