"""Pixelate images, and add noise to the pixels, so that a few details of one cannot be made out.

A mosaic hides a face less well than one might think: many a mosaic can be matched with its
original. With noise on each of its squares it hides whatever a given number of pixels can show.

    square = mean over b x b pixels + Laplace(channels m high / (b^2 epsilon))

Two images that differ in m pixels, each by the whole range from 0 to `high`, then give the same
mosaic with chances that are within e^epsilon of each other. Images that differ in more pixels have
no such promise: to hide the whole image from everybody, m is its number of pixels. The label stays;
ids, owners and other columns are left out.

Differs from the paper: 1. colours are taken along, each channel by itself within one budget;
2. images are cut off at 0 and `high` again, and keep their size; 3. noise follows from the run's
seed, and is drawn in floating point.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram.core import EngramError, Paper, Run, Split
from engram.parts.labelled import check_labelled_split
from engram.parts.private_data import check_epsilon
from engram.parts.protection import pixelated
from engram.parts.training import check_at_least


@dataclass(frozen=True)
class DpPix:
    """Differentially private mosaics of images."""

    paper: ClassVar[Paper] = Paper(
        title="Image Pixelization with Differential Privacy",
        authors="Fan",
        year=2018,
        url="https://doi.org/10.1007/978-3-319-95729-6_10",
    )
    columns: ClassVar[tuple[str, ...]] = ("features", "label")

    epsilon: float = 2.5
    """Budget of one image."""
    block: int = 4
    """b, the side of a square, in pixels; it divides the image's sides."""
    pixels: int = 16
    """m, in how many pixels neighbouring images differ."""
    high: float = 1.0
    """The largest value of a pixel; the least is 0."""

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        for name in ("block", "pixels"):
            check_at_least(name, getattr(self, name), 1, "4 and 16 are the usual ones")
        if not self.high > 0:
            raise EngramError(
                f"high is {self.high}, but must be above 0", hint="1, or 255 for bytes"
            )

    def __call__(self, split: Split, run: Run) -> Split:
        """Return as many images, in their order.

        Raises:
            EngramError: The features make no image, or squares do not divide it.
        """
        check_labelled_split(split)
        rng = run.stream("protection")
        found = pixelated(split, self.epsilon, rng, self.block, self.pixels, self.high)
        found.tell(run)
        return found.split
