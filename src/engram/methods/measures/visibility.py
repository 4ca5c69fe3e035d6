"""Measure how much protected pictures look like their originals.

Protection that anybody can see is of little use to who publishes a photograph. Two numbers compare
each picture x' with its original x, both from 0 to 1: the peak signal-to-noise ratio, which counts
all changes alike, and structural similarity, which asks in small windows whether brightness,
contrast and shape are the same.

    PSNR = -10 log10 mean (x' - x)^2      (in decibels; beyond 40 a change is hardly seen)
    SSIM = mean over windows of  (2 m m' + a)(2 c + b) / ((m^2 + m'^2 + a)(s^2 + s'^2 + b))

with means m, variances s^2 and the covariance c of a window.

Differs from the paper: 1. Windows are squares of 7 pixels (less for smaller pictures), not
Gaussian, as scikit-image has them by default. 2. A picture that did not change is left out of the
mean PSNR, which would be endless.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.protection import pictures_of
from engram.stats.intervals import mean_finding

EXTRA = "vision"
METHOD = "visibility"
PSNR, SSIM, LARGEST = "PSNR", "SSIM", "largest change of a pixel"


@dataclass(frozen=True)
class Visibility:
    """PSNR and SSIM of pictures against their originals."""

    paper: ClassVar[Paper] = Paper(
        title="Image Quality Assessment: From Error Visibility to Structural Similarity",
        authors="Wang et al.",
        year=2004,
        url="https://doi.org/10.1109/TIP.2003.819861",
    )
    needs: ClassVar[frozenset[str]] = frozenset()
    access: ClassVar[Access] = "text"

    originals: str = ""
    """The records before they were protected; they are found by their ids."""
    pixels: tuple[float, ...] = ()
    """Smallest and largest value of a pixel. Empty: what the data says, else 0 and 1."""

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return PSNR, SSIM and the largest change of each split; the target is not asked."""
        if not self.originals:
            why = "name the original pictures with --originals"
            return (Finding.missing(PSNR, why).tagged(method=METHOD),)
        before = run.records(self.originals)
        found: list[Finding] = []
        for name, split in splits.items():
            known = set(before.ids)
            kept = split.where([record in known for record in split.ids])
            if not len(kept):
                why = "none of its records is among the originals"
                found.append(Finding.missing(PSNR, why).tagged(method=METHOD, split=name))
                continue
            found += self._compared(kept, before.select(kept.ids), name, run)
        return tuple(found)

    def _compared(self, after: Split, before: Split, name: str, run: Run) -> list[Finding]:
        old, new = pictures_of(before, self.pixels), pictures_of(after, self.pixels)
        rows, moved = old.shown(old.raw), old.shown(new.raw)
        rng = run.stream(METHOD, name)
        ratios, likeness = psnr(rows, moved), ssim(rows, moved)
        ratios = ratios[np.isfinite(ratios)]
        largest = np.abs(moved - rows).reshape(len(rows), -1).max(1)
        same = Finding.missing(PSNR, "no picture has changed", len(rows))
        found = [
            mean_finding(ratios, PSNR, "dB", rng) if len(ratios) else same,
            mean_finding(likeness, SSIM, "", rng),
            mean_finding(largest, LARGEST, "", rng),
        ]
        return [each.tagged(method=METHOD, split=name) for each in found]


def psnr(
    rows: Float[np.ndarray, "n h w c"], moved: Float[np.ndarray, "n h w c"]
) -> Float[np.ndarray, " n"]:
    """-10 log10 of the mean squared change, for pixels from 0 to 1; endless where none changed."""
    error = ((moved - rows) ** 2).reshape(len(rows), -1).mean(1)
    with np.errstate(divide="ignore"):
        return -10 * np.log10(error)


def ssim(
    rows: Float[np.ndarray, "n h w c"], moved: Float[np.ndarray, "n h w c"]
) -> Float[np.ndarray, " n"]:
    """Structural similarity of each pair, the mean over channels; at most 1.

    Raises:
        EngramError: scikit-image is not installed, or pictures are less than 3 pixels wide.
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError:
        raise EngramError(
            "structural similarity needs the package scikit-image, which is not installed",
            hint="pip install 'engram[vision]'",
        ) from None
    least = min(rows.shape[1:3])
    if least < 3:
        raise EngramError(
            f"pictures are {least} pixels wide or high, but a window has three at least",
            hint="structural similarity is for larger pictures",
        )
    window = min(7, least - (1 - least % 2))
    return np.array(
        [
            structural_similarity(a, b, win_size=window, data_range=1.0, channel_axis=2)
            for a, b in zip(rows, moved, strict=True)
        ]
    )
