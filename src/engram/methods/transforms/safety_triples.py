"""Read published safety-unlearning records: harmful pictures, safe ones, and what is asked of them.

A list names, for each harmful picture, the prompts that ask for harm with the answers that a model
gave, four benign questions, and a safe picture that is asked the same harmful prompts. Out of each
such entry come the three kinds of records that unlearning needs:

    forget    (picture,      q of an unsafe pair, its answer)
    decouple  (safe picture, the same q,          the normal answer)
    retain    (picture,      benign question,     its answer)

The column `role` has those names, `harmful` lists the harmful answer, and the owner of a record is
its picture. A normal answer that is not there is left empty; `prompt-decouple` then asks the model.
Pictures are opened inside the list's own folder alone: a path that leads out of it is refused. The
given records are not looked at.

Differs from the paper: questions and answers are taken as they are written; its code writes the
first letter large and the others small.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from engram.core import EngramError, Paper, Run, Split
from engram.parts.image_files import inside, open_image

EXTRA_FOR = {"vision": "any picture file but .pgm and .ppm"}
LARGEST = 2**28
"""The most bytes of a list."""
BENIGN = ("UnharmPair_text1", "UnharmPair_text2", "UnharmPair_image1", "UnharmPair_image2")
PICTURE, SAFE, PAIRS = "image_path", "SDImage_path", "unsafe_pairs"


@dataclass(frozen=True)
class SafetyTriples:
    """Reader of SafeEraser's lists."""

    paper: ClassVar[Paper] = Paper(
        title="SafeEraser: Enhancing Safety in Multimodal Large Language Models through "
        "Multimodal Machine Unlearning",
        authors="Chen et al.",
        year=2025,
        url="https://arxiv.org/abs/2502.12520",
    )

    makes_records: ClassVar[bool] = True
    """It needs no records to start from."""

    folder: str = ""
    """The folder of the list and of the pictures that it names."""
    file: str = ""
    """The list in it: one JSON object a line, or an array of them; empty: the only one there."""

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the records; `split` is not looked at, unless no folder is named."""
        if not self.folder:
            return split
        path = list_of(Path(self.folder).expanduser(), self.file)
        found = [each for entry in entries_of(path) for each in _records(*entry, path)]
        if not found:
            raise EngramError(
                f"{path} names no questions", hint=f"each entry has {PICTURE} and {PAIRS}"
            )
        pictures = {name: open_image(inside(path.parent, name)) for name in _names(found)}
        images = [pictures[each["picture"]] for each in found]
        columns: dict[str, Any] = {
            "image": pa.array([image.reshape(-1) for image in images], pa.list_(pa.uint8())),
            "image_shape": pa.array([list(i.shape) for i in images], pa.list_(pa.int32())),
            **{key: [each[key] for each in found] for key in ("prompt", "response", "role")},
            "harmful": pa.array([each["harmful"] for each in found], pa.list_(pa.string())),
            "owner": [each["picture"] for each in found],
        }
        return Split.from_table(path.stem, pa.table(columns))


def list_of(folder: Path, name: str) -> Path:
    """The list in a folder.

    Raises:
        EngramError: There is no such folder or file, several, or one that is too large.
    """
    if not folder.is_dir():
        raise EngramError(f"there is no folder {folder}", hint="is the path right?")
    known = [p.name for p in sorted(folder.glob("*.json*")) if p.suffix in (".json", ".jsonl")]
    if not name and len(known) != 1:
        raise EngramError(
            f"{folder} has {len(known) or 'no'} lists{': ' if known else ''}{', '.join(known)}",
            hint="name one with --file",
        )
    path = inside(folder, name or known[0])
    if path.stat().st_size > LARGEST:
        raise EngramError(
            f"{path} has {path.stat().st_size:,} bytes; more than {LARGEST:,} are not read",
            hint="split the list",
        )
    return path


def entries_of(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The entries of a list, each with its number from 1."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if text.lstrip().startswith("["):
            found = json.loads(text)
        else:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError, RecursionError) as problem:
        raise EngramError(
            f"{path} is not JSON ({str(problem)[:120]})",
            hint="write one object a line, or one array of objects",
        ) from None
    for number, entry in enumerate(found, 1):
        if not isinstance(entry, dict):
            raise EngramError(
                f"{path}, entry {number} is a {type(entry).__name__}, not an object",
                hint=f"each entry has {PICTURE} and {PAIRS}",
            )
        yield number, entry


def _records(number: int, entry: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    where, picture = f"{path}, entry {number}", _text(entry, PICTURE, f"{path}, entry {number}")
    pairs = entry.get(PAIRS, [])
    if not isinstance(pairs, list) or not all(isinstance(pair, dict) for pair in pairs):
        raise EngramError(f"{where}: {PAIRS!r} is no list of objects", hint="question, answers")
    found = []
    for pair in pairs:
        prompt, harm = (_text(pair, key, where) for key in ("question", "model_response"))
        both = {"prompt": prompt, "harmful": [harm]}
        found.append({**both, "picture": picture, "response": harm, "role": "forget"})
        if entry.get(SAFE):
            normal = _text(pair, "sd_response", where) if pair.get("sd_response") else ""
            safe = {"picture": _text(entry, SAFE, where), "response": normal, "role": "decouple"}
            found.append({**both, **safe})
    for key in BENIGN:
        if isinstance(pair := entry.get(key), dict):
            asked, said = (_text(pair, k, where) for k in ("Question", "Prediction"))
            found.append(
                {"picture": picture, "prompt": asked, "response": said, "harmful": []}
                | {"role": "retain"}
            )
    return found


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise EngramError(f"{where} has no text {key!r}", hint="give every entry its texts")
    return value


def _names(found: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(each["picture"] for each in found))
