"""Open pictures that a list from outside names: inside one folder, and nowhere else.

Portable grey and colour maps (.pgm, .ppm) are read here; other kinds by Pillow, where it is
installed. No picture is larger than `LARGEST`, whatever its header says.
"""

import re
import warnings
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from engram.core import EngramError
from engram.parts.images import Pixels, as_rgb

LARGEST = 2**26
"""The most pixels of a picture, and the most bytes of its file."""
MAPS = {b"P5": 1, b"P6": 3}
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_HEADER = re.compile(rb"(P[56])\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s+(\d{1,9})\s+(\d{1,5})\s")


def inside(folder: Path, name: str) -> Path:
    """The file of this name in a folder.

    Raises:
        EngramError: The name leads out of the folder (a full path, `..`, a link), or to nothing.
    """
    parts = PurePosixPath(name).parts
    apart = PureWindowsPath(name)
    odd = "\x00" in name or "\\" in name or bool(apart.drive or apart.root)
    if not name or odd or PurePosixPath(name).is_absolute() or ".." in parts:
        raise EngramError(
            f"the picture {name!r} is not named inside of {folder}",
            hint="name pictures by their path from the folder of the list, without '..'",
        )
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise EngramError(
            f"the picture {name!r} leads out of {folder}",
            hint="put the file itself there instead of a link",
        )
    if not path.is_file():
        raise EngramError(f"there is no picture {path}", hint="is the folder whole?")
    return path


def open_image(path: Path) -> Pixels:
    """The pixels of a picture file.

    Raises:
        EngramError: It is too large, of a kind that is not read, damaged, or needs Pillow.
    """
    if (size := path.stat().st_size) > LARGEST:
        raise EngramError(
            f"{path} has {size:,} bytes; more than {LARGEST:,} are not read",
            hint="make the picture smaller",
        )
    ending = path.suffix.lower()
    if ending in (".pgm", ".ppm"):
        return _map(path)
    if ending not in PICTURES:
        raise EngramError(
            f"{path.name} is no kind of picture that is read",
            hint=f"those are .pgm, .ppm and {', '.join(PICTURES)}",
        )
    return _by_pillow(path)


def require_pillow(what: str) -> Any:
    """Pillow's `Image`.

    Raises:
        EngramError: It is not installed.
    """
    try:
        from PIL import Image
    except ImportError as problem:
        raise EngramError(
            f"{what} needs Pillow, which cannot be imported ({problem})",
            hint="pip install 'engram[vision]'",
        ) from None
    return Image


def _map(path: Path) -> Pixels:
    raw = path.read_bytes()
    header = _HEADER.match(raw)
    if header is None or int(header[4]) != 255:
        raise EngramError(
            f"{path} is no binary portable map of bytes", hint="write it as P5 or P6 up to 255"
        )
    channels, width, height = MAPS[header[1]], int(header[2]), int(header[3])
    pixels = np.frombuffer(raw, np.uint8, offset=header.end())
    if width * height > LARGEST or len(pixels) != width * height * channels:
        raise EngramError(
            f"{path} says {width} x {height} pixels, but holds {len(pixels):,} bytes of them",
            hint="the file may be cut off; copy it again",
        )
    return as_rgb(pixels.reshape(height, width, channels), path.name)


def _by_pillow(path: Path) -> Pixels:
    image = require_pillow(f"reading {path.name}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", image.DecompressionBombWarning)
            with image.open(path) as opened:
                if opened.width * opened.height > LARGEST:
                    raise ValueError(f"{opened.width} x {opened.height} pixels")
                return as_rgb(np.asarray(opened.convert("RGB")), path.name)
    except (OSError, ValueError, SyntaxError, Warning, image.DecompressionBombError) as problem:
        raise EngramError(
            f"{path} cannot be read as a picture ({problem})", hint="the file may be damaged"
        ) from None
