"""A run's record, read for showing: no text of it can turn or hide what stands around it."""

from pathlib import Path
from typing import Any

from engram.core.errors import EngramError
from engram.report.document import Document, parse
from engram.store import load_record
from engram.web.templates import TURNED


def read(folder: Path) -> Document:
    """The record of a run, checked.

    Raises:
        EngramError: It is not there, damaged, or nested too deeply.
    """
    try:
        return parse(still(load_record(folder)))
    except RecursionError:
        raise EngramError(f"the record in {folder} is nested too deeply") from None


def still(value: Any) -> Any:
    """The same plain data with U+FFFD for every character that changes a text's direction."""
    if isinstance(value, str):
        return value if value.isascii() else value.translate(TURNED)
    if isinstance(value, list):
        return [still(item) for item in value]
    if isinstance(value, dict):
        return {still(key): still(item) for key, item in value.items()}
    return value
