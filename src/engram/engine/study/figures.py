"""A study's figures: SVG files beside its results, and what stands under each."""

import re
from collections.abc import Mapping
from pathlib import Path

from engram.core import EngramError
from engram.engine.study.files import Place
from engram.report.picture_rows import standalone
from engram.store import disk_errors

FOLDER = "figures"
_CAPTION = re.compile(r"<title>([^<]*)</title>")


def captions(place: Place, budget: str) -> dict[Path, str]:
    """The figures of a budget that were drawn, by their paths, with their captions."""
    found = {}
    for path in sorted((place.folder / FOLDER).glob(f"{budget}-*.svg")):
        title = _CAPTION.search(path.read_text(encoding="utf-8"))
        found[path] = title.group(1) if title else path.stem
    return found


def write_figures(place: Place, budget: str, drawn: Mapping[str, str]) -> None:
    """Write SVG texts by name; those of this budget that were there are taken away.

    Raises:
        EngramError: A name is no short plain one, or a text is not SVG.
    """
    folder = place.folder / FOLDER
    for name, text in drawn.items():
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or not text.startswith("<svg"):
            raise EngramError(
                f"the figure {name!r} of study {place.name!r} is not an SVG text by a plain name",
                hint='draw returns {"protected-pictures": "<svg ..."}',
            )
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"{budget}-*.svg"):
            path.unlink()
        for name, text in drawn.items():
            path = folder / f"{budget}-{name}.svg"
            path.write_text(standalone(text), encoding="utf-8")
