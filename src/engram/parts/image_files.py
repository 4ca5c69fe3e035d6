"""Open pictures that a list from outside names: inside one folder, and nowhere else.

Portable grey and colour maps (.pgm, .ppm) are read here; other kinds by Pillow, where it is
installed. No picture is larger than `LARGEST`, whatever its header says.

`open_image` gives what models look at, always in colour; `pixels_of` gives the pixels that are in
the file, and refuses those that 8 bits a channel cannot hold.
"""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from jaxtyping import UInt8

from engram.core import EngramError
from engram.parts.images import Pixels, as_rgb

LARGEST = 2**26
"""The most pixels of a picture, and the most bytes of its file."""
MAPS = {b"P5": 1, b"P6": 3}
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
"""What `pixels_of` reads, whatever a file is called."""
GREY, COLOUR = ("1", "L", "LA"), ("RGB", "RGBA", "RGBX", "P", "PA", "YCbCr")
"""Modes of 8 bits a channel."""
WIDTH, HEIGHT, ORIENTATION = 0x0100, 0x0101, 0x0112
"""Numbers of what TIFF and EXIF say of a picture."""
TURNS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
    6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90",
}  # fmt: skip
"""What to do to a picture of each EXIF orientation; from 5 on, its sides change places."""
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
    # Not `resolve`, which raises at a link to itself.
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
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
    _check_bytes(path)
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
    with _opened(path) as opened:
        return as_rgb(np.asarray(opened.convert("RGB")), path.name)


@contextmanager
def _opened(path: Path, formats: tuple[str, ...] | None = None) -> Iterator[Any]:
    """Pillow's picture, not yet decoded; whatever a decoder says against it is an error."""
    image = require_pillow(f"reading {path.name}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, which is not looked at
            warnings.simplefilter("error", image.DecompressionBombWarning)
            # By its stream: Pillow scrambles turned TIFF that it maps into memory by a name.
            with path.open("rb") as stream, image.open(stream, formats=formats) as opened:
                if opened.width * opened.height > LARGEST:
                    found = f"{opened.width} x {opened.height} pixels"
                    raise ValueError(f"{found}; more than {LARGEST:,} are not read")
                yield opened
    except EngramError:
        raise
    except Exception as problem:  # a decoder raises whatever its many layers raise
        why = (str(problem).splitlines() or [type(problem).__name__])[0][:200]
        if type(problem).__name__ == "UnidentifiedImageError":
            why = "its content is of no kind that is read"
        raise EngramError(
            f"{path} cannot be read as a picture ({why})", hint="the file may be damaged"
        ) from None


def shape_of(path: Path) -> tuple[int, int, int]:
    """Height, width and channels (1 or 3) of a picture file, by its head alone.

    Raises:
        EngramError: It is too large, no picture, or of a kind that 8 bits a channel cannot hold.
    """
    _check_bytes(path)
    with _opened(path, FORMATS) as opened:
        _check_mode(opened, path)
        wide, high = opened.size
        if opened.format == "TIFF":  # which some versions of Pillow say as it will be turned
            wide, high = opened.tag_v2[WIDTH], opened.tag_v2[HEIGHT]
        if opened.getexif().get(ORIENTATION, 1) >= 5:
            wide, high = high, wide
        return high, wide, 1 if opened.mode in GREY else 3


def pixels_of(
    path: Path, size: tuple[int, int] | None = None, channels: int | None = None
) -> UInt8[np.ndarray, "height width channels"]:
    """The pixels of a picture file, from 0 to 255, turned as its EXIF orientation says.

    Args:
        path: A file of one picture.
        size: Height and width to make it: the mean of what falls on a pixel where neither side
            grows, else bicubic. None: as it is.
        channels: 1 makes it grey, 3 RGB; what is transparent is then laid on white. None: as it is.

    Raises:
        EngramError: As `shape_of`; or it is damaged, transparent, or several pictures in one file.
    """
    _check_bytes(path)
    image = require_pillow(f"reading {path.name}")
    with _opened(path, FORMATS) as opened:
        _check_mode(opened, path)
        if opened.format != "MPO" and (frames := getattr(opened, "n_frames", 1)) > 1:
            raise EngramError(
                f"{path} holds {frames} pictures (an animation, or pages)",
                hint="write the one that counts to a file of its own",
            )
        opened.load()
        grey = (channels or (1 if opened.mode in GREY else 3)) == 1
        turn = TURNS.get(opened.getexif().get(ORIENTATION, 1))
        turned = opened.transpose(image.Transpose[turn]) if turn else opened
        if opened.has_transparency_data:
            turned = _on_white(turned.convert("RGBA"), image, path, laid=channels is not None)
        flat = turned.convert("L" if grey else "RGB")
        if size is not None and flat.size != (wanted := (size[1], size[0])):
            shrunk = flat.width >= wanted[0] and flat.height >= wanted[1]
            way = image.Resampling.BOX if shrunk else image.Resampling.BICUBIC
            flat = flat.resize(wanted, way)
        return np.array(flat, np.uint8).reshape(flat.height, flat.width, 1 if grey else 3)


def _check_bytes(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as problem:
        raise EngramError(
            f"{path} cannot be read ({problem.strerror})", hint="check the path and its permissions"
        ) from None
    if size > LARGEST:
        raise EngramError(
            f"{path} has {size:,} bytes; more than {LARGEST:,} are not read",
            hint="make the picture smaller",
        )


def _check_mode(opened: Any, path: Path) -> None:
    """Refuse what would be rounded, or means something else, as 8 bits of grey or RGB."""
    raw = " ".join(str(tile[3]) for tile in opened.tile)
    wide = ";16" in raw and "BGR;16" not in raw  # of a BMP: 5 or 6 bits a channel
    if wide or opened.mode not in (*GREY, *COLOUR):
        deep = wide or opened.mode[0] in "IF"
        what = "more than 8 bits a channel" if deep else f"colours of the kind {opened.mode}"
        raise EngramError(
            f"{path} has {what}, which are not read", hint="write it as 8 bits of grey or RGB"
        )


def _on_white(picture: Any, image: Any, path: Path, *, laid: bool) -> Any:
    """An RGBA picture without its transparency."""
    if picture.getchannel("A").getextrema()[0] == 255:
        return picture  # it says that nothing shines through
    if not laid:
        raise EngramError(
            f"{path} is transparent in places, and nothing says what lies behind",
            hint="a source that ends in ?channels=3 (or 1) lays such pictures on white",
        )
    white = image.new("RGBA", picture.size, (255, 255, 255, 255))
    return image.alpha_composite(white, picture)
