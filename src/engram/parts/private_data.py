"""Differentially private records: noise for numbers, lots for categories, pixels for images.

Everything that decides the noise - bounds, categories, numbers of records and attributes - is
given beforehand, and nothing of it is taken from the records.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from engram.core import EngramError
from engram.parts.microaggregation import centroids, insensitive_mdav

Bounds = Float[np.ndarray, "2 d"]
"""The lower and the upper bound of each attribute."""


@dataclass(frozen=True)
class Account:
    """What was spent of a privacy budget, by attribute.

    Everything that is told of one record composes sequentially: its budget is the sum.
    """

    by_attribute: Mapping[str, float] = field(default_factory=dict)

    def spent(self, attribute: str, epsilon: float) -> "Account":
        """With `epsilon` more for an attribute.

        Raises:
            EngramError: It is not above 0 and finite.
        """
        check_epsilon(epsilon)
        before = self.by_attribute.get(attribute, 0.0)
        return Account({**self.by_attribute, attribute: before + epsilon})

    @property
    def by_record(self) -> float:
        """The sum over attributes."""
        return math.fsum(self.by_attribute.values())


def check_epsilon(epsilon: float) -> None:
    """Refuse a budget that is not above 0 and finite."""
    if not 0 < epsilon < math.inf:
        raise EngramError(
            f"epsilon is {epsilon}, but must be above 0 and finite",
            hint="1 is strict for a whole record; 0 would tell nothing at all",
        )


def check_bounds(bounds: Bounds) -> None:
    """Refuse bounds of which the lower is not below the upper."""
    if not np.isfinite(bounds).all() or (bounds[0] >= bounds[1]).any():
        bad = int(np.argmax(~(bounds[0] < bounds[1])))
        raise EngramError(
            f"the bounds of attribute {bad} are {bounds[0, bad]:g} and {bounds[1, bad]:g}",
            hint="the lower must be below the upper, and both finite",
        )


def clipped(
    values: Float[np.ndarray, "n d"], bounds: Bounds
) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " d"]]:
    """The values within their bounds, and how many of each attribute were not."""
    check_bounds(bounds)
    low, high = bounds
    return np.clip(values, low, high), ((values < low) | (values > high)).sum(0)


def local_laplace(
    values: Float[np.ndarray, "n d"],
    bounds: Bounds,
    epsilon: Float[np.ndarray, " d"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "n d"]:
    """Each value with noise of its own: locally private, whoever else is in the table.

        x'_ij = x_ij + Laplace(range_j / epsilon_j)

    so that one record costs sum over j of epsilon_j: with epsilon / d for each of d attributes,
    the scale is d range_j / epsilon. Values must lie within their bounds.
    """
    check_bounds(bounds)
    return values + rng.laplace(size=values.shape) * ((bounds[1] - bounds[0]) / epsilon)


def centroid_scales(
    bounds: Bounds, epsilon: Float[np.ndarray, " d"], k: int, told: int
) -> Float[np.ndarray, " d"]:
    """Scale of the Laplace noise on centroids of groups of at least k records.

    One record that changes moves one centroid by range_j / k at most. With insensitive groups it
    may change every one of them, each by one record: so all `told` centroids together move by
    told range_j / k. With told = 1, the promise holds for whoever sees one centroid, and not for
    the table of them. The table needs less noise than single records do as soon as k^2 > n.
    """
    return told * (bounds[1] - bounds[0]) / (k * epsilon)


def microaggregated_laplace(
    values: Float[np.ndarray, "n d"],
    bounds: Bounds,
    epsilon: Float[np.ndarray, " d"],
    k: int,
    rng: np.random.Generator,
    *,
    whole_table: bool,
) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"]]:
    """Means of insensitive groups with noise, in each record's place, and the groups.

    What is told by the noisy means alone is private: in which group a record lies is not, so
    whatever is kept beside them (a label) tells of it.

    Args:
        values: Within their bounds.
        bounds: Given beforehand.
        epsilon: Of each attribute.
        k: The least records in a group.
        rng: Of the noise.
        whole_table: Whether the promise is for the table of means, or for each mean on its own.
    """
    check_bounds(bounds)
    width = bounds[1] - bounds[0]
    group = insensitive_mdav((values - bounds[0]) / width, np.zeros(len(width)), k)
    groups = int(group.max()) + 1
    scale = centroid_scales(bounds, epsilon, k, groups if whole_table else 1)
    noise = rng.laplace(size=(groups, values.shape[1])) * scale
    return centroids(values, group) + noise[group], group


def kept_chance(epsilon: float, m: int) -> float:
    """Randomised response: the chance to tell the truth among m categories.

    p = e^epsilon / (e^epsilon + m - 1); each other category has the chance p / e^epsilon.
    """
    return 1 / (1 + (m - 1) * math.exp(-epsilon))


def randomised_response(
    codes: Int[np.ndarray, " n"], m: int, epsilon: float, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Each record's category, or one of the m - 1 others by lot.

    Raises:
        EngramError: A code is none of 0 ... m - 1, or epsilon is none.
    """
    check_epsilon(epsilon)
    if len(codes) and not 0 <= codes.min() <= codes.max() < m:
        raise EngramError(
            f"a record has the category {codes.max()}, but there are {m} (0 to {m - 1})",
            hint="the categories are fixed beforehand: name all that may come",
        )
    if m < 2:
        return codes.copy()
    true = rng.random(len(codes)) < kept_chance(epsilon, m)
    other = rng.integers(0, m - 1, len(codes))
    return np.where(true, codes, other + (other >= codes))


def dp_pix(
    images: Float[np.ndarray, "n height width channels"],
    block: int,
    pixels: int,
    epsilon: float,
    high: float,
    rng: np.random.Generator,
) -> Float[np.ndarray, "n height width channels"]:
    """Blocks of an image as their noisy mean: images that differ in a few pixels look alike.

    Neighbours are images of which at most m = `pixels` pixels differ, by `high` in each channel.
    Their means over b x b blocks then differ by channels m high / b^2 in all, so each gets

        Laplace(channels m high / (b^2 epsilon))

    and the whole image is epsilon-private with respect to these neighbours (Fan, 2018); with
    respect to any other image only where m is its number of pixels.

    Args:
        images: Values from 0 to `high`.
        block: Side b of a block, which divides height and width.
        pixels: m.
        epsilon: Of one image.
        high: The largest value.
        rng: Of the noise.
    """
    check_epsilon(epsilon)
    n, height, width, channels = images.shape
    if block < 1 or height % block or width % block:
        raise EngramError(
            f"blocks of {block} x {block} do not divide images of {height} x {width}",
            hint="choose a side that divides both",
        )
    cut = images.reshape(n, height // block, block, width // block, block, channels)
    means = cut.mean((2, 4))
    scale = channels * pixels * high / (block**2 * epsilon)
    noisy = means + rng.laplace(size=means.shape) * scale
    return np.repeat(np.repeat(noisy, block, 1), block, 2)
