"""Records in a protected form, and what that form promises: k-anonymity, or differential privacy.

What is protected are the features. Labels stay, record by record, unless they are included; ids,
owners and all other columns go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from engram.core import EngramError, Run, Split
from engram.parts.attributes import Attribute, attributes_of, bounds_of, chosen, with_features
from engram.parts.closeness import distances_to_table
from engram.parts.labelled import features_of, labels_of
from engram.parts.microaggregation import centroids, check_size, mdav, sizes_of_equals
from engram.parts.private_data import (
    Account,
    check_epsilon,
    clipped,
    dp_pix,
    local_laplace,
    microaggregated_laplace,
    randomised_response,
)
from engram.parts.record_shape import layout_of_records
from engram.parts.training import check_at_least, check_one_of

Mechanism = Literal["laplace", "microaggregated", "randomised-response"]
MECHANISMS: tuple[Mechanism, ...] = get_args(Mechanism)
Told = Literal["table", "centroid"]
TOLD: tuple[Told, ...] = get_args(Told)


@dataclass(frozen=True)
class ProtectedSplit:
    """Protected records with what may be said of them.

    Attributes:
        split: The records.
        promise: `kind` ("k" or "epsilon"), `value` and `sentence`.
        facts: Numbers for the log.
        account: What was spent, by attribute; empty without differential privacy.
    """

    split: Split
    promise: Mapping[str, Any]
    facts: Mapping[str, float | int | str]
    account: Account = field(default_factory=Account)

    def tell(self, run: Run) -> None:
        """Log the facts and the budget."""
        run.log(**self.facts)
        if self.account.by_attribute:
            by_attribute = {
                f"epsilon of {k}": round(e, 12) for k, e in self.account.by_attribute.items()
            }
            run.log(**by_attribute, **{"epsilon of a record": round(self.account.by_record, 12)})


def k_anonymous(
    split: Split,
    k: int,
    *,
    quasi: Sequence[str] = (),
    include_label: bool = False,
    t: float = 0.0,
    ordered: bool = False,
) -> ProtectedSplit:
    """Replace quasi-identifiers by the means of MDAV's groups.

    Args:
        split: With `features` and `label`.
        k: The least records in an equivalence class.
        quasi: Patterns of the quasi-identifiers' names; all where empty.
        include_label: Group by the label too, and give a group its commonest one.
        t: Largest distance of a group's labels from the table's, to be checked; 0: no check.
        ordered: Whether the labels are, for that distance.

    Raises:
        EngramError: k is larger than the table, or a pattern fits no attribute.
    """
    features, labels = features_of(split), labels_of(split)
    check_size(features, k)
    attributes = chosen(attributes_of(split, features.shape[1]), quasi, "quasi-identifier")
    columns = [c for a in attributes for c in a.columns]
    points, constant = standardised(features, attributes)
    if include_label:
        points = np.concatenate([points, one_hot(labels)], 1)
    group = mdav(points, k)
    made = features.copy()
    made[:, columns] = centroids(features[:, columns].astype(np.float64), group)
    if include_label:
        labels = commonest(labels, group)
    known = np.concatenate([made[:, columns], labels[:, None] if include_label else made[:, :0]], 1)
    sizes = sizes_of_equals(known)
    facts: dict[str, Any] = {
        "groups": int(group.max()) + 1,
        "equivalence classes": len(sizes),
        "smallest equivalence class": int(sizes.min()),
        "constant columns": constant,
    }
    if t:
        far = distances_to_table(group, labels, ordered=ordered)
        facts |= {"t": float(far.max()), "groups further than t": int((far > t).sum())}
    shared, quasi_identifiers = {"class_sizes": sizes}, quasi_words(attributes, features.shape[1])
    named = f"{split.name}, {k}-anonymous"
    return ProtectedSplit(
        with_features(split, made, labels, shared, named),
        {
            "kind": "k",
            "value": float(k),
            "sentence": f"k-anonymity with k = {k} on {quasi_identifiers}; "
            + _label_words(include_label),
        },
        facts,
    )


def quasi_words(attributes: Sequence[Attribute], width: int) -> str:
    """Which features are quasi-identifiers, in words."""
    if sum(len(a.columns) for a in attributes) == width:
        return "all features"
    return f"the {len(attributes)} features named as quasi-identifiers"


def _label_words(included: bool) -> str:
    return "labels are protected too" if included else "labels are kept and not protected"


def standardised(
    features: Float[np.ndarray, "n features"], attributes: Sequence[Attribute]
) -> tuple[Float[np.ndarray, "n d"], int]:
    """Numbers less their mean over their spread, categories as they are; and constant columns.

    A constant column is 0 everywhere: it tells nobody apart.
    """
    blocks, constant = [], 0
    for attribute in attributes:
        block = features[:, attribute.columns].astype(np.float64)
        flat = np.ptp(block, axis=0) == 0
        constant += int(flat.sum())
        if not attribute.words:
            block = (block - block.mean(0)) / np.where(flat, 1.0, block.std(0))
            block[:, flat] = 0
        blocks.append(block)
    return np.concatenate(blocks, 1), constant


def one_hot(labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n classes"]:
    """One column a class."""
    return np.eye(int(labels.max()) + 1)[labels]


def commonest(labels: Int[np.ndarray, " n"], group: Int[np.ndarray, " n"]) -> np.ndarray:
    """Each record's group's commonest label; the smallest of equally common ones."""
    counts = np.zeros((int(group.max()) + 1, int(labels.max()) + 1), np.int64)
    np.add.at(counts, (group, labels), 1)
    return counts.argmax(1)[group]


def private(
    split: Split,
    epsilon: float,
    rng: np.random.Generator,
    *,
    mechanism: Mechanism = "laplace",
    bounds: Sequence[str] = ("*=0:1",),
    k: int = 10,
    told: Told = "table",
    include_label: bool = False,
    classes: int = 0,
) -> ProtectedSplit:
    """Numbers with Laplace noise and categories by randomised response; the budget is shared out.

    Every attribute that is changed gets the same share of `epsilon`, the label too if included.
    Values beyond their bounds are clipped, and counted; noisy values are clipped likewise.

    Args:
        split: With `features` and `label`.
        epsilon: Of one record, all attributes together.
        rng: Of noise and lots.
        mechanism: "laplace" (each value), "microaggregated" (means of insensitive groups), or
            "randomised-response" (categories alone; numbers must not be there).
        bounds: Of numbers: entries `name=low:high`, given beforehand.
        k: The least records in a group, for "microaggregated".
        told: Whether the promise is for the table of means, or for one mean alone.
        include_label: Whether labels are changed too, by randomised response.
        classes: How many there are, if they are; 0: one more than the largest label.

    Raises:
        EngramError: epsilon is none, bounds are missing, a category is unknown, k is larger than
            the table.
    """
    check_epsilon(epsilon)
    features, labels = features_of(split), labels_of(split)
    attributes = attributes_of(split, features.shape[1])
    numbers = [a for a in attributes if not a.words]
    if mechanism == "randomised-response" and numbers:
        raise EngramError(
            f"attribute {numbers[0].name!r} is a number, but randomised-response is for categories",
            hint="use --mechanism laplace: it changes numbers by noise, categories by lot",
        )
    share = epsilon / (len(attributes) + include_label)
    account, made, beyond = Account(), features.astype(np.float64), 0
    if numbers:
        columns, ends = [a.columns[0] for a in numbers], bounds_of(numbers, bounds)
        inside, out = clipped(made[:, columns], ends)
        beyond, each = int(out.sum()), np.full(len(columns), share)
        if mechanism == "laplace":
            noisy = local_laplace(inside, ends, each, rng)
        else:
            whole = told == "table"
            noisy = microaggregated_laplace(inside, ends, each, k, rng, whole_table=whole)[0]
        made[:, columns] = np.clip(noisy, *ends)
    for attribute in attributes:
        account = account.spent(attribute.name, share)
        if attribute.words:
            m = len(attribute.words)
            codes = randomised_response(attribute.codes(features, split), m, share, rng)
            made[:, attribute.columns] = np.eye(m)[codes]
    if include_label:
        classes = classes or int(labels.max()) + 1
        labels = randomised_response(labels, classes, share, rng)
        account = account.spent("label", share)
    shared = {
        "epsilon_by_attribute": np.array(list(account.by_attribute.values())),
        "epsilon_of_record": np.array([account.by_record]),
    }
    sentence = _epsilon_words(epsilon, mechanism if numbers else "randomised-response", k, told)
    return ProtectedSplit(
        with_features(split, made, labels, shared, f"{split.name}, private"),
        {
            "kind": "epsilon",
            "value": float(epsilon),
            "sentence": f"{sentence}; {_label_words(include_label)}",
        },
        {"values beyond their bounds": beyond, "attributes": len(attributes)},
        account,
    )


def _epsilon_words(epsilon: float, mechanism: str, k: int, told: str) -> str:
    whom = {
        "laplace": "for the features of each record, whatever the others are",
        "randomised-response": "for the features of each record, whatever the others are",
        "microaggregated": f"for one record's part in the table of means of {k} or more",
    }[mechanism]
    if mechanism == "microaggregated":
        whom += ", but not for which group it lies in"
        if told == "centroid":
            whom = f"for one record's part in a single mean of {k} or more, not in all of them"
    return f"differential privacy with epsilon = {epsilon:g} {whom}"


def pixelated(
    split: Split, epsilon: float, rng: np.random.Generator, block: int, pixels: int, high: float
) -> ProtectedSplit:
    """Images by DP-Pix: noisy means of blocks.

    Args:
        split: Images as `features`, from 0 to `high`; what is beyond is clipped, and counted.
        epsilon: Of one image.
        rng: Of the noise.
        block: Side of a block.
        pixels: How many pixels of neighbouring images differ.
        high: The largest value of a pixel.
    """
    features, labels = features_of(split), labels_of(split)
    layout = layout_of_records("cnn", (), split, features.shape[1], 2)
    channels, height, width = layout.shape
    ends = np.repeat([[0.0], [float(high)]], features.shape[1], 1)
    inside, out = clipped(features.astype(np.float64), ends)
    last = layout.colours_last or channels == 1
    shape = (height, width, channels) if last else (channels, height, width)
    images = inside.reshape(-1, *shape)
    images = images if last else np.moveaxis(images, 1, -1)
    noisy = np.clip(dp_pix(images, block, pixels, epsilon, high, rng), 0, high)
    noisy = noisy if last else np.moveaxis(noisy, -1, 1)
    account = Account().spent("image", epsilon)
    whole = prod((height, width))
    shared = {"epsilon_of_record": np.array([account.by_record])}
    return ProtectedSplit(
        with_features(split, noisy.reshape(len(features), -1), labels, shared, "pixelated"),
        {
            "kind": "epsilon",
            "value": float(epsilon),
            "sentence": f"differential privacy with epsilon = {epsilon:g} for images that differ "
            f"in {pixels} of their {whole} pixels; labels are kept and not protected",
        },
        {"values beyond their bounds": int(out.sum()), "blocks": whole // block**2},
        account,
    )


Way = Literal["k-anonymity", "laplace", "microaggregated", "dp-pix"]
WAYS: tuple[Way, ...] = get_args(Way)


@dataclass(frozen=True)
class Protection:
    """How a recipe protects records before it trains on them."""

    protection: Way = "k-anonymity"
    """k-anonymity (MDAV), laplace or microaggregated (noise within bounds), dp-pix (images)."""
    k: int = 10
    """The least records in a group, for k-anonymity and microaggregated."""
    epsilon: float = 2.5
    """Budget of a record, all its attributes together, for the other three."""
    bounds: tuple[str, ...] = ("*=0:1",)
    """Lower and upper bound of numbers, known beforehand: `age=0:120`; the first that fits
    counts."""
    told: Told = "table"
    """Whether microaggregated's promise is for the table of means, or for each centroid alone."""
    include_label: bool = False
    """Whether labels are protected too; else they are kept as they are. Not for dp-pix."""
    block: int = 4
    """Side of the blocks of dp-pix, in pixels."""
    pixels: int = 16
    """How many pixels of neighbouring images differ, for dp-pix."""

    def __post_init__(self) -> None:
        check_one_of("protection", self.protection, WAYS)
        check_one_of("told", self.told, TOLD)
        for name in ("k", "block", "pixels"):
            check_at_least(name, getattr(self, name), 1, "1 is the least that works")
        check_epsilon(self.epsilon)

    def protect(self, split: Split, run: Run) -> ProtectedSplit:
        """The records in their protected form."""
        rng = run.stream("protection")
        if self.protection == "k-anonymity":
            return k_anonymous(split, self.k, include_label=self.include_label)
        if self.protection == "dp-pix":
            return pixelated(split, self.epsilon, rng, self.block, self.pixels, high=1.0)
        return private(
            split,
            self.epsilon,
            rng,
            mechanism=self.protection,
            bounds=self.bounds,
            k=self.k,
            told=self.told,
            include_label=self.include_label,
        )
