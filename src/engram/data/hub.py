"""`hf:NAME`: data sets of the Hugging Face hub, by its own client; never with remote code."""

import re

import pyarrow as pa

from engram.core.errors import EngramError
from engram.data.formats import plain
from engram.data.rows import Rows
from engram.data.sources import check_options, parted

PREFIX = "hf:"
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def read_hub(source: str) -> Rows:
    """`hf:owner/name?split=train&config=x`: fetched by `datasets`, or found in its cache.

    Raises:
        EngramError: No such data set, no network, or it wants to run code.
    """
    base, options = parted(source.removeprefix(PREFIX))
    if not _NAME.fullmatch(base):
        raise EngramError(
            f"{base!r} is not a data set's name", hint="names look like hf:owner/name?split=train"
        )
    check_options(PREFIX + base, options, ("split", "config"))
    from datasets import Dataset, load_dataset

    try:
        found = load_dataset(base, options.get("config"), split=options.get("split", "train"))
        if not isinstance(found, Dataset):
            raise ValueError("it is not one table")
        table = found.with_format("arrow")[:]
    except Exception as problem:  # the client raises whatever its many layers raise
        first = (str(problem).splitlines() or [""])[0][:200]
        raise EngramError(
            f"the data set {base!r} cannot be had from the Hugging Face hub "
            f"({type(problem).__name__}: {first})",
            hint="check the name and the network; without one, save it elsewhere with "
            "`save_to_disk` and name that folder",
        ) from None
    return Rows(plain(pa.table(table).replace_schema_metadata(None)), PREFIX + base)
